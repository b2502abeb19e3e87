"""Where requests can be sent: one cluster a service port and subset, one a port of the workload itself, and the few
that every proxy has.

A shape (how endpoints are found, which HTTP is spoken) is a prototype; a cluster is its copy with the names, the TLS
and the DestinationRule's wishes patched in. Nothing here chooses which clusters a proxy gets.
"""

from __future__ import annotations

import enum
from typing import Any as Untyped

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.extensions.clusters.common.dns.v3.dns_pb2 import DnsLookupFamily
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster

from ostria.base import ObjectKey
from ostria.envoy.addresses import address, inbound_bind
from ostria.envoy.dynamic_dns import CLUSTER_TYPE
from ostria.envoy.endpoints import MESH_TLS, assignment
from ostria.envoy.origins import config_path
from ostria.envoy.tls import host_client, mesh_alpn, mesh_client, plaintext
from ostria.envoy.traffic_policy import (
    CONNECT_TIMEOUT,
    UNLIMITED,
    apply_balancing,
    apply_connection_pool,
    apply_locality,
    apply_outliers,
    apply_proxy_protocol,
    apply_retry_budget,
    http_options,
    set_http_options,
    speaks_http2,
)
from ostria.envoy.wire import Value, duration, encode, metadata, packed
from ostria.mesh.localities import Group
from ostria.mesh.model import (
    ClusterRef,
    ConnectionPool,
    Endpoint,
    InboundPort,
    LoadBalancing,
    OutboundMode,
    OutboundPolicy,
    Protocol,
    Resolution,
    Service,
    ServicePort,
    Subset,
    TlsMode,
    TrafficPolicy,
)

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
DYNAMIC_DNS = "AllowAnyDynamicDNSCluster"

DNS_REFRESH_RATE = 60_000
_DNS_JITTER = 100
_NEVER = 315_360_000_000  # Ten years, in ms; Envoy takes no span of more than 292. Original destinations stay for good.

_DEFAULT_POOL = ConnectionPool()


def outbound_cluster(
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    policy: TrafficPolicy,
    accounts: tuple[str, ...],
    *,
    endpoints: tuple[Endpoint, ...] = (),
    groups: tuple[Group, ...] = (),
    origin: ObjectKey | None = None,
    sealed: bool = False,
    at_gateway: bool = False,
    dns_refresh_rate: int = DNS_REFRESH_RATE,
) -> bytes:
    """The cluster `outbound|port|subset|host`, or the sealed one (see `ClusterRef`).

    `accounts` are the SPIFFE ids that its endpoints may have; none means any id under the mesh's roots. `endpoints`
    matter only where nothing else tells whether they take mutual TLS (Resolution.ORIGINAL), and `groups`, which are
    the same arranged for the client, where the cluster itself must hold them (Resolution.DNS). `origin` is the
    DestinationRule that shaped it. `at_gateway` says whose it is: what a gateway's clients speak is no sign of what a
    workload does, which hears HTTP/1.1 where its port says nothing.
    """
    discovery = _DISCOVERY[service.resolution]
    if policy.balancing is LoadBalancing.PASSTHROUGH:
        discovery = _Discovery.ORIGINAL
    name = ClusterRef(service.host, port.number, subset.name if subset else "", sealed).name
    cluster = _copy(discovery, port.protocol, policy.pool)
    if at_gateway and port.protocol is Protocol.AUTO and not policy.pool.use_client_protocol:
        set_http_options(cluster, http_options(Protocol.HTTP, policy.pool))
    cluster.name = name
    cluster.alt_stat_name = f"{name};"
    if discovery is _Discovery.EDS:
        cluster.eds_cluster_config.service_name = name
    elif discovery is _Discovery.DYNAMIC:
        cluster.cluster_type.CopyFrom(CLUSTER_TYPE)
    elif discovery is not _Discovery.ORIGINAL:
        cluster.load_assignment.MergeFromString(assignment(name, groups))
        if dns_refresh_rate != DNS_REFRESH_RATE:
            dns = _dns(logical=discovery is _Discovery.LOGICAL_DNS, refresh_rate=dns_refresh_rate)
            cluster.cluster_type.typed_config.CopyFrom(packed(dns))
    if policy is not _DEFAULT_POLICY:
        if discovery not in (_Discovery.ORIGINAL, _Discovery.DYNAMIC):
            apply_balancing(cluster, policy)
            apply_locality(cluster, policy)
        if policy.outliers is not None:
            apply_outliers(cluster, policy.outliers)
        if policy.retry_budget is not None:
            apply_retry_budget(cluster, policy.retry_budget)
    _secure(cluster, service, port, subset, policy, accounts, endpoints, discovery)
    if policy.proxy_protocol:
        apply_proxy_protocol(cluster, policy.proxy_protocol)
    facts: dict[str, Value] = {
        "services": ({"host": service.host, "name": service.name, "namespace": service.namespace},),
        "default_original_port": float(port.number),
    }
    if subset is not None:
        facts["subset"] = subset.name
    if service.external:
        facts["external"] = True
    if origin is not None:
        facts["config"] = config_path(origin)
    cluster.metadata.MergeFromString(metadata({"istio": facts}))
    return encode(cluster)


