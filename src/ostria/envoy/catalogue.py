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
from ostria.envoy import cds, eds, lds, on_demand, proxyless, rds, sds
from ostria.envoy import names as lookups
from ostria.envoy.bootstrap_patches import BootstrapPatch
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.envoy.patches import hook
from ostria.mesh.traits import EACH, ClientTraits, Scope


class Patched(NamedTuple):
    """What people's patches make of one type's resources (see `patches.hook`)."""

    scope: Callable[[Engine, str], Scope]
    resource: Callable[[Engine, str, Fragment | None, ClientTraits], Fragment | None]
    names: Callable[[Engine, tuple[str, ...], ClientTraits], tuple[str, ...]]


class Served(NamedTuple):
    """How one type is found by name, and listed where it has a wildcard; route tables are patched part by part."""

    scope: Callable[[Engine, str], Scope]
    resource: Callable[[Engine, str, ClientTraits], Fragment | None]
    names: Callable[[Engine, ClientTraits], tuple[str, ...]] | None = None
    patched: Patched | None = None


_CLUSTERS = Patched(hook.cluster_scope, hook.cluster, hook.cluster_names)
_LISTENERS = Patched(hook.listener_scope, hook.listener, hook.listener_names)

SERVED = {
    ResourceType.CLUSTER: Served(cds.scope, cds.resource, cds.names, _CLUSTERS),
    ResourceType.ENDPOINTS: Served(eds.scope, eds.resource),
    ResourceType.LISTENER: Served(lds.scope, lds.resource, lds.names, _LISTENERS),
    ResourceType.ROUTES: Served(rds.scope, rds.resource),
    ResourceType.VIRTUAL_HOST: Served(on_demand.scope, on_demand.resource),
    ResourceType.SECRET: Served(sds.scope, sds.resource),
    ResourceType.EXTENSION: Served(hook.extension_scope, hook.extension),
    ResourceType.NAMES: Served(lookups.scope, lookups.resource, lookups.names),
}


@query
def names(db: Engine, kind: ResourceType, client: ClientTraits) -> tuple[str, ...]:
    """Everything of a type that a proxy has; nothing for types that are only asked for by name."""
    served = SERVED[kind]
    if served.names is None or client.proxyless:
        return ()
    found = served.names(db, client)
    return served.patched.names(db, found, client) if served.patched else found


@query
def scope(db: Engine, kind: ResourceType, name: str) -> Scope:
    """What tells clients apart for one resource, or for the listing, "*"."""
    if name == "*":
        return EACH
    served = SERVED[kind]
    found = served.scope(db, name)
    return found | served.patched.scope(db, name) if served.patched else found


@query
def fragment(db: Engine, kind: ResourceType, name: str, client: ClientTraits) -> Fragment | None:
    """One resource as a client has it. Ask with traits projected on its scope."""
    if client.proxyless:
        return proxyless.resource(db, kind, name, client)
    served = SERVED[kind]
    found = served.resource(db, name, client)
    if client.on_demand and kind is ResourceType.LISTENER and found is not None:
        found = on_demand.waiting(found)
    return served.patched.resource(db, name, found, client) if served.patched else found


def bootstrap_patches(db: Engine, client: ClientTraits) -> list[BootstrapPatch]:
    """What a proxy's agent merges into the bootstrap before it starts Envoy, in this order."""
    return hook.bootstrap(db, client)
