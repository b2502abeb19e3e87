"""Where a sidecar takes traffic: one listener that all captured traffic of its workload enters, one that all traffic
to its workload enters, and one for each address and port that its workload may call.

    workload -> 15001 virtualOutbound -> the listener of the address that was called, else passed through or refused
    client   -> 15006 virtualInbound  -> the filter chain of the port that was called

Only the two are bound; packets reach them because capture redirects them, and the called address is asked of the
kernel. Each listens in both families.
"""

from __future__ import annotations

from typing import Any as Untyped

from envoy.config.core.v3.base_pb2 import TrafficDirection
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener

from ostria.envoy.access_log import LogFile, unmatched_access_log
from ostria.envoy.addresses import ANY_V4, ANY_V6, OUTBOUND_PORT, address
from ostria.envoy.clusters import BLACK_HOLE
from ostria.envoy.connections import connection_chain
from ostria.envoy.filters import (
    HTTP_INSPECTOR,
    PLAINTEXT_HTTP,
    TLS_INSPECTOR,
    Side,
    http_by_name,
    tcp_proxy,
)
from ostria.envoy.wire import duration, encode
from ostria.mesh.model import OutboundListener
from ostria.mesh.settings import PathNormalization

# How long a listener waits for the bytes that tell one protocol from another, in ms. A server that speaks first, or a
# client that sends fewer bytes than a TLS record's head, waits this long where the port's protocol is not named;
# a client whose first TLS message takes longer than this is taken for one that speaks no TLS.
DETECTION_TIMEOUT = 1000

VIRTUAL_OUTBOUND = "virtualOutbound"
BLACK_HOLE_CHAIN = f"{VIRTUAL_OUTBOUND}-blackhole"
CATCH_ALL_CHAIN = f"{VIRTUAL_OUTBOUND}-catchall-tcp"
REST_CHAIN = "PassthroughFilterChain"

_OUTBOUND = TrafficDirection.Value("OUTBOUND")


def listener_name(host: str, port: int) -> str:
    """The name of a listener as Istio spells it: `0.0.0.0_9080`, `10.96.0.5_9000`."""
    return f"{host}_{port}"


def outbound_listener(
    listener: OutboundListener,
    rest: str,
    *,
    ipv6: bool = True,
    log: LogFile | None = None,
    detection_timeout: int = DETECTION_TIMEOUT,
    looks_up: bool = False,
    paths: PathNormalization = PathNormalization.BASE,
    http10: bool = False,
) -> bytes:
    """What one address and port is called for; what neither is HTTP nor taken by a connection route goes to `rest`.

    A listener for every address listens on :: too, if `ipv6`. `looks_up` says that what is elsewhere is looked up.
    """
    host = listener.address or ANY_V4
    message = Listener(name=listener_name(host, listener.port), traffic_direction=_OUTBOUND)
    message.bind_to_port.value = listener.bound
    bind(message, host, listener.port, ipv6=ipv6)
    if log is not None:
        message.access_log.append(unmatched_access_log(log))
    for route in listener.connections:
        if not route.takes_all:
            message.filter_chains.append(connection_chain(route, log=log))
    if listener.http:
        message.filter_chains.append(_requests(message.name, listener, log, paths, looks_up=looks_up, http10=http10))
    if listener.asked:
        return encode(message)
    default = next((route for route in listener.connections if route.takes_all), None)
    last = (
        connection_chain(default, log=log)
        if default
        else FilterChain(name=REST_CHAIN, filters=[tcp_proxy(rest, log=log)])
    )
    if default and not message.filter_chains:
        message.filter_chains.append(last)
    else:
        message.default_filter_chain.CopyFrom(last)
    if listener.http or any(route.server_names for route in listener.connections):
        message.listener_filters.append(TLS_INSPECTOR)
        # Where only server names are looked for, clients speak first; where anything may come, servers may.
        apply_detection(message, detection_timeout if listener.http or default else 0)
    if listener.http:
        message.listener_filters.append(HTTP_INSPECTOR)
    return encode(message)


def _requests(
    name: str,
    listener: OutboundListener,
    log: LogFile | None,
    paths: PathNormalization,
    *,
    looks_up: bool,
    http10: bool,
) -> FilterChain:
    """The chain for what the first bytes show to be HTTP without TLS; for everything where nothing else may come."""
    prefix, looks_up = f"outbound_{name}", looks_up or listener.looks_up
    http = http_by_name(Side.OUTBOUND, prefix, listener.http, log=log, looks_up=looks_up, paths=paths, http10=http10)
    chain = FilterChain(filters=[http])
    if listener.asked:
        return chain
    chain.filter_chain_match.transport_protocol = "raw_buffer"
    chain.filter_chain_match.application_protocols.extend(("http/1.0", *PLAINTEXT_HTTP) if http10 else PLAINTEXT_HTTP)
    return chain


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


def bind(listener: Untyped, host: str, port: int, *, ipv6: bool) -> None:
    """The addresses of a listener; 0.0.0.0 brings :: with it, if `ipv6`."""
    listener.address.CopyFrom(address(host, port))
    if host == ANY_V4 and ipv6:
        listener.additional_addresses.add().address.CopyFrom(address(ANY_V6, port))


def black_hole_chain(name: str, port: int) -> FilterChain:
    """Who calls the proxy's own port by its number would be sent round and round; this ends it."""
    chain = FilterChain(name=name, filters=[tcp_proxy(BLACK_HOLE)])
    chain.filter_chain_match.destination_port.value = port
    return chain


def apply_detection(listener: Untyped, timeout: int) -> None:
    """Wait this long, in ms, for the bytes that inspectors want, and then go on without; 0 waits for ever."""
    listener.listener_filters_timeout.CopyFrom(duration(timeout))
    listener.continue_on_listener_filters_timeout = True
