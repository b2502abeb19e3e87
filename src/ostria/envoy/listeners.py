"""Where a sidecar takes traffic: one listener that all captured traffic of its workload enters, one that all traffic
to its workload enters, and one for each address and port that its workload may call.

    workload -> 15001 virtualOutbound -> the listener of the address that was called, else passed through or refused
    client   -> 15006 virtualInbound  -> the filter chain of the port that was called

Only the two are bound; packets reach them because capture redirects them, and the called address is asked of the
kernel. Each listens in both families.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any as Untyped

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from ostria.envoy.access_log import LogFile, unmatched_access_log
from ostria.envoy.addresses import ANY_V4, ANY_V6, OUTBOUND_PORT, address, cidr_range
from ostria.envoy.clusters import BLACK_HOLE
from ostria.envoy.filters import (
    HTTP_INSPECTOR,
    PLAINTEXT_HTTP,
    TLS_INSPECTOR,
    Side,
    http_by_name,
    tcp_proxy,
)
from ostria.envoy.wire import duration, encode

# How long a listener waits for the bytes that tell one protocol from another, in ms. A server that speaks first, or a
# client that sends fewer bytes than a TLS record's head, waits this long where the port's protocol is not named;
# a client whose first TLS message takes longer than this is taken for one that speaks no TLS.
DETECTION_TIMEOUT = 1000

VIRTUAL_OUTBOUND = "virtualOutbound"
BLACK_HOLE_CHAIN = f"{VIRTUAL_OUTBOUND}-blackhole"
CATCH_ALL_CHAIN = f"{VIRTUAL_OUTBOUND}-catchall-tcp"

_OUTBOUND = TrafficDirection.Value("OUTBOUND")


def listener_name(host: str, port: int) -> str:
    """The name of a listener as Istio spells it: `0.0.0.0_9080`, `10.96.0.5_9000`."""
    return f"{host}_{port}"


def outbound_http(
    host: str, port: int, route_name: str, *, more: Sequence[str] = (), ipv6: bool = True, log: LogFile | None = None
) -> bytes:
    """Calls of HTTP services: requests are read and routed by the route configuration of this name.

    `host` is the address that workloads call, and `more` are others of the same service; 0.0.0.0 stands for every
    address without a listener of its own, and for :: too, if `ipv6`.
    """
    listener = _outbound(host, port, more, log, ipv6=ipv6)
    name = listener_name(host, port)
    listener.filter_chains.add(filters=[http_by_name(Side.OUTBOUND, f"outbound_{name}", route_name, log=log)])
    return encode(listener)


def outbound_tcp(
    host: str,
    port: int,
    cluster: str,
    *,
    more: Sequence[str] = (),
    blocks: Sequence[str] = (),
    ipv6: bool = True,
    log: LogFile | None = None,
) -> bytes:
    """Calls of services whose bytes are passed on. With `blocks` (CIDR) only calls of addresses in them are."""
    listener = _outbound(host, port, more, log, ipv6=ipv6)
    chain = listener.filter_chains.add(filters=[tcp_proxy(cluster, log=log)])
    if blocks:
        chain.filter_chain_match.prefix_ranges.extend(map(cidr_range, blocks))
    return encode(listener)


def outbound_auto(
    host: str,
    port: int,
    route_name: str,
    cluster: str,
    *,
    more: Sequence[str] = (),
    ipv6: bool = True,
    log: LogFile | None = None,
    detection_timeout: int = DETECTION_TIMEOUT,
) -> bytes:
    """Calls of services whose protocol is not named: HTTP is routed, anything else goes on to `cluster`."""
    listener = _outbound(host, port, more, log, ipv6=ipv6)
    listener.listener_filters.extend((TLS_INSPECTOR, HTTP_INSPECTOR))
    apply_detection(listener, detection_timeout)
    name = listener_name(host, port)
    http = listener.filter_chains.add(filters=[http_by_name(Side.OUTBOUND, f"outbound_{name}", route_name, log=log)])
    http.filter_chain_match.transport_protocol = "raw_buffer"
    http.filter_chain_match.application_protocols.extend(PLAINTEXT_HTTP)
    listener.default_filter_chain.CopyFrom(FilterChain(filters=[tcp_proxy(cluster, log=log)]))
    return encode(listener)


def virtual_outbound(cluster: str, *, ipv6: bool = True, log: LogFile | None = None) -> bytes:
    """All that a workload sends; what no other listener knows goes to this cluster."""
    listener = Listener(
        name=VIRTUAL_OUTBOUND,
        traffic_direction=_OUTBOUND,
        filter_chains=[
            black_hole_chain(BLACK_HOLE_CHAIN, OUTBOUND_PORT),
            FilterChain(name=CATCH_ALL_CHAIN, filters=[tcp_proxy(cluster, log=log)]),
        ],
    )
    listener.use_original_dst.value = True
    bind(listener, ANY_V4, OUTBOUND_PORT, ipv6=ipv6)
    if log is not None:
        listener.access_log.append(unmatched_access_log(log))
    return encode(listener)


# --- parts that other listeners share -----------------------------------------------------------------------------


def bind(listener: Untyped, host: str, port: int, more: Sequence[str] = (), *, ipv6: bool) -> None:
    """The addresses of a listener; 0.0.0.0 brings :: with it, if `ipv6`."""
    listener.address.CopyFrom(address(host, port))
    others = (*more, ANY_V6) if host == ANY_V4 and ipv6 else more
    for other in others:
        listener.additional_addresses.add().address.CopyFrom(address(other, port))


def black_hole_chain(name: str, port: int) -> FilterChain:
    """Who calls the proxy's own port by its number would be sent round and round; this ends it."""
    chain = FilterChain(name=name, filters=[tcp_proxy(BLACK_HOLE)])
    chain.filter_chain_match.destination_port.value = port
    return chain


def apply_detection(listener: Untyped, timeout: int) -> None:
    """Wait this long, in ms, for the bytes that inspectors want, and then go on without; 0 waits for ever."""
    listener.listener_filters_timeout.CopyFrom(duration(timeout))
    listener.continue_on_listener_filters_timeout = True


def _outbound(host: str, port: int, more: Sequence[str], log: LogFile | None, *, ipv6: bool) -> Untyped:
    listener = Listener(name=listener_name(host, port), traffic_direction=_OUTBOUND)
    listener.bind_to_port.value = False
    bind(listener, host, port, more, ipv6=ipv6)
    if log is not None:
        listener.access_log.append(unmatched_access_log(log))
    return listener
