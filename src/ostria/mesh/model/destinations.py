"""Destinations: how a client treats what it calls."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.services import Labels


class LoadBalancing(enum.StrEnum):
    """How one of several endpoints is chosen."""

    LEAST_REQUEST = "least_request"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    PASSTHROUGH = "passthrough"
    RING_HASH = "ring_hash"
    MAGLEV = "maglev"


class HashKey(NamedTuple):
    """What consistent hashing hashes: `source` is header, cookie, source_ip or query.

    `ttl`, `path` and `attributes` are those of a cookie that is made for callers that have none.
    """

    source: str
    name: str = ""
    ttl: int | None = None
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


class TlsMode(enum.StrEnum):
    """How a client connects. AUTO is mutual TLS where the endpoint takes it, else plaintext."""

    AUTO = "auto"
    DISABLE = "disable"
    SIMPLE = "simple"
    MUTUAL = "mutual"
    ISTIO_MUTUAL = "istio_mutual"


class Handshakes(NamedTuple):
    """What the mesh says of all handshakes of a kind: the least version ("TLSV1_3", "" is the default), the suites of
    TLS 1.2 and below and the curves, () for those that there are anyway."""

    min_version: str = ""
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


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
    signers: str = ""  # Authorities in PEM, where they are known by their text and not by where they lie.
    revoked: str = ""  # A file with a list of revoked certificates.
    handshakes: Handshakes = Handshakes()
    selected: bool = False  # Whether the credential is for the workloads that its rule selects, sidecars among them.


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


class Warmup(NamedTuple):
    """For how long (ms) the share of a new endpoint grows, from how many percent of its own, and along which curve."""

    duration: int
    minimum_percent: float | None = None
    aggression: float | None = None


class LocalityBalancing(NamedTuple):
    """What a client's locality ("region/zone/subzone") means for its choice of endpoints.

    `distribute` holds, for clients of a locality, the shares of others, in percent. Otherwise nearer endpoints go
    first: by the labels of `failover_priority` that client and endpoint have in common, else by locality, where
    `failover` names the region that takes over for another.
    """

    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()


class RetryBudget(NamedTuple):
    """How many retries may be under way: this share of all requests, in percent, and always so many."""

    percent: float
    minimum: int


class Tunnel(NamedTuple):
    """The host and port that an HTTP proxy is asked to connect to, by this method (CONNECT or POST)."""

    host: str
    port: int
    method: str = "CONNECT"


class TrafficPolicy(NamedTuple):
    """How a client treats one port of one destination (subset)."""

    balancing: LoadBalancing = LoadBalancing.LEAST_REQUEST
    hash_key: HashKey | None = None
    ring_size: int | None = None
    table_size: int | None = None
    warmup: Warmup | None = None
    pool: ConnectionPool = ConnectionPool()
    outliers: OutlierDetection | None = None
    tls: ClientTls = ClientTls()
    locality: LocalityBalancing | None = None
    retry_budget: RetryBudget | None = None
    proxy_protocol: str = ""  # V1 or V2: the header that tells the endpoint who the client is.
    tunnel: Tunnel | None = None


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
