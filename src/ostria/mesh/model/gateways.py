"""What a gateway serves."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.services import Protocol


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
