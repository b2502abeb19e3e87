"""What a reader of gateways is: the door by which kinds of objects open ports on gateway workloads.

Istio's Gateway, the Gateway API's and the Ingress each have a reader, a module of its own with a `READER` that is
listed in `gateways.READERS`. It tells which workloads its objects want, which servers they have, and what stands
behind a server; `gateways` joins what all readers say, and nothing below knows which it was.

    Istio Gateway + VirtualService   istio_gateways.READER ┐
    Ingress                          ingress.READER        ├─> gateways: listeners, route tables, virtual hosts
    Gateway API                      gateway_api.READER    ┘

Every function takes the engine first and is a query, or cheap and made of queries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import matches
from ostria.engine import Engine
from ostria.mesh.model import ConnectionRoute, GatewaySelection, GatewayServer, HostRoutes
from ostria.mesh.traits import ClientTraits


class GatewayReader(NamedTuple):
    """How the objects of one kind (the registry's name of it) are read.

    keys       every object of the kind that opens ports
    selection  the workloads that one of them wants; None is none at all
    servers    its servers, `port` still being the object's own number
    hosts      the hosts of which something is said behind one server, each within the server's own; a server of
               which nothing is said yet has none, and answers 404
    routes     what is said of one host within the server's own, for the client's view of the services; none where that
               is nothing. It must not look at what is said of other hosts: each host is asked for by itself, so that
               a rule costs its hosts and not the table. Routes that are the same for two servers of a port are taken
               once; those of a second server follow those of the first.
    connections  where connections go that the server does not read: TCP, TLS that is passed on (by server name, each
               within the server's own; () is every name that the server has), and TLS that is opened but holds no
               HTTP (the same). Of several for one name the first counts.
    """

    kind: str
    keys: Callable[[Engine], tuple[ObjectKey, ...]]
    selection: Callable[[Engine, ObjectKey], GatewaySelection | None]
    servers: Callable[[Engine, ObjectKey], tuple[GatewayServer, ...]]
    hosts: Callable[[Engine, GatewayServer, ClientTraits], tuple[str, ...]]
    routes: Callable[[Engine, GatewayServer, str, ClientTraits], HostRoutes]
    connections: Callable[[Engine, GatewayServer, ClientTraits], tuple[ConnectionRoute, ...]]


def narrower(one: str, other: str) -> str | None:
    """The more specific of two hosts where one covers the other, else None: `a.b.c` of `a.b.c` and `*.c`."""
    if matches(one, other):
        return other
    return one if matches(other, one) else None
