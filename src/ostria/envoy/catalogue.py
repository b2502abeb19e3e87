"""What each proxy may be sent: the three queries that delivery stands on, for all types.

    names(type, client)            what a wildcard subscription lists
    scope(type, name)              what tells clients apart for one resource; "*" is the listing
    fragment(type, name, client)   the resource, encoded, with its origins and references

A resource's name says what it is for, so that a fragment is found from its name alone and a proxy that asks for one
resource costs one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ostria.engine import Engine, query
from ostria.envoy import cds, eds, lds, rds, sds
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import EACH, ClientTraits, Scope


class Served(NamedTuple):
    """How one type is found by name, and listed where it has a wildcard."""

    scope: Callable[[Engine, str], Scope]
    resource: Callable[[Engine, str, ClientTraits], Fragment | None]
    names: Callable[[Engine, ClientTraits], tuple[str, ...]] | None = None


SERVED = {
    ResourceType.CLUSTER: Served(cds.scope, cds.resource, cds.names),
    ResourceType.ENDPOINTS: Served(eds.scope, eds.resource),
    ResourceType.LISTENER: Served(lds.scope, lds.resource, lds.names),
    ResourceType.ROUTES: Served(rds.scope, rds.resource),
    ResourceType.VIRTUAL_HOST: Served(rds.host_scope, rds.host_resource),
    ResourceType.SECRET: Served(sds.scope, sds.resource),
}


@query
def names(db: Engine, kind: ResourceType, client: ClientTraits) -> tuple[str, ...]:
    """Everything of a type that a proxy has; nothing for types that are only asked for by name."""
    listing = SERVED[kind].names
    return listing(db, client) if listing else ()


@query
def scope(db: Engine, kind: ResourceType, name: str) -> Scope:
    """What tells clients apart for one resource, or for the listing, "*"."""
    return EACH if name == "*" else SERVED[kind].scope(db, name)


@query
def fragment(db: Engine, kind: ResourceType, name: str, client: ClientTraits) -> Fragment | None:
    """One resource as a client has it. Ask with traits projected on its scope."""
    return SERVED[kind].resource(db, name, client)
