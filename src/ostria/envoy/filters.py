"""The filters of listeners and connections: what is found out of the first bytes, and what then handles the rest."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any as Untyped
from typing import NamedTuple

from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.cors.v3.cors_pb2 import Cors
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy, UpstreamConnectMode
from envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2 import HeaderMutation

from ostria.envoy.access_log import LogFile, access_log
from ostria.envoy.dynamic_dns import REQUEST_FILTER
from ostria.envoy.peers import HEARS_PEER, IGNORES_PEER, TELLING_ROUTER
from ostria.envoy.route_filters import (
    CORS_FILTER,
    FAULT_FILTER,
    MESH_ALPN_CONFIG,
    MESH_ALPN_FILTER,
    SESSION_CONFIG,
    SESSION_FILTER,
)
from ostria.envoy.wire import duration, packed
from ostria.mesh.settings import PathNormalization

# What the inspectors find in plaintext HTTP (Envoy: HTTP inspector).
PLAINTEXT_HTTP = ("http/1.1", "h2c")

_HTTP_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
TCP_PROXY = "envoy.filters.network.tcp_proxy"

_SERVER_NAME = "istio-envoy"


class Side(enum.Enum):
    """Who a proxy answers: its own workload, others on its workload's behalf, or the world at a gateway."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    GATEWAY = "gateway"


class RequestGuards(NamedTuple):
    """What decides about requests: filters that see them before all others, and headers that these alone may set.

    A request that brings such a header loses it before its route is chosen.
    """

    filters: tuple[HttpFilter, ...] = ()
    own_headers: tuple[str, ...] = ()


NO_GUARDS = RequestGuards()


# --- listener filters ---------------------------------------------------------------------------------------------


def _listener_filter(name: str, config: Untyped) -> ListenerFilter:
    return ListenerFilter(name=f"envoy.filters.listener.{name}", typed_config=packed(config))


ORIGINAL_DESTINATION = _listener_filter("original_dst", OriginalDst())
TLS_INSPECTOR = _listener_filter("tls_inspector", TlsInspector())
HTTP_INSPECTOR = _listener_filter("http_inspector", HttpInspector())


def except_ports(inspector: ListenerFilter, ports: Collection[int]) -> Untyped:
    """The inspector, not run on these ports: where nothing is to be found out, nobody should wait for it."""
    return _disabled(inspector, _ports(ports)) if ports else inspector


def only_ports(inspector: ListenerFilter, ports: Collection[int]) -> Untyped:
    """The inspector, run on these ports only; there must be one at least."""
    return _disabled(inspector, ListenerFilterChainMatchPredicate(not_match=_ports(ports)))


def _disabled(inspector: ListenerFilter, where: Untyped) -> Untyped:
    message = ListenerFilter()
    message.CopyFrom(inspector)
    message.filter_disabled.CopyFrom(where)
    return message


def _ports(ports: Collection[int]) -> Untyped:
    rules = []
    for port in sorted(ports):
        rule = ListenerFilterChainMatchPredicate()
        rule.destination_port_range.start = port
        rule.destination_port_range.end = port + 1  # Exclusive.
        rules.append(rule)
    if len(rules) == 1:
        return rules[0]
    message = ListenerFilterChainMatchPredicate()
    message.or_match.rules.extend(rules)
    return message


# --- network filters ----------------------------------------------------------------------------------------------


class Connects(enum.Enum):
    """When the server of bytes that are passed on is connected: at once, after the handshake, at the first byte."""

    AT_ONCE = UpstreamConnectMode.IMMEDIATE
    AFTER_TLS = UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE
    WHEN_SPOKEN_TO = UpstreamConnectMode.ON_DOWNSTREAM_DATA

    def apply(self, proxy: TcpProxy) -> None:
        """Have what passes bytes on connect to its server then."""
        if self is not Connects.AT_ONCE:
            proxy.upstream_connect_mode = self.value
            proxy.max_early_data_bytes.value = _EARLY_DATA


# What a client may say before the server is connected, in bytes; then it has to wait.
_EARLY_DATA = 65536


def tcp_proxy(
    cluster: str,
    *,
    log: LogFile | None = None,
    idle_timeout: int | None = None,
    connects: Connects = Connects.AT_ONCE,
) -> Filter:
    """Pass on bytes to a cluster; `idle_timeout` (ms) ends connections on which nothing comes, None is Envoy's own."""
    proxy = TcpProxy(stat_prefix=f"{cluster};", cluster=cluster)
    connects.apply(proxy)
    if idle_timeout is not None:
        proxy.idle_timeout.CopyFrom(duration(idle_timeout))
    if log is not None:
        proxy.access_log.append(access_log(log))
    return Filter(name=TCP_PROXY, typed_config=packed(proxy))


def http_by_name(
    side: Side,
    stat_prefix: str,
    route_name: str,
    *,
    log: LogFile | None = None,
    grpc_web: bool = False,
    looks_up: bool = False,
    paths: PathNormalization = PathNormalization.BASE,
    http10: bool = False,
    peers: bool = False,
    guards: RequestGuards = NO_GUARDS,
) -> Filter:
    """Read requests and route them by the route configuration of this name, which comes over xDS.

    `looks_up` says that some of its clusters have the names looked up that requests are for. HTTP/1.0 is answered
    with 426, unless `http10`. `peers` says that whoever calls has shown a certificate of the mesh. `guards` see
    requests before all other filters do.
    """
    manager = _manager(side, stat_prefix, log, paths, guards, grpc_web=grpc_web, peers=peers)
    if http10:
        manager.http_protocol_options.accept_http_10 = True
    if looks_up:
        manager.http_filters.insert(len(manager.http_filters) - 1, REQUEST_FILTER)
    manager.rds.route_config_name = route_name
    source = manager.rds.config_source
    source.ads.SetInParent()
    source.initial_fetch_timeout.SetInParent()
    source.resource_api_version = 2  # V3
    return Filter(name=_HTTP_CONNECTION_MANAGER, typed_config=packed(manager))


