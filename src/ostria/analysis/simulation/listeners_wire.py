"""Listeners, read from a Listener's bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Untyped

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChainMatch
from envoy.config.listener.v3.listener_pb2 import Listener as ListenerMessage
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext

from ostria.analysis.simulation.clusters_wire import certificates_of, roots_of
from ostria.analysis.simulation.model import (
    Chain,
    ChainRule,
    Http,
    Inspector,
    Listener,
    PortRule,
    ServerTls,
    Target,
    Tcp,
)
from ostria.analysis.simulation.rbac_wire import guards
from ostria.analysis.simulation.routes_wire import table
from ostria.analysis.simulation.token_gates import TokenGate
from ostria.analysis.simulation.tokens_wire import token_gate

_HTTP, _TCP, _TOKENS = ".HttpConnectionManager", ".TcpProxy", ".JwtAuthentication"


def listener(body: bytes) -> Listener:
    """An encoded Listener."""
    message = ListenerMessage.FromString(body)
    places = [message.address, *(each.address for each in message.additional_addresses)]
    default = message.default_filter_chain if message.HasField("default_filter_chain") else None
    return Listener(
        name=message.name,
        addresses=tuple(
            (place.socket_address.address, place.socket_address.port_value)
            for place in places
            if place.HasField("socket_address")
        ),
        bound=not message.HasField("bind_to_port") or message.bind_to_port.value,
        direction=TrafficDirection.Name(message.traffic_direction),
        use_original_dst=message.use_original_dst.value,
        inspectors=tuple(map(_inspector, message.listener_filters)),
        chains=tuple(map(_chain, message.filter_chains)),
        default=_chain(default) if default is not None else None,
    )


def _inspector(message: Untyped) -> Inspector:
    kind = _snake(message.typed_config.type_url.rpartition(".")[2]) or message.name.rpartition(".")[2]
    disabled = _port_rule(message.filter_disabled) if message.HasField("filter_disabled") else None
    return Inspector(kind, disabled)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")


def _port_rule(message: Untyped) -> PortRule:
    kind = message.WhichOneof("rule")
    if kind == "destination_port_range":
        return PortRule("range", message.destination_port_range.start, message.destination_port_range.end)
    if kind == "not_match":
        return PortRule("not", rules=(_port_rule(message.not_match),))
    if kind in ("or_match", "and_match"):
        rules = getattr(message, kind).rules
        return PortRule(kind.removesuffix("_match"), rules=tuple(map(_port_rule, rules)))
    return PortRule("any")


def _chain(message: Untyped) -> Chain:
    names = [each.typed_config.type_url for each in message.filters]
    last = message.filters[-1].typed_config if names else None
    handler: Http | Tcp | None = None
    if last is not None and last.type_url.endswith(_HTTP):
        handler = _http(HttpConnectionManager.FromString(last.value))
    elif last is not None and last.type_url.endswith(_TCP):
        handler = _tcp(TcpProxy.FromString(last.value))
    return Chain(
        name=message.name,
        rule=_rule(message.filter_chain_match),
        tls=_server_tls(message.transport_socket) if message.HasField("transport_socket") else None,
        handler=handler,
        before=tuple(each.name for each in message.filters[:-1]),
        guards=guards(message.filters),
    )


def _rule(message: Untyped) -> ChainRule:
    return ChainRule(
        port=message.destination_port.value,
        prefixes=_prefixes(message.prefix_ranges),
        server_names=tuple(message.server_names),
        transport=message.transport_protocol,
        protocols=tuple(message.application_protocols),
        direct_source_prefixes=_prefixes(message.direct_source_prefix_ranges),
        source_type=FilterChainMatch.ConnectionSourceType.Name(message.source_type),
        source_prefixes=_prefixes(message.source_prefix_ranges),
        source_ports=tuple(message.source_ports),
    )


def _prefixes(ranges: Iterable[Untyped]) -> tuple[tuple[str, int], ...]:
    return tuple((each.address_prefix, each.prefix_len.value) for each in ranges)


def _server_tls(socket: Untyped) -> ServerTls | None:
    if not socket.typed_config.type_url.endswith(".DownstreamTlsContext"):
        return None
    context = DownstreamTlsContext.FromString(socket.typed_config.value)
    common = context.common_tls_context
    return ServerTls(
        certificates=certificates_of(common),
        roots=roots_of(common),
        require_certificate=context.require_client_certificate.value,
        alpn=tuple(common.alpn_protocols),
    )


def _http(message: Untyped) -> Http:
    inline = table(message.route_config) if message.HasField("route_config") else None
    strip = message.WhichOneof("strip_port_mode")
    if message.strip_matching_host_port:
        strip = "strip_matching_host_port"
    return Http(
        table=inline.name if inline else message.rds.route_config_name,
        inline=inline,
        normalize_path=message.normalize_path.value,
        merge_slashes=message.merge_slashes,
        escaped_slashes=HttpConnectionManager.PathWithEscapedSlashesAction.Name(
            message.path_with_escaped_slashes_action
        ),
        strip_port=strip or "",
        use_remote_address=message.use_remote_address.value,
        filters=tuple(each.name for each in message.http_filters),
        guards=guards(message.http_filters),
        codec=HttpConnectionManager.CodecType.Name(message.codec_type),
        tokens=next(map(_tokens, (each for each in message.http_filters if _is_token_filter(each))), None),
    )


def _is_token_filter(message: Untyped) -> bool:
    return bool(message.typed_config.type_url.endswith(_TOKENS))


def _tokens(message: Untyped) -> TokenGate | None:
    return token_gate(message.typed_config.value)


def _tcp(message: Untyped) -> Tcp:
    targets: tuple[Target, ...] = (Target(message.cluster),)
    if message.WhichOneof("cluster_specifier") == "weighted_clusters":
        targets = tuple(Target(each.name, each.weight) for each in message.weighted_clusters.clusters)
    return Tcp(targets, tunnel=message.HasField("tunneling_config"))
