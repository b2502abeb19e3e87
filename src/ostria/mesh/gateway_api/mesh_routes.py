"""Routes for calls inside the mesh: those whose parent is a Service or a ServiceEntry (GAMMA).

    naming(Service) -> the client namespace's own routes, else those of the Service's namespace -> HostRoutes

A route of the Service's namespace (a producer's) is for every client; one of another namespace (a consumer's) for the
clients of that namespace, and there it stands in the place of the producer's (https://gateway-api.sigs.k8s.io/mesh/).
The hostnames of such routes say nothing: the Service is named.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination_scope
from ostria.mesh.gateway_api.backends import backend, named
from ostria.mesh.gateway_api.connections import connection_route
from ostria.mesh.gateway_api.declared import by_age, route_spec
from ostria.mesh.gateway_api.http_rules import in_order, rules
from ostria.mesh.gateway_api.parents import hostnames, naming, parents_of
from ostria.mesh.gateway_api.references import Referrer
from ostria.mesh.model import ConnectionRoute, HostRoutes, RequestMatch, Route
from ostria.mesh.services import service_scope
from ostria.mesh.traits import Scope
from ostria.mesh.virtual_services import MESH, Place
from ostria.resources import gateway_api as api

_READ = ("HTTPRoute", "GRPCRoute")
_ROUTES = (*_READ, "TLSRoute", "TCPRoute")


@query
def mesh_routes(db: Engine, service: ObjectKey, port: int, namespace: str) -> HostRoutes | None:
    """What is done with requests to a service's port from clients in a namespace; None where no route says it."""
    speaking = [key for key in _named(db, service, _READ) if _is_for(db, key, service, port)]
    own = [key for key in speaking if key.namespace == namespace]
    keys = own or [key for key in speaking if key.namespace == service.namespace]
    if not keys:
        return None
    place = Place(MESH, port, namespace)
    found: list[Route] = []
    for key in keys:
        found += rules(db, key, place)
    return HostRoutes(_reached(in_order(found)), frozenset(keys))


@query
def mesh_connections(
    db: Engine, service: ObjectKey, port: int, kind: str, namespace: str
) -> tuple[ConnectionRoute, ...]:
    """Where connections to a service's port go that are not read, by TLSRoutes or TCPRoutes (`kind`); () is unsaid."""
    speaking = [key for key in _named(db, service, (kind,)) if _is_for(db, key, service, port)]
    own = [key for key in speaking if key.namespace == namespace]
    place = Place(MESH, port, namespace)
    found: list[ConnectionRoute] = []
    for key in own or [key for key in speaking if key.namespace == service.namespace]:
        names = () if kind == "TCPRoute" or "*" in hostnames(db, key) else tuple(sorted(hostnames(db, key)))
        route = connection_route(db, key, names, place)
        if route is not None:
            found.append(route)
            if route.takes_all:
                break
    return tuple(found)


def _reached(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The routes up to the first that takes every request: nothing would ever reach those after it."""
    last = next((number for number, route in enumerate(routes) if route.match == RequestMatch()), len(routes))
    return routes[: last + 1]


@query(few=True)
def mesh_scope(db: Engine, service: ObjectKey) -> Scope:
    """What tells the clients of a service apart by such routes, and by what they see behind them."""
    keys = _named(db, service, _ROUTES)
    consumers = {key.namespace for key in keys if key.namespace != service.namespace}
    return Scope(namespaces=frozenset(consumers).union(*(_seen(db, key) for key in keys)))


def _named(db: Engine, service: ObjectKey, kinds: tuple[str, ...]) -> tuple[ObjectKey, ...]:
    """The routes of these kinds that name a service, the oldest first."""
    keys = (key for key in naming(db, (service.kind, service.namespace, service.name)) if key.kind in kinds)
    return tuple(sorted(keys, key=lambda key: by_age(db, key)))


@query
def _is_for(db: Engine, key: ObjectKey, service: ObjectKey, port: int) -> bool:
    """Whether a route is for a port of a service."""
    own = (parent for parent in parents_of(db, key) if parent.service == service and parent.refused is None)
    return any(parent.port in (0, port) for parent in own)


@query
def _seen(db: Engine, key: ObjectKey) -> frozenset[str]:
    """The client namespaces that may see something else behind a route's backends than the rest."""
    spec = route_spec(db, key)
    found: frozenset[str] = frozenset()
    referrer = Referrer((api.GROUP, key.kind), key.namespace)
    for rule in spec.rules if spec else ():
        for each in rule.backend_refs:
            host = backend(db, named(each, key.namespace), referrer, MESH).host
            found |= (service_scope(db, host) | destination_scope(db, host)) if host else frozenset()
    return found