def http_to_workload(
    stat_prefix: str,
    route_name: str,
    virtual_host: Untyped,
    *,
    log: LogFile | None = None,
    grpc_web: bool = False,
    paths: PathNormalization = PathNormalization.BASE,
    peers: bool = False,
    http10: bool = False,
    guards: RequestGuards = NO_GUARDS,
) -> Filter:
    """Read requests and pass them on to the workload. `peers`: clients have shown a certificate of the mesh.

    HTTP/1.0 is answered with 426, unless `http10`. `guards` see requests before all other filters do.
    """
    manager = _manager(Side.INBOUND, stat_prefix, log, paths, guards, grpc_web=grpc_web, peers=peers)
    if http10:
        manager.http_protocol_options.accept_http_10 = True
    routes = RouteConfiguration(name=route_name, virtual_hosts=[virtual_host])
    routes.validate_clusters.value = False
    manager.route_config.CopyFrom(routes)
    return Filter(name=_HTTP_CONNECTION_MANAGER, typed_config=packed(manager))


def _manager(
    side: Side,
    stat_prefix: str,
    log: LogFile | None,
    paths: PathNormalization,
    guards: RequestGuards,
    *,
    grpc_web: bool,
    peers: bool,
) -> Untyped:
    manager = HttpConnectionManager()
    manager.CopyFrom(_MANAGERS[side])
    _normalize(manager, paths)
    manager.stat_prefix = f"{stat_prefix};"
    if log is not None:
        manager.access_log.append(access_log(log))
    if peers:
        manager.http_filters.append(HEARS_PEER)
    elif side is not Side.OUTBOUND:
        manager.early_header_mutation_extensions.append(IGNORES_PEER)
    manager.http_filters.extend(guards.filters)
    if guards.own_headers:
        manager.early_header_mutation_extensions.append(_without(guards.own_headers))
    if grpc_web:
        manager.http_filters.append(_GRPC_WEB)
    manager.http_filters.extend(_HTTP_FILTERS[side])
    return manager


def _normalize(manager: Untyped, paths: PathNormalization) -> None:
    """The path that policies and routes compare is the path that the workload gets (istio.io: pathNormalization)."""
    manager.normalize_path.value = paths is not PathNormalization.NONE
    if paths in (PathNormalization.MERGE_SLASHES, PathNormalization.DECODE_AND_MERGE_SLASHES):
        manager.merge_slashes = True
    if paths is PathNormalization.DECODE_AND_MERGE_SLASHES:
        manager.path_with_escaped_slashes_action = HttpConnectionManager.UNESCAPE_AND_FORWARD
    else:
        manager.path_with_escaped_slashes_action = HttpConnectionManager.KEEP_UNCHANGED


def _without(headers: tuple[str, ...]) -> TypedExtensionConfig:
    config = HeaderMutation()
    for header in headers:
        config.mutations.add(remove=header)
    return TypedExtensionConfig(name="envoy.http.early_header_mutation.header_mutation", typed_config=packed(config))


def _http_filter(name: str, config: Untyped) -> HttpFilter:
    return HttpFilter(name=name, typed_config=packed(config))


_GRPC_WEB = _http_filter("envoy.filters.http.grpc_web", GrpcWeb())
_SESSION = HttpFilter(name=SESSION_FILTER, typed_config=SESSION_CONFIG)
_MESH_ALPN = HttpFilter(name=MESH_ALPN_FILTER, typed_config=MESH_ALPN_CONFIG, disabled=True)
_CORS = _http_filter(CORS_FILTER, Cors())
_FAULT = _http_filter(FAULT_FILTER, HTTPFault())
_ROUTER = _http_filter("envoy.filters.http.router", Router())

_HTTP_FILTERS = {
    Side.OUTBOUND: (_FAULT, _CORS, _MESH_ALPN, _SESSION, TELLING_ROUTER),
    Side.INBOUND: (_FAULT, _CORS, _ROUTER),
    Side.GATEWAY: (_CORS, _FAULT, _MESH_ALPN, _SESSION, TELLING_ROUTER),
}


def _prototype(side: Side) -> Untyped:
    manager = HttpConnectionManager(codec_type=HttpConnectionManager.AUTO, proxy_100_continue=True)
    manager.use_remote_address.value = side is Side.GATEWAY
    manager.upgrade_configs.add(upgrade_type="websocket")
    # A stream may be silent for as long as it likes; only its route's timeout ends it.
    manager.stream_idle_timeout.SetInParent()
    if side is Side.OUTBOUND:
        # A workload cannot vouch for its own identity: what it says of it is dropped, and the server's proxy says it.
        manager.forward_client_cert_details = HttpConnectionManager.SANITIZE
        return manager
    manager.server_name = _SERVER_NAME
    details = manager.set_current_client_cert_details
    details.subject.value = True
    details.uri = True
    details.dns = True
    if side is Side.GATEWAY:
        manager.forward_client_cert_details = HttpConnectionManager.SANITIZE_SET
        details.cert = True
    else:
        manager.forward_client_cert_details = HttpConnectionManager.APPEND_FORWARD
    return manager


_MANAGERS = {side: _prototype(side) for side in Side}