def inbound_cluster(port: InboundPort, pool: ConnectionPool = _DEFAULT_POOL, *, mark: int | None = None) -> bytes:
    """The cluster `inbound|port||`: the workload itself, at the address that its client had connected to or its own.

    `pool` is what a DestinationRule for the port's service says; only its limits and the HTTP version matter here.
    `mark` is the mark of the proxy's own packets, if capture goes by one.
    """
    discovery = _Discovery.STATIC if port.endpoint else _Discovery.ORIGINAL
    protocol = Protocol.HTTP if port.tls is not None and port.protocol is Protocol.HTTPS else port.protocol
    cluster = _copy(discovery, protocol, pool._replace(h2_upgrade=None))
    cluster.name = inbound_name(port.port)
    cluster.alt_stat_name = f"{cluster.name};"
    if port.endpoint:
        host, number = _place(port.endpoint)
        message = cluster.load_assignment.endpoints.add().lb_endpoints.add()
        message.endpoint.address.CopyFrom(address(host, number))
        cluster.load_assignment.cluster_name = cluster.name
    else:
        cluster.cleanup_interval.CopyFrom(duration(_NEVER))
    if not port.endpoint.startswith("unix:"):
        cluster.upstream_bind_config.CopyFrom(inbound_bind(mark))
    services = tuple(
        {"host": host, "name": host.partition(".")[0], "namespace": namespace} for host, namespace, _ in port.services
    )
    if services:
        cluster.metadata.MergeFromString(metadata({"istio": {"services": services}}))
    return encode(cluster)


def _place(endpoint: str) -> tuple[str, int]:
    """Where a port of the workload leads, which is `host:port` or a Unix path."""
    if endpoint.startswith("unix:"):
        return endpoint, 0
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def inbound_name(port: int) -> str:
    """The name of the cluster that is the workload's own port."""
    return f"inbound|{port}||"


def inbound_passthrough(mark: int | None = None) -> bytes:
    """InboundPassthroughCluster: the workload's ports that no service names, in both families."""
    cluster = Cluster()
    cluster.CopyFrom(_PASSTHROUGH)
    cluster.name = INBOUND_PASSTHROUGH
    cluster.alt_stat_name = f"{INBOUND_PASSTHROUGH};"
    cluster.upstream_bind_config.CopyFrom(inbound_bind(mark))
    return encode(cluster)


def connections_elsewhere(policy: OutboundPolicy) -> str:
    """The cluster of connections that nobody knows where they are for."""
    if policy.proxy is not None:
        return policy.proxy.name
    return BLACK_HOLE if policy.mode is OutboundMode.REGISTRY_ONLY else PASSTHROUGH


