"""What a gateway serves."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.routes import Route
from ostria.mesh.model.services import Labels, Protocol


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


class GatewaySelection(NamedTuple):
    """The gateway workloads on which an object opens ports.

    By their labels (() is every one) and, if given, their namespace; or by the services that lead to them: `services`
    are such hosts, only ports that these services have are then opened, and () is none.
    """

    labels: Labels = ()
    namespace: str = ""
    services: tuple[str, ...] | None = None


class GatewayServer(NamedTuple):
    """One port with its hosts that one object opens on a gateway workload, as the proxy sees it.

    `gateway` is that object and `position` the place of the server in it. `port` is where the proxy listens (the
    target of the workload's Service), `service_port` what the object names. `hosts` are (namespace whose routes are
    taken, or "*" for all, host) pairs. `name` is the port's own; `known_as` is the gateway as Istio's names spell it
    ("name.namespace"), where that is not the object's own.
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
    known_as: str = ""


class GatewayListener(NamedTuple):
    """Everything that one gateway workload serves on one address and port."""

    bind: str
    port: int
    servers: tuple[GatewayServer, ...]


class HostRoutes(NamedTuple):
    """What is done with the requests for one host behind one server: first match first, and who asked for it."""

    routes: tuple[Route, ...] = ()
    origins: frozenset[ObjectKey] = frozenset()
