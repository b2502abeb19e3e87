"""Where a gateway takes traffic: one listener for each address and port that something opens on it.

Plain HTTP servers of one port share one route configuration, `http.<port>`; each server that terminates TLS has a
filter chain by server name and a route configuration of its own, `https.<port>.<port name>.<gateway>.<namespace>`.
What is not read is passed on: TCP as it is, TLS by server name, opened or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from ostria.envoy.access import connection_access
from ostria.envoy.access_log import LogFile, unmatched_access_log
from ostria.envoy.addresses import ANY_V4
from ostria.envoy.connections import connection_filters
from ostria.envoy.filters import NO_GUARDS, TLS_INSPECTOR, RequestGuards, Side, http_by_name
from ostria.envoy.listeners import bind, listener_name
from ostria.envoy.server_first import Caller, Early, early
from ostria.envoy.tls import HTTP_ALPN, MESH_ALPN, gateway_server
from ostria.envoy.wire import encode
from ostria.mesh.model import OPEN, Authorization, GatewayChain, GatewayListener, ServerTls
from ostria.mesh.settings import PathNormalization

# What a server offers that opens the mesh's mutual TLS and reads no requests.
_BYTES_ALPN = ("istio",)


def gateway_listener(
    listener: GatewayListener,
    *,
    trust_domains: Sequence[str] = ("cluster.local",),
    ipv6: bool = True,
    log: LogFile | None = None,
    looks_up: bool = False,
    paths: PathNormalization = PathNormalization.BASE,
    http10: bool = False,
    guards: RequestGuards = NO_GUARDS,
    access: Authorization = OPEN,
) -> bytes:
    """The listener of one port; there must be a chain. `looks_up` says that requests' names may be looked up.

    `guards` decide who may, of requests, and `access` of bytes that are passed on unread.
    """
    host = listener.bind or ANY_V4
    name = listener_name(host, listener.port)
    message = Listener(name=name, traffic_direction=TrafficDirection.Value("OUTBOUND"))
    bind(message, host, listener.port, ipv6=ipv6)
    if log is not None:
        message.access_log.append(unmatched_access_log(log))
    message.filter_chains.extend(
        _chain(name, chain, trust_domains, log, paths, guards, access, looks_up=looks_up, http10=http10)
        for chain in listener.chains
    )
    if any(chain.encrypted for chain in listener.chains):
        message.listener_filters.append(TLS_INSPECTOR)
    return encode(message)


def _chain(
    listener: str,
    chain: GatewayChain,
    trust_domains: Sequence[str],
    log: LogFile | None,
    paths: PathNormalization,
    guards: RequestGuards,
    access: Authorization,
    *,
    looks_up: bool,
    http10: bool,
) -> FilterChain:
    if chain.route is not None:
        before = _before(access, chain)
        passed_on = connection_filters(chain.route, log=log, connects=before.connects)
        message = FilterChain(filters=[*before.filters, *connection_access(access), *passed_on])
    else:
        prefix = f"outbound_{listener}"
        requests = http_by_name(
            Side.GATEWAY,
            prefix,
            chain.table,
            log=log,
            grpc_web=chain.grpc_web,
            looks_up=looks_up,
            paths=paths,
            http10=http10,
            peers=chain.tls is not None and chain.tls.mode is ServerTls.ISTIO_MUTUAL,
            guards=guards,
        )
        message = FilterChain(filters=[requests])
    if chain.tls is not None:
        mesh_bytes = chain.tls.mode is ServerTls.ISTIO_MUTUAL and not chain.table
        alpn = _BYTES_ALPN if mesh_bytes else HTTP_ALPN
        message.transport_socket.CopyFrom(gateway_server(chain.tls, alpn, trust_domains))
    if chain.encrypted:
        message.filter_chain_match.transport_protocol = "tls"
        message.filter_chain_match.server_names.extend(chain.server_names)
    if chain.mesh_only:
        message.filter_chain_match.application_protocols.extend(MESH_ALPN)
    return message


def _before(access: Authorization, chain: GatewayChain) -> Early:
    """What decides about connections before anybody has spoken; TLS that is passed on begins with the client's word."""
    if chain.tls is None:
        return Early() if chain.encrypted else early(access, Caller.NOBODY, fixed=True)
    return early(access, Caller.PEER if chain.tls.mode is ServerTls.ISTIO_MUTUAL else Caller.PERHAPS, fixed=True)
