"""The mesh's own vocabulary: services, endpoints, destinations and routes, as frozen values.

Everything that an API says is read into these words by the readers of this room; everything below (envoy/) and
beside (analysis/) speaks only them. They know neither Kubernetes' JSON nor Envoy's messages, and no reader's
name survives in them: a route looks the same whether a VirtualService, an HTTPRoute or an Ingress asked for it.

Durations are milliseconds; percentages are 0.0 to 100.0; hosts are fully qualified and lower case.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from ostria.base import ObjectKey

Labels = tuple[tuple[str, str], ...]


# --- services and endpoints ---------------------------------------------------------------------------------------


class Protocol(enum.StrEnum):
    """What is spoken on a service port (istio.io: Protocol Selection). AUTO is found out from the first bytes."""

    AUTO = "auto"
    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    MONGO = "mongo"
    MYSQL = "mysql"
    REDIS = "redis"
    UDP = "udp"

    @property
    def is_http(self) -> bool:
        """Whether requests can be read and routed one by one."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB)

    @property
    def is_http2(self) -> bool:
        """Whether the server is known to speak HTTP/2."""
        return self in (Protocol.HTTP2, Protocol.GRPC)

    @property
    def is_tls(self) -> bool:
        """Whether the application speaks TLS itself, so that only the server name can be read."""
        return self in (Protocol.HTTPS, Protocol.TLS)


class Resolution(enum.StrEnum):
    """How an address of the service is found when a proxy connects."""

    ENDPOINTS = "endpoints"
    DNS = "dns"
    DNS_ROUND_ROBIN = "dns_round_robin"
    ORIGINAL = "original"  # The address that the client itself connected to (headless, resolution NONE).


class ServicePort(NamedTuple):
    """One port of a service. `target` is the number or the name that the workload listens on ("" = `number`)."""

    number: int
    name: str
    protocol: Protocol
    target: int | str = ""


class Service(NamedTuple):
    """A host that the mesh knows, as one object defines it.

    `addresses` are its virtual IPs of both families (and CIDR blocks, where a ServiceEntry gives them);
    `selector` chooses the workloads in its namespace that stand behind it.
    """

    host: str
    namespace: str
    name: str
    ports: tuple[ServicePort, ...]
    addresses: tuple[str, ...]
    resolution: Resolution
    external: bool
    selector: Labels
    visible_in: frozenset[str]  # Namespaces; {"*"} is everywhere.
    accounts: tuple[str, ...]  # SPIFFE names that the object itself vouches for (ServiceEntry.subjectAltNames).
    origin: ObjectKey

    @property
    def in_cluster(self) -> bool:
        """Whether a Kubernetes Service defines it, so that short names of it resolve."""
        return self.origin.kind == "Service"

    def port(self, number: int) -> ServicePort | None:
        """The port with this number."""
        return next((port for port in self.ports if port.number == number), None)


class Health(enum.StrEnum):
    """Whether an endpoint may get traffic. DRAINING serves what it has and gets nothing new."""

    HEALTHY = "healthy"
    DRAINING = "draining"
    UNHEALTHY = "unhealthy"


class Endpoint(NamedTuple):
    """One place that serves one service port.

    `addresses` holds one address a family, the preferred first; or one host name (DNS), or a Unix path.
    `mesh_tls` says that its proxy takes mutual TLS. `identity` is a SPIFFE id, "" where there is none.
    """

    addresses: tuple[str, ...]
    port: int
    namespace: str
    labels: Labels = ()
    identity: str = ""
    mesh_tls: bool = False
    health: Health = Health.HEALTHY
    weight: int = 1
    locality: str = ""  # region/zone/subzone
    network: str = ""
    cluster: str = ""
    workload: str = ""


# --- destinations -------------------------------------------------------------------------------------------------


class LoadBalancing(enum.StrEnum):
    """How one of several endpoints is chosen."""

    LEAST_REQUEST = "least_request"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    PASSTHROUGH = "passthrough"
    RING_HASH = "ring_hash"
    MAGLEV = "maglev"


class HashKey(NamedTuple):
    """What consistent hashing hashes: `source` is header, cookie, source_ip or query."""

    source: str
    name: str = ""
    ttl: int | None = None
    path: str = ""


class TlsMode(enum.StrEnum):
    """How a client connects. AUTO is mutual TLS where the endpoint takes it, else plaintext."""

    AUTO = "auto"
    DISABLE = "disable"
    SIMPLE = "simple"
    MUTUAL = "mutual"
    ISTIO_MUTUAL = "istio_mutual"