def requests_elsewhere(policy: OutboundPolicy) -> str:
    """The cluster of requests for hosts that nobody knows; "" is that they are refused."""
    if policy.proxy is not None:
        return policy.proxy.name
    return {OutboundMode.REGISTRY_ONLY: "", OutboundMode.DYNAMIC_DNS: DYNAMIC_DNS}.get(policy.mode, PASSTHROUGH)


# --- TLS ----------------------------------------------------------------------------------------------------------


def _secure(
    cluster: Untyped,
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    policy: TrafficPolicy,
    accounts: tuple[str, ...],
    endpoints: tuple[Endpoint, ...],
    discovery: _Discovery,
) -> None:
    tls = policy.tls
    http2 = speaks_http2(port.protocol, policy.pool)
    if tls.mode is TlsMode.DISABLE or (tls.mode is TlsMode.AUTO and service.external):
        return
    if tls.mode in (TlsMode.SIMPLE, TlsMode.MUTUAL):
        cluster.transport_socket.CopyFrom(
            host_client(tls, service.accounts, mutual=tls.mode is TlsMode.MUTUAL, http2=http2)
        )
        _verify_by_authority(cluster, port, policy, verify=not (tls.subject_alt_names or service.accounts))
        return
    alpn = mesh_alpn(port.protocol, http2=http2, caller_decides=policy.pool.use_client_protocol)
    names = tls.subject_alt_names or accounts
    called = ClusterRef(service.host, port.number, subset.name if subset else "")
    mutual = mesh_client(tls.sni or called.server_name, alpn, names, tls.handshakes)
    if tls.mode is TlsMode.ISTIO_MUTUAL:
        cluster.transport_socket.CopyFrom(mutual)
    elif discovery is _Discovery.ORIGINAL:
        # An address taken from the connection has no metadata to match, so all endpoints have to agree (as in Istio).
        if endpoints and all(endpoint.mesh_tls for endpoint in endpoints):
            cluster.transport_socket.CopyFrom(mutual)
    elif discovery is not _Discovery.DYNAMIC:
        cluster.transport_socket_matches.extend(_MUTUAL_OR_PLAINTEXT)
        cluster.transport_socket_matches[0].transport_socket.CopyFrom(mutual)


def _verify_by_authority(cluster: Untyped, port: ServicePort, policy: TrafficPolicy, *, verify: bool) -> None:
    """Where no server name is given, the request's authority is asked for and, failing names, verified (as Istio)."""
    options = http_options(port.protocol, policy.pool)
    if options is None or policy.tls.sni:
        return
    options.upstream_http_protocol_options.auto_sni = True
    if verify and not policy.tls.insecure_skip_verify:
        options.upstream_http_protocol_options.auto_san_validation = True
    set_http_options(cluster, options)


_MUTUAL_OR_PLAINTEXT = (
    Cluster.TransportSocketMatch(name="tlsMode-istio", match=MESH_TLS),
    Cluster.TransportSocketMatch(name="tlsMode-disabled", match={}, transport_socket=plaintext()),
)


# --- shapes -------------------------------------------------------------------------------------------------------


class _Discovery(enum.Enum):
    EDS = enum.auto()
    STRICT_DNS = enum.auto()
    LOGICAL_DNS = enum.auto()
    STATIC = enum.auto()
    DYNAMIC = enum.auto()
    ORIGINAL = enum.auto()


_DISCOVERY = {
    Resolution.ENDPOINTS: _Discovery.EDS,
    Resolution.DNS: _Discovery.STRICT_DNS,
    Resolution.DNS_ROUND_ROBIN: _Discovery.LOGICAL_DNS,
    Resolution.DYNAMIC_DNS: _Discovery.DYNAMIC,
    Resolution.ORIGINAL: _Discovery.ORIGINAL,
}

_DEFAULT_POLICY = TrafficPolicy()


def _copy(discovery: _Discovery, protocol: Protocol, pool: ConnectionPool) -> Untyped:
    cluster = Cluster()
    cluster.CopyFrom(_SHAPES[discovery, protocol])
    if pool != _DEFAULT_POOL:
        apply_connection_pool(cluster, protocol, pool)
        options = http_options(protocol, pool)
        if options is not None:
            set_http_options(cluster, options)
    return cluster


