"""Where a gateway takes traffic: one listener for each address and port that its Gateways name.

Plain HTTP servers of one port share one route configuration, `http.<port>`; each server that terminates TLS has a
filter chain by server name and a route configuration of its own, `https.<port>.<port name>.<gateway>.<namespace>`.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from ostria.envoy.access_log import LogFile, unmatched_access_log
from ostria.envoy.addresses import ANY_V4
from ostria.envoy.clusters import BLACK_HOLE
from ostria.envoy.filters import TLS_INSPECTOR, Side, http_by_name, tcp_proxy
from ostria.envoy.listeners import bind, listener_name
from ostria.envoy.tls import HTTP_ALPN, gateway_server
from ostria.envoy.wire import encode
from ostria.mesh.gateways import is_http_server, route_table
from ostria.mesh.model import GatewayListener, GatewayServer


def gateway_listener(
    listener: GatewayListener,
    *,
    trust_domains: Sequence[str] = ("cluster.local",),
    ipv6: bool = True,
    log: LogFile | None = None,
) -> bytes:
    """The listener of one port. Of two servers with the same server name the first has it."""
    host = listener.bind or ANY_V4
    message = Listener(name=listener_name(host, listener.port), traffic_direction=TrafficDirection.Value("OUTBOUND"))
    bind(message, host, listener.port, ipv6=ipv6)
    if log is not None:
        message.access_log.append(unmatched_access_log(log))
    secure = [server for server in listener.servers if server.tls is not None]
    taken: set[str] = set()
    for server in secure:
        names = [name for name in _server_names(server) if name not in taken]
        taken.update(names)
        if names:
            message.filter_chains.append(_secure_chain(listener, server, names, trust_domains, log))
    if secure:
        message.listener_filters.append(TLS_INSPECTOR)
    plain = [server for server in listener.servers if server.tls is None and is_http_server(server)]
    if plain:
        stat_prefix = f"outbound_{listener_name(host, listener.port)}"
        http = http_by_name(Side.GATEWAY, stat_prefix, route_table(plain[0]), log=log)
        message.filter_chains.append(FilterChain(filters=[http]))
    if not message.filter_chains:
        # Envoy takes no listener without a chain. What cannot be served yet is closed, not left unanswered.
        message.filter_chains.append(FilterChain(filters=[tcp_proxy(BLACK_HOLE)]))
    return encode(message)


def _secure_chain(
    listener: GatewayListener,
    server: GatewayServer,
    names: Sequence[str],
    trust_domains: Sequence[str],
    log: LogFile | None,
) -> FilterChain:
    assert server.tls is not None
    if is_http_server(server):
        stat_prefix = f"outbound_{listener_name(listener.bind or ANY_V4, listener.port)}"
        chain = FilterChain(filters=[http_by_name(Side.GATEWAY, stat_prefix, route_table(server), log=log)])
        chain.transport_socket.CopyFrom(gateway_server(server.tls, HTTP_ALPN, trust_domains))
    else:
        chain = FilterChain(filters=[tcp_proxy(BLACK_HOLE)])
    chain.filter_chain_match.transport_protocol = "tls"
    chain.filter_chain_match.server_names.extend(name for name in names if name != "*")
    return chain


def _server_names(server: GatewayServer) -> list[str]:
    """The names that clients ask for; "*" alone where the server takes every name."""
    names = list(dict.fromkeys(host for _, host in server.hosts))
    return ["*"] if "*" in names else names
