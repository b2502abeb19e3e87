"""What a workload's proxy lets in: the listener `virtualInbound`, a filter chain for each way to call each port.

Which chain takes a connection follows from three things that the first bytes show: whether it is TLS, which protocols
it offers if it is, and whether it is HTTP if it is not. The tables below hold every mode's ways, as Istio has them;
a connection that fits none is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any as Untyped
from typing import NamedTuple

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from ostria.envoy.access import connection_access
from ostria.envoy.access_log import LogFile, unmatched_access_log
from ostria.envoy.addresses import ANY_V4, INBOUND_PORT
from ostria.envoy.clusters import INBOUND_PASSTHROUGH, inbound_name
from ostria.envoy.filters import (
    HTTP_INSPECTOR,
    NO_GUARDS,
    ORIGINAL_DESTINATION,
    PLAINTEXT_HTTP,
    TLS_INSPECTOR,
    RequestGuards,
    except_ports,
    http_to_workload,
    only_ports,
    tcp_proxy,
)
from ostria.envoy.listeners import DETECTION_TIMEOUT, apply_detection, bind, black_hole_chain, listener_name
from ostria.envoy.routes import inbound_virtual_host
from ostria.envoy.server_first import Caller, Early, early
from ostria.envoy.tls import HTTP_ALPN, MESH_ALPN, MESH_HTTP_ALPN, gateway_server, mesh_server
from ostria.envoy.wire import encode
from ostria.mesh.model import OPEN, Authorization, Handshakes, Inbound, InboundPort, MutualTls, Protocol
from ostria.mesh.settings import PathNormalization

VIRTUAL_INBOUND = "virtualInbound"
_CATCH_ALL_HTTP = f"{VIRTUAL_INBOUND}-catchall-http"
BOUND = "inbound_"
"""What begins the names of listeners for ports that capture brings nothing to."""

_BLACK_HOLE_CHAIN = f"{VIRTUAL_INBOUND}-blackhole"

_TLS, _RAW = "tls", "raw_buffer"


class _Way(NamedTuple):
    """One way to call a port: what is matched, whether mutual TLS is terminated, and whether requests are read."""

    http: bool
    terminate: bool
    transport: str = ""
    offers: tuple[str, ...] = ()


_MUTUAL_HTTP = _Way(http=True, terminate=True, transport=_TLS)
_MUTUAL_TCP = _Way(http=False, terminate=True, transport=_TLS)
_OWN_TLS = _Way(http=False, terminate=False, transport=_TLS)  # The application's own TLS, which only it can read.
_DETECTED_HTTP = _Way(http=True, terminate=False, transport=_RAW, offers=PLAINTEXT_HTTP)

_HTTP_WAYS = {
    MutualTls.STRICT: (_MUTUAL_HTTP,),
    MutualTls.PERMISSIVE: (_MUTUAL_HTTP._replace(offers=MESH_ALPN), _Way(http=True, terminate=False, transport=_RAW)),
    MutualTls.DISABLE: (_Way(http=True, terminate=False),),
}
_TCP_WAYS = {
    MutualTls.STRICT: (_MUTUAL_TCP,),
    MutualTls.PERMISSIVE: (
        _MUTUAL_TCP._replace(offers=MESH_ALPN),
        _Way(http=False, terminate=False, transport=_RAW),
        _OWN_TLS,
    ),
    MutualTls.DISABLE: (_Way(http=False, terminate=False),),
}
_AUTO_WAYS = {
    MutualTls.STRICT: (_MUTUAL_HTTP._replace(offers=MESH_HTTP_ALPN), _MUTUAL_TCP),
    MutualTls.PERMISSIVE: (
        _MUTUAL_HTTP._replace(offers=MESH_HTTP_ALPN),
        _DETECTED_HTTP,
        _MUTUAL_TCP._replace(offers=("istio",)),
        _Way(http=False, terminate=False, transport=_RAW),
        _OWN_TLS,
    ),
    # Envoy compares the transport first and never comes back from it, so a port's ways name it all or not at all. What
    # a TLS client offers is no sign of plaintext, so all of them do.
    MutualTls.DISABLE: (_DETECTED_HTTP, _Way(http=False, terminate=False, transport=_RAW), _OWN_TLS),
}


def virtual_inbound(
    inbound: Inbound,
    *,
    trust_domains: Sequence[str] = ("cluster.local",),
    ipv6: bool = True,
    log: LogFile | None = None,
    detection_timeout: int = DETECTION_TIMEOUT,
    paths: PathNormalization = PathNormalization.BASE,
    guards: RequestGuards = NO_GUARDS,
    access: Authorization = OPEN,
    handshakes: Handshakes = Handshakes(),  # noqa: B008 - frozen.
    http10: bool = False,
) -> bytes:
    """All that is sent to a workload. Clients that take part in mutual TLS must come from one of the trust domains.

    `guards` decide who may, of requests, and `access` of bytes that are passed on unread. HTTP/1.0 is read where
    `http10` says so.
    """
    listener = Listener(name=VIRTUAL_INBOUND, traffic_direction=TrafficDirection.Value("INBOUND"))
    bind(listener, ANY_V4, INBOUND_PORT, ipv6=ipv6)
    apply_detection(listener, detection_timeout)
    if log is not None:
        listener.access_log.append(unmatched_access_log(log))
    offers = {True: HTTP_ALPN, False: ("istio",)}
    servers = {http: mesh_server(alpn, trust_domains, handshakes) for http, alpn in offers.items()}
    ports = {port.port: port for port in inbound.ports}
    unnamed = {
        number: InboundPort(number, Protocol.AUTO, mode, ())
        for number, mode in inbound.ports_tls
        if number not in ports
    }
    default = InboundPort(0, Protocol.AUTO, inbound.default, ())
    listener.filter_chains.append(black_hole_chain(_BLACK_HOLE_CHAIN, INBOUND_PORT))
    for port, passthrough in (
        (default, True),
        *((port, True) for _, port in sorted(unnamed.items())),
        *((port, False) for _, port in sorted(ports.items())),
    ):
        for way in _ways(port):
            listener.filter_chains.append(
                _chain(port, way, servers, log, paths, guards, access, passthrough=passthrough, http10=http10)
            )
    listener.listener_filters.append(ORIGINAL_DESTINATION)
    listener.listener_filters.extend(_inspectors(default, (*unnamed.values(), *ports.values())))
    return encode(listener)


def bound_name(port: InboundPort) -> str:
    """The name of the listener of a port that capture brings nothing to."""
    return f"{BOUND}{listener_name(port.bind, port.port)}"


def bound_inbound(whole: bytes, port: InboundPort) -> bytes:
    """What `virtualInbound` would do with connections to one port, as a listener that clients connect to themselves."""
    listener = Listener.FromString(whole)
    own = [chain for chain in listener.filter_chains if chain.filter_chain_match.destination_port.value == port.port]
    filters = [each for each in listener.listener_filters if each.name != ORIGINAL_DESTINATION.name]
    listener.name = bound_name(port)
    listener.ClearField("additional_addresses")
    bind(listener, port.bind, port.port, ipv6=False)
    for chain in own:
        chain.filter_chain_match.ClearField("destination_port")
    for field, kept in (("filter_chains", own), ("listener_filters", filters)):
        listener.ClearField(field)
        getattr(listener, field).extend(kept)
    return encode(listener)


def _ways(port: InboundPort) -> tuple[_Way, ...]:
    if port.tls is not None:
        return (_Way(http=_reads(port), terminate=True, transport=_TLS),)
    if port.protocol is Protocol.AUTO:
        return _AUTO_WAYS[port.mutual_tls]
    return (_HTTP_WAYS if port.protocol.is_http else _TCP_WAYS)[port.mutual_tls]


def _reads(port: InboundPort) -> bool:
    """Whether requests are what comes out of the TLS that a Sidecar opens."""
    return port.protocol.is_http or port.protocol is Protocol.HTTPS


def _chain(
    port: InboundPort,
    way: _Way,
    servers: dict[bool, Untyped],
    log: LogFile | None,
    paths: PathNormalization,
    guards: RequestGuards,
    access: Authorization,
    *,
    passthrough: bool,
    http10: bool,
) -> FilterChain:
    cluster = INBOUND_PASSTHROUGH if passthrough else inbound_name(port.port)
    name = listener_name(ANY_V4, port.port)
    stat_prefix = cluster if passthrough else f"inbound_{name}"
    if way.http:
        http = http_to_workload(
            stat_prefix,
            cluster,
            inbound_virtual_host(port.port, _operation(port), cluster),
            log=log,
            grpc_web=port.protocol is Protocol.GRPC_WEB,
            paths=paths,
            peers=way.terminate and port.tls is None,
            http10=http10,
            guards=guards,
        )
        chain = FilterChain(filters=[http])
    else:
        # The application's own TLS is what a client begins with.
        speaks_first = way.transport == _TLS and not way.terminate
        before = Early() if speaks_first else early(access, _caller(port, way), fixed=bool(port.endpoint))
        passed_on = tcp_proxy(cluster, log=log, idle_timeout=port.idle_timeout, connects=before.connects)
        chain = FilterChain(filters=[*before.filters, *connection_access(access), passed_on])
    if passthrough:
        chain.name = _CATCH_ALL_HTTP if way.http else VIRTUAL_INBOUND
    else:
        chain.name = name
    match = chain.filter_chain_match
    match.transport_protocol = way.transport
    match.application_protocols.extend(way.offers)
    if http10 and way.offers == PLAINTEXT_HTTP:
        match.application_protocols.append("http/1.0")
    if port.port:
        match.destination_port.value = port.port
    if port.tls is not None:
        chain.transport_socket.CopyFrom(gateway_server(port.tls, HTTP_ALPN if way.http else (), ()))
    elif way.terminate:
        chain.transport_socket.CopyFrom(servers[way.http])
    return chain


def _caller(port: InboundPort, way: _Way) -> Caller:
    if not way.terminate:
        return Caller.NOBODY
    return Caller.PEER if port.tls is None else Caller.PERHAPS


def _operation(port: InboundPort) -> str:
    """What traces call requests to this port: its first service, or just the port."""
    if port.services:
        host, _, number = port.services[0]
        return f"{host}:{number}/*"
    return f":{port.port}/*"


def _inspectors(default: InboundPort, ports: Sequence[InboundPort]) -> list[Untyped]:
    """The inspectors, on those ports whose ways they tell apart. TLS first: what it recognises is not HTTP."""
    found = []
    for inspector, wanted in ((TLS_INSPECTOR, _wants_tls), (HTTP_INSPECTOR, _wants_http)):
        if wanted(default):
            found.append(except_ports(inspector, [port.port for port in ports if not wanted(port)]))
        elif some := [port.port for port in ports if wanted(port)]:
            found.append(only_ports(inspector, some))
    return found


def _wants_tls(port: InboundPort) -> bool:
    return any(way.transport == _TLS for way in _ways(port))


def _wants_http(port: InboundPort) -> bool:
    return any(way.offers == PLAINTEXT_HTTP for way in _ways(port))
