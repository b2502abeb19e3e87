"""The rules of TLSRoutes and TCPRoutes as connection routes, which other readers yield too.

    TLSRoute, TCPRoute -> rule_targets(route, place) -> connections behind a listener, or to a service of the mesh

Of the rules of one route the first counts: nothing tells the connections of its rules apart.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.connections import routed
from ostria.mesh.gateway_api.backends import backend, cluster, named
from ostria.mesh.gateway_api.declared import route_spec
from ostria.mesh.gateway_api.references import Referrer
from ostria.mesh.model import ConnectionRoute, MissingDestination, Verdict, WeightedTarget
from ostria.mesh.virtual_services import Place
from ostria.resources import gateway_api as api


@query
def connection_fault(db: Engine, key: ObjectKey, gateway: str) -> Verdict | None:
    """What is wrong with what a TLSRoute or TCPRoute refers to, at gateways ("") or in the mesh (MESH)."""
    spec = route_spec(db, key)
    referrer = Referrer((api.GROUP, key.kind), key.namespace)
    found: Verdict | None = None
    for rule in spec.rules if isinstance(spec, api.TLSRouteSpec | api.TCPRouteSpec) else ():
        for each in rule.backend_refs:
            if each.weight != 0:
                found = backend(db, named(each, referrer.namespace), referrer, gateway).fault or found
    return found


@query
def connection_route(db: Engine, key: ObjectKey, server_names: tuple[str, ...], place: Place) -> ConnectionRoute | None:
    """Where connections go by a TLSRoute or TCPRoute at one place; without a backend they are closed."""
    spec = route_spec(db, key)
    if not isinstance(spec, api.TLSRouteSpec | api.TCPRouteSpec) or not spec.rules:
        return None
    referrer = Referrer((api.GROUP, key.kind), key.namespace)
    targets: list[WeightedTarget] = []
    for each in spec.rules[0].backend_refs:
        if each.weight != 0:
            wanted = named(each, referrer.namespace)
            to = cluster(db, backend(db, wanted, referrer, place.gateway), wanted, place)
            targets.append(WeightedTarget(to, 1 if each.weight is None else each.weight))
    if not targets:
        targets.append(WeightedTarget(MissingDestination(f"nothing.{key.name}.{key.namespace}"), 1))
    return routed(db, tuple(targets), place, server_names, (), key, "spec.rules[0]")
