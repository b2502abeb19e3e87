"""Services and endpoints: what can be called, and where it is served."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey

Labels = tuple[tuple[str, str], ...]
"""An equality selector, or a workload's labels; sorted by key."""


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
    DYNAMIC_DNS = "dynamic_dns"  # The name that the request or the TLS client gives, looked up when it is called.
    ORIGINAL = "original"  # The address that the client itself connected to (headless, resolution NONE).


class Nearness(enum.StrEnum):
    """Which endpoints a Kubernetes Service prefers (kubernetes.io: trafficDistribution)."""

    ANY = ""
    ZONE = "zone"
    NODE = "node"


class ServicePort(NamedTuple):
    """One port of a service. `target` is the number or the name that the workload listens on ("" = `number`)."""

    number: int
    name: str
    protocol: Protocol
    target: int | str = ""


class Service(NamedTuple):
    """A host that the mesh knows, as its objects define it.

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
    allocated: tuple[str, ...] = ()  # Addresses that the mesh gave it; only who asks the mesh's DNS ever calls them.
    others: tuple[ObjectKey, ...] = ()  # Further objects that add ports and endpoints to it.
    affinity: bool = False  # One client keeps to one endpoint (sessionAffinity: ClientIP).
    on_node: bool = False  # Only endpoints on the client's own node count (internalTrafficPolicy: Local).
    nearness: Nearness = Nearness.ANY

    @property
    def origins(self) -> frozenset[ObjectKey]:
        """Every object that has a say in it."""
        return frozenset((self.origin, *self.others))

    @property
    def headless(self) -> bool:
        """Whether a Kubernetes Service without an address of its own defines it: clients call its pods by address."""
        return self.in_cluster and self.resolution is Resolution.ORIGINAL

    @property
    def in_cluster(self) -> bool:
        """Whether a Kubernetes Service defines it, so that short names of it resolve."""
        return self.origin.kind == "Service"

    def addresses_for(self, *, dns: bool) -> tuple[str, ...]:
        """The virtual IPs that a client may call it at; `dns` says whether the client asks the mesh for names."""
        return self.addresses or (self.allocated if dns else ())

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

    `addresses` holds one address a family, the preferred first; or one host name (DNS), or one `unix://` path.
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
    node: str = ""
    hostname: str = ""  # Under which a headless service's pod has a name of its own.