class ClientTls(NamedTuple):
    """TLS towards a destination."""

    mode: TlsMode = TlsMode.AUTO
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    credential: str = ""
    certificate: str = ""
    key: str = ""
    authorities: str = ""
    insecure_skip_verify: bool = False


class ConnectionPool(NamedTuple):
    """Limits of the connections to a destination; None is the default."""

    connect_timeout: int | None = None
    max_connections: int | None = None
    idle_timeout: int | None = None
    max_connection_duration: int | None = None
    tcp_keepalive: tuple[int | None, int | None, int | None] | None = None  # probes, time s, interval s
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_requests_per_connection: int | None = None
    max_retries: int | None = None
    max_concurrent_streams: int | None = None
    http_idle_timeout: int | None = None
    h2_upgrade: bool | None = None
    use_client_protocol: bool = False


class OutlierDetection(NamedTuple):
    """When an endpoint is set aside for a while; None is Envoy's default."""

    consecutive_5xx: int | None = None
    consecutive_gateway: int | None = None
    consecutive_local: int | None = None
    split_external_local: bool = False
    interval: int | None = None
    base_ejection_time: int | None = None
    max_ejection_percent: int | None = None
    min_health_percent: int | None = None


class TrafficPolicy(NamedTuple):
    """How a client treats one port of one destination (subset)."""

    balancing: LoadBalancing = LoadBalancing.LEAST_REQUEST
    hash_key: HashKey | None = None
    ring_size: int | None = None
    table_size: int | None = None
    warmup: int | None = None
    pool: ConnectionPool = ConnectionPool()
    outliers: OutlierDetection | None = None
    tls: ClientTls = ClientTls()


class Subset(NamedTuple):
    """A named part of a service's endpoints: those with these labels."""

    name: str
    labels: Labels


class Destination(NamedTuple):
    """What the DestinationRules that a client's namespace sees say of one host."""

    subsets: tuple[Subset, ...] = ()
    origins: frozenset[ObjectKey] = frozenset()

    def subset(self, name: str) -> Subset | None:
        """The subset with this name."""
        return next((subset for subset in self.subsets if subset.name == name), None)


# --- routes -------------------------------------------------------------------------------------------------------


class MatchKind(enum.StrEnum):
    """How a string is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"
    PRESENT = "present"
    PATH_PREFIX = "path_prefix"  # Whole path elements only (the Gateway API's PathPrefix).


class StringMatch(NamedTuple):
    """A comparison with one string; REGEX is RE2 and matches the whole value."""

    kind: MatchKind
    value: str = ""


class NamedMatch(NamedTuple):
    """A comparison with one named thing: a header or a query parameter."""

    name: str
    match: StringMatch


class RequestMatch(NamedTuple):
    """When a route applies; everything given must hold."""

    path: StringMatch | None = None
    ignore_case: bool = False
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    without_headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()


class HeaderChanges(NamedTuple):
    """Changes of one message's headers, in the order remove, set, add."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class Headers(NamedTuple):
    """Changes on the way there and on the way back."""

    request: HeaderChanges = HeaderChanges()
    response: HeaderChanges = HeaderChanges()


class ClusterRef(NamedTuple):
    """One destination cluster: what `outbound|port|subset|host` names."""

    host: str
    port: int
    subset: str = ""

    @property
    def name(self) -> str:
        """The name as Istio spells it, which people know from access logs, metrics and EnvoyFilters."""
        return f"outbound|{self.port}|{self.subset}|{self.host}"

    @classmethod
    def parse(cls, name: str) -> ClusterRef | None:
        """The cluster that a name spells, or None."""
        direction, _, rest = name.partition("|")
        port, _, rest = rest.partition("|")
        subset, bar, host = rest.partition("|")
        return cls(host, int(port), subset) if direction == "outbound" and bar and port.isdigit() else None


class MissingDestination(msgspec.Struct, frozen=True):
    """A destination that nothing in the mesh provides; recorded with a Problem, and 503 when it is called.

    No tuple, unlike its neighbours: it must not be equal to the cluster of the same name when that one comes.
    """

    host: str
    port: int = 0
    subset: str = ""

    @property
    def name(self) -> str:
        """A cluster name that no proxy ever gets."""
        return f"outbound|{self.port}|{self.subset}|{self.host}"


class WeightedTarget(NamedTuple):
    """One of the destinations of a route and its share."""

    cluster: ClusterRef | MissingDestination
    weight: int
    headers: Headers = Headers()


class Redirect(NamedTuple):
    """An answer that sends the client elsewhere; None leaves a part as it was."""

    code: int = 301
    scheme: str | None = None
    authority: str | None = None
    port: int | None = None
    path: str | None = None
    path_prefix: str | None = None


