"""Connections: what is done with bytes that nobody reads, and where a sidecar catches them."""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.mesh.model.destinations import Tunnel
from ostria.mesh.model.routes import WeightedTarget


class ConnectionRoute(NamedTuple):
    """Where connections go that are passed on unread, and which these are; everything given must hold.

    `server_names` are those that a TLS client asks for, exact or `*.suffix`; `subnets` are addresses that it connects
    to, in CIDR. () is any: a route without either takes every connection.
    `looks_up` is the port on which the server name that is asked for is looked up and called; 0 is none.
    `idle_timeout` and `max_duration` end the client's connection; `by_source` sends one client to one endpoint.
    With `tunnel` the destination is an HTTP proxy, which is asked for the connection.
    """

    targets: tuple[WeightedTarget, ...]
    server_names: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    idle_timeout: int | None = None
    max_duration: int | None = None
    by_source: bool = False
    looks_up: int = 0
    tunnel: Tunnel | None = None
    origin: ObjectKey | None = None
    field: str = ""

    @property
    def takes_all(self) -> bool:
        """Whether nothing is asked of a connection."""
        return not self.server_names and not self.subnets


class OutboundListener(NamedTuple):
    """What a sidecar does with connections to one address and port; address "" is every one without its own listener.

    `http` is the route table for requests, where the first bytes of a connection show that it is HTTP; "" reads none.
    `looks_up` says that names of such requests may have to be looked up.
    `connections` are disjoint: no two take the same connection, and at most one takes all that are left.
    To one that is `bound` the workload connects by itself; to others its connections are redirected. One that is
    `asked` is told by each request which host and port it is for, and takes nothing but requests.
    """

    address: str
    port: int
    http: str = ""
    connections: tuple[ConnectionRoute, ...] = ()
    origins: frozenset[ObjectKey] = frozenset()
    looks_up: bool = False
    bound: bool = False
    asked: bool = False
