"""DestinationRule, as the API has it: https://istio.io/latest/docs/reference/config/networking/destination-rule/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta as Limit

from ostria.base.durations import Duration
from ostria.resources.shapes import Int32, Labels, Object, OneOf, Strict, UInt32
from ostria.resources.virtual_service import PortSelector

UInt64 = Annotated[int, Limit(ge=0)]  # msgspec holds bounds in 64 signed bits.
SimpleLB = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]
TLSMode = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]


class WorkloadSelector(Strict, frozen=True):
    """The workloads of the object's namespace that have all these labels."""

    match_labels: Mapping[str, Annotated[str, Limit(max_length=63)]] = {}


class CookieAttribute(Strict, frozen=True):
    """One attribute of a generated cookie."""

    name: str
    value: str = ""


class HTTPCookie(Strict, frozen=True):
    """A cookie to hash on, made if the caller has none."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[CookieAttribute, ...] = ()


class RingHash(Strict, frozen=True):
    """The ring hash algorithm."""

    minimum_ring_size: UInt64 = 0


class MagLev(Strict, frozen=True):
    """The Maglev algorithm."""

    table_size: UInt64 = 0


class ConsistentHashLB(OneOf, frozen=True):
    """Stickiness: calls with one hash go to one endpoint."""

    MEMBERS = (("httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"), ("ringHash", "maglev"))

    http_header_name: str | None = None
    http_cookie: HTTPCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: MagLev | None = None
    minimum_ring_size: UInt64 = 0


class LocalityDistribute(Strict, frozen=True):
    """How traffic of one locality is split; the shares add up to 100."""

    from_: str = ""
    to: Mapping[str, UInt32] = {}


class LocalityFailover(Strict, frozen=True):
    """The region that takes over for another."""

    from_: str = ""
    to: str = ""


class LocalityLoadBalancerSetting(Strict, frozen=True):
    """What the caller's locality means for the choice of endpoints."""

    distribute: tuple[LocalityDistribute, ...] = ()
    failover: tuple[LocalityFailover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class WarmupConfiguration(Strict, frozen=True):
    """How the share of a new endpoint grows."""

    duration: Duration
    minimum_percent: Annotated[float, Limit(ge=0, le=100)] | None = None
    aggression: Annotated[float, Limit(ge=1)] | None = None


class LoadBalancerSettings(OneOf, frozen=True):
    """How an endpoint is chosen. `warmup_duration_secs` is the deprecated form of `warmup`."""

    MEMBERS = (("simple", "consistentHash"),)

    simple: SimpleLB | None = None
    consistent_hash: ConsistentHashLB | None = None
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: WarmupConfiguration | None = None


class TcpKeepalive(Strict, frozen=True):
    """Probes on idle connections."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Strict, frozen=True):
    """Limits of connections."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class HTTPSettings(Strict, frozen=True):
    """Limits of requests."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0


class ConnectionPoolSettings(Strict, frozen=True):
    """Limits of what is open towards one endpoint set."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Strict, frozen=True):
    """When an endpoint that fails is left out for a while."""

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = msgspec.field(name="consecutive5xxErrors", default=None)
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0


class ClientTLSSettings(Strict, frozen=True):
    """How a connection is protected, seen from its client."""

    mode: TLSMode = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class PortTrafficPolicy(Strict, frozen=True):
    """What differs for one port; it replaces, and does not merge with, the settings above it."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TunnelSettings(Strict, frozen=True):
    """Through which HTTP proxy TCP is carried."""

    target_host: str
    target_port: UInt32
    protocol: str = ""


class ProxyProtocol(Strict, frozen=True):
    """Which PROXY protocol header is sent upstream."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Strict, frozen=True):
    """How many retries may be under way, relative to all requests (20 % where not written), and at least (3)."""

    percent: Annotated[float, Limit(ge=0, le=100)] | None = None
    min_retry_concurrency: UInt32 | None = None


class TrafficPolicy(Strict, frozen=True):
    """What happens to traffic after it is routed."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Strict, frozen=True):
    """The endpoints of a host that have these labels, under a name."""

    name: str
    labels: Labels = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRuleSpec(Strict, frozen=True):
    """Policies and subsets of one host."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None


class DestinationRule(Object, frozen=True):
    """How a host is called once traffic has been routed to it."""

    spec: DestinationRuleSpec
