"""What a workload's own proxy takes in."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.gateways import GatewayTls
from ostria.mesh.model.services import Protocol


class MutualTls(enum.StrEnum):
    """What a workload's proxy takes (istio.io: PeerAuthentication)."""

    STRICT = "strict"
    PERMISSIVE = "permissive"
    DISABLE = "disable"


class InboundPort(NamedTuple):
    """One port that a workload serves: where it listens, what is spoken, and who is let in.

    `endpoint` is where the proxy hands on what it takes, `host:port` or `unix:` and a path; "" is the address that the
    client had connected to. `tls` is opened where the port takes no mutual TLS of the mesh. `idle_timeout` (ms) ends
    connections that are passed on unread, once nothing has come for so long. `bind` is the address on which the proxy
    listens for the port by itself; "" is that capture brings what is sent to it.
    """

    port: int
    protocol: Protocol
    mutual_tls: MutualTls
    services: tuple[tuple[str, str, int], ...]  # (host, namespace, service port) of the services behind it.
    endpoint: str = ""
    tls: GatewayTls | None = None
    idle_timeout: int | None = None
    bind: str = ""


class Inbound(NamedTuple):
    """The whole inbound side of one workload's proxy; `default` is for ports that no service names."""

    ports: tuple[InboundPort, ...]
    default: MutualTls
    origins: frozenset[ObjectKey]
    ports_tls: tuple[tuple[int, MutualTls], ...] = ()  # Port-level modes of ports that no service names.
