"""What a gateway serves."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.connections import ConnectionRoute
from ostria.mesh.model.routes import Route
from ostria.mesh.model.services import Labels, Protocol


class ServerTls(enum.StrEnum):
    """What a gateway server does with TLS; the first two pass it on unopened.

    AUTO_PASSTHROUGH is for the mesh's own mutual TLS: its server name says which cluster is meant.
    """

    PASSTHROUGH = "passthrough"
    AUTO_PASSTHROUGH = "auto_passthrough"
    SIMPLE = "simple"
    MUTUAL = "mutual"
    OPTIONAL_MUTUAL = "optional_mutual"
    ISTIO_MUTUAL = "istio_mutual"


class GatewayTls(NamedTuple):
    """TLS of one server. `credential` names a Secret; `files` (certificate, key) are used where it is "".

    `more_credentials` are for clients that take another kind of key. Clients are checked against the authorities of
    `authorities_credential`, else of `credential`, or of the file; and if hashes are given, by one of them (of the key
    in base64, of the certificate in hex). The versions are spelled as in TLSV1_2, "" is the default.
    `ciphers` and `curves` are names that Envoy takes.
    `signers` are authorities in PEM, where they are known by their text and not by where they lie. `granted` says that
    whoever named the credentials has found that it may.
    """

    mode: ServerTls
    credential: str = ""
    more_credentials: tuple[str, ...] = ()
    authorities_credential: str = ""
    files: tuple[tuple[str, str], ...] = ()
    authorities: str = ""
    revocations: str = ""
    min_version: str = ""
    max_version: str = ""
    ciphers: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    signers: str = ""
    key_hashes: tuple[str, ...] = ()
    certificate_hashes: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    granted: bool = False

    @property
    def ends_here(self) -> bool:
        """Whether the gateway opens it."""
        return self.mode not in (ServerTls.PASSTHROUGH, ServerTls.AUTO_PASSTHROUGH)


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


class GatewayPort(NamedTuple):
    """The servers that share one address and port of a gateway workload, the oldest object's first."""

    bind: str
    port: int
    servers: tuple[GatewayServer, ...]


class GatewayChain(NamedTuple):
    """What a gateway does with some of the connections to one of its ports.

    Which these are: `encrypted` ones only if so, `server_names` that TLS clients ask for (() is any), and of these
    `mesh_only` clients that offer the mesh's mutual TLS. They are opened as `tls` says, if it does; then their requests
    go through the route table `table` (`grpc_web`: those of browsers are translated), or, where there is none, their
    bytes by `route`.
    """

    origins: frozenset[ObjectKey]
    encrypted: bool = False
    server_names: tuple[str, ...] = ()
    mesh_only: bool = False
    tls: GatewayTls | None = None
    table: str = ""
    route: ConnectionRoute | None = None
    grpc_web: bool = False


class GatewayListener(NamedTuple):
    """What a gateway workload does on one address and port; no two chains take the same connection."""

    bind: str
    port: int
    chains: tuple[GatewayChain, ...]


class HostRoutes(NamedTuple):
    """What is done with the requests for one host behind one server: first match first, and who asked for it."""

    routes: tuple[Route, ...] = ()
    origins: frozenset[ObjectKey] = frozenset()