class DirectResponse(NamedTuple):
    """An answer that the proxy gives itself."""

    status: int
    body: bytes = b""


class Rewrite(NamedTuple):
    """What is changed of a request before it is sent on; `regex` is (pattern, substitution)."""

    authority: str | None = None
    prefix: str | None = None
    path: str | None = None
    regex: tuple[str, str] | None = None


class Retries(NamedTuple):
    """How often and when a failed request is sent again; `attempts` 0 is never."""

    attempts: int = 2
    on: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    status_codes: tuple[int, ...] = ()
    per_try_timeout: int | None = None
    backoff: int | None = None
    remote_localities: bool = False
    ignore_previous_hosts: bool = True


class Delay(NamedTuple):
    """A fault: this share of the requests waits."""

    duration: int
    percentage: float


class Abort(NamedTuple):
    """A fault: this share of the requests is answered with an error, an HTTP status or a gRPC one."""

    percentage: float
    http_status: int | None = None
    grpc_status: int | None = None


class Mirror(NamedTuple):
    """A copy of this share of the requests, whose answer is thrown away."""

    cluster: ClusterRef | MissingDestination
    percentage: float


class Cors(NamedTuple):
    """Cross-origin policy (fetch.spec.whatwg.org)."""

    origins: tuple[StringMatch, ...]
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: int | None = None
    credentials: bool | None = None


class Route(NamedTuple):
    """One match and what is done with what it matches: exactly one of targets, redirect, response.

    `origin` is the object that asked for it and `field` the place in it, so that every answer can be explained.
    """

    name: str
    match: RequestMatch
    targets: tuple[WeightedTarget, ...] = ()
    redirect: Redirect | None = None
    response: DirectResponse | None = None
    rewrite: Rewrite | None = None
    timeout: int | None = None
    retries: Retries = Retries()
    delay: Delay | None = None
    abort: Abort | None = None
    headers: Headers = Headers()
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    hash_keys: tuple[HashKey, ...] = ()
    origin: ObjectKey | None = None
    field: str = ""


class VirtualHost(NamedTuple):
    """The routes of one set of domains, first match first."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    origins: frozenset[ObjectKey]
    require_tls: bool = False


# --- what a proxy takes in ----------------------------------------------------------------------------------------


class MutualTls(enum.StrEnum):
    """What a workload's proxy takes (istio.io: PeerAuthentication)."""

    STRICT = "strict"
    PERMISSIVE = "permissive"
    DISABLE = "disable"


class InboundPort(NamedTuple):
    """One port that a workload serves: where it listens, what is spoken, and who is let in."""

    port: int
    protocol: Protocol
    mutual_tls: MutualTls
    services: tuple[tuple[str, str, int], ...]  # (host, namespace, service port) of the services behind it.


class Inbound(NamedTuple):
    """The whole inbound side of one workload's proxy; `default` is for ports that no service names."""

    ports: tuple[InboundPort, ...]
    default: MutualTls
    origins: frozenset[ObjectKey]
    ports_tls: tuple[tuple[int, MutualTls], ...] = ()  # Port-level modes of ports that no service names.


# --- gateways -----------------------------------------------------------------------------------------------------


class ServerTls(enum.StrEnum):
    """How a gateway server terminates TLS."""

    PASSTHROUGH = "passthrough"
    SIMPLE = "simple"
    MUTUAL = "mutual"
    OPTIONAL_MUTUAL = "optional_mutual"
    ISTIO_MUTUAL = "istio_mutual"


class GatewayTls(NamedTuple):
    """TLS of one gateway server. `credential` names a Secret; the file names are used where it is ""."""

    mode: ServerTls
    credential: str = ""
    certificate: str = ""
    key: str = ""
    authorities: str = ""
    min_version: str = ""
    max_version: str = ""
    ciphers: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class GatewayServer(NamedTuple):
    """One server of one Gateway as the proxy sees it.

    `port` is where the proxy listens (the target of the gateway's Service), `service_port` what the Gateway names.
    `hosts` are (namespace or "*", host) pairs.
    """

    gateway: ObjectKey
    position: int
    port: int
    service_port: int
    protocol: Protocol
    hosts: tuple[tuple[str, str], ...]
    bind: str = ""
    tls: GatewayTls | None = None
    https_redirect: bool = False
    name: str = ""


class GatewayListener(NamedTuple):
    """Everything that one gateway workload serves on one address and port."""

    bind: str
    port: int
    servers: tuple[GatewayServer, ...]