def _plain(name: str) -> Untyped:
    cluster = Cluster(name=name)
    cluster.connect_timeout.CopyFrom(duration(CONNECT_TIMEOUT))
    limits = cluster.circuit_breakers.thresholds.add()
    for limit in (limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries):
        limit.value = UNLIMITED
    limits.track_remaining = True
    return cluster


def _dns(*, logical: bool, refresh_rate: int = DNS_REFRESH_RATE) -> DnsCluster:
    """Every address that a name has is an endpoint, or (`logical`) the next connection takes the next of them."""
    return DnsCluster(
        dns_refresh_rate=duration(refresh_rate),
        dns_jitter=duration(_DNS_JITTER),
        respect_dns_ttl=True,
        dns_lookup_family=DnsLookupFamily.Value("ALL"),
        all_addresses_in_single_endpoint=logical,
    )


def _shape(discovery: _Discovery, protocol: Protocol) -> Untyped:
    cluster = _plain("")
    if discovery is _Discovery.ORIGINAL:
        cluster.type = Cluster.ORIGINAL_DST
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    elif discovery is _Discovery.DYNAMIC:
        cluster.lb_policy = Cluster.CLUSTER_PROVIDED
    else:
        cluster.lb_policy = Cluster.LEAST_REQUEST
        # Draining endpoints count as unhealthy. They get requests again only when less than 1 % is healthy, which
        # means none: an answer from one that is about to stop is better than no answer.
        cluster.common_lb_config.healthy_panic_threshold.value = 1
    if discovery is _Discovery.EDS:
        cluster.type = Cluster.EDS
        source = cluster.eds_cluster_config.eds_config
        source.ads.SetInParent()
        source.initial_fetch_timeout.SetInParent()
        source.resource_api_version = 2  # V3
    elif discovery is _Discovery.STATIC:
        cluster.type = Cluster.STATIC
    elif discovery in (_Discovery.STRICT_DNS, _Discovery.LOGICAL_DNS):
        cluster.cluster_type.name = "envoy.clusters.dns"
        cluster.cluster_type.typed_config.CopyFrom(packed(_dns(logical=discovery is _Discovery.LOGICAL_DNS)))
    options = http_options(protocol, _DEFAULT_POOL)
    if options is not None:
        set_http_options(cluster, options)
    return cluster


_SHAPES = {(discovery, protocol): _shape(discovery, protocol) for discovery in _Discovery for protocol in Protocol}


def _passthrough() -> Untyped:
    cluster = _shape(_Discovery.ORIGINAL, Protocol.AUTO)
    cluster.name = PASSTHROUGH
    cluster.alt_stat_name = f"{PASSTHROUGH};"
    return cluster


def _black_hole() -> Untyped:
    cluster = Cluster(name=BLACK_HOLE, alt_stat_name=f"{BLACK_HOLE};", type=Cluster.STATIC)
    cluster.connect_timeout.CopyFrom(duration(CONNECT_TIMEOUT))
    cluster.load_assignment.CopyFrom(ClusterLoadAssignment(cluster_name=BLACK_HOLE))
    return cluster


def _dynamic_dns() -> Untyped:
    cluster = _shape(_Discovery.DYNAMIC, Protocol.AUTO)
    cluster.name = DYNAMIC_DNS
    cluster.alt_stat_name = f"{DYNAMIC_DNS};"
    cluster.cluster_type.CopyFrom(CLUSTER_TYPE)
    return cluster


_PASSTHROUGH = _passthrough()

# What goes on to the address that the workload itself had asked for, and what goes nowhere.
PASSTHROUGH_CLUSTER: bytes = encode(_PASSTHROUGH)
BLACK_HOLE_CLUSTER: bytes = encode(_black_hole())
DYNAMIC_DNS_CLUSTER: bytes = encode(_dynamic_dns())
