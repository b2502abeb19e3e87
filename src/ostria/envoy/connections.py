"""Connections that are passed on unread: what a route of them is in a listener.

    ConnectionRoute -> connection_chain() -> FilterChain(match on addresses and server names, tcp_proxy to clusters)

Whoever matches on server names has to put the TLS inspector before the chains.
"""

from __future__ import annotations

from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from ostria.envoy.access_log import LogFile, access_log
from ostria.envoy.addresses import cidr_range
from ostria.envoy.dynamic_dns import server_name_filter
from ostria.envoy.filters import TCP_PROXY, Connects
from ostria.envoy.origins import config_path
from ostria.envoy.wire import duration, metadata, packed
from ostria.mesh.model import ConnectionRoute
from ostria.mesh.routes import bracketed


def connection_chain(route: ConnectionRoute, *, name: str = "", log: LogFile | None = None) -> FilterChain:
    """A filter chain for the connections that a route takes; without a match where it takes all."""
    chain = FilterChain(name=name, filters=connection_filters(route, log=log))
    match = chain.filter_chain_match
    if route.server_names:
        match.server_names.extend(route.server_names)
    if route.subnets:
        match.prefix_ranges.extend(map(cidr_range, route.subnets))
    if route.takes_all:
        chain.ClearField("filter_chain_match")
    if route.origin is not None and route.field:
        chain.metadata.MergeFromString(metadata({"istio": {"config": config_path(route.origin)}}))
    return chain


def connection_filters(
    route: ConnectionRoute, *, log: LogFile | None = None, connects: Connects = Connects.AT_ONCE
) -> list[Filter]:
    """What is done with a route's connections."""
    looks_up = [server_name_filter(route.looks_up)] if route.looks_up and route.server_names else []
    return [*looks_up, connection_filter(route, log=log, connects=connects)]


def connection_filter(
    route: ConnectionRoute, *, log: LogFile | None = None, connects: Connects = Connects.AT_ONCE
) -> Filter:
    """What passes a route's connections on, shared between its destinations by weight."""
    proxy = TcpProxy()
    connects.apply(proxy)
    if len(route.targets) == 1:
        proxy.cluster = route.targets[0].cluster.name
        proxy.stat_prefix = f"{proxy.cluster};"
    else:
        for target in route.targets:
            proxy.weighted_clusters.clusters.add(name=target.cluster.name, weight=target.weight)
        proxy.stat_prefix = f"{route.origin.name}.{route.origin.namespace};" if route.origin else "split;"
    if route.idle_timeout is not None:
        proxy.idle_timeout.CopyFrom(duration(route.idle_timeout))
    if route.max_duration is not None:
        proxy.max_downstream_connection_duration.CopyFrom(duration(route.max_duration))
    if route.by_source:
        proxy.hash_policy.add().source_ip.SetInParent()
    if route.tunnel is not None:
        proxy.tunneling_config.hostname = f"{bracketed(route.tunnel.host)}:{route.tunnel.port}"
        proxy.tunneling_config.use_post = route.tunnel.method == "POST"
    if log is not None:
        proxy.access_log.append(access_log(log))
    return Filter(name=TCP_PROXY, typed_config=packed(proxy))
