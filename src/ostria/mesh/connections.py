"""The reader of VirtualServices' `tls` and `tcp` rules: which connections they take, and where these go.

    VirtualService -> tls_routes, tcp_routes(object, where it is asked from) -> ConnectionRoute

What can be decided before there is a connection (gateways, port, sourceLabels, sourceNamespace) is decided here; what
is left are the server name and the address, by which the proxy tells connections apart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination_labels, destination_scope, traffic_policy
from ostria.mesh.model import ClusterRef, ConnectionRoute, Resolution, WeightedTarget
from ostria.mesh.services import canonical, concrete, service, service_scope
from ostria.mesh.traits import Scope
from ostria.mesh.virtual_services import Place, applies, cluster_of, speaks_to
from ostria.resources import objects
from ostria.resources import virtual_service as api

_EVERYWHERE = ("0.0.0.0/0", "::/0")


@query
def connection_rule_scope(db: Engine, key: ObjectKey) -> Scope | None:
    """What tells clients apart in the connection rules of one VirtualService; None if it has no such rules."""
    spec = _spec(db, key)
    rules: tuple[api.TLSRoute | api.TCPRoute, ...] = (*spec.tls, *spec.tcp)
    matches = [match for rule in rules for match in rule.match]
    targets = [target.destination.host for rule in rules for target in rule.route]
    if not targets:
        return None
    named = frozenset(match.source_namespace for match in matches if match.source_namespace)
    hosts = {concrete(db, canonical(db, host, key.namespace)) for host in targets}
    seen = (destination_scope(db, host) | service_scope(db, host) for host in hosts)
    asked = frozenset(pair for match in matches for pair in match.source_labels.items())
    return Scope(
        namespaces=frozenset().union(speaks_to(db, key) - {"*"}, named, *seen),
        labels=asked.union(*(destination_labels(db, host) for host in hosts)),
    )


@query
def tls_routes(db: Engine, key: ObjectKey, place: Place) -> tuple[ConnectionRoute, ...]:
    """The routes that one VirtualService has at one place for TLS that is passed on unopened, first match first.

    A match that asks the same of a connection as an earlier one is left out: nothing would ever reach it.
    """
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], ConnectionRoute] = {}
    for number, rule in enumerate(_spec(db, key).tls):
        for position, match in enumerate(rule.match):
            if rule.route and applies(match, key, place):
                names = tuple(sorted({name.lower() for name in match.sni_hosts} - {"*"}))
                names = () if "*" in match.sni_hosts else names
                subnets = blocks(match.destination_subnets)
                field = f"spec.tls[{number}].match[{position}]"
                found.setdefault(
                    (names, subnets),
                    routed(db, _targets(db, key, place, rule.route), place, names, subnets, key, field),
                )
    return tuple(found.values())


@query
def tcp_routes(db: Engine, key: ObjectKey, place: Place) -> tuple[ConnectionRoute, ...]:
    """The routes that one VirtualService has at one place for connections of which only addresses are known.

    What follows a route that takes every connection is left out.
    """
    found: list[ConnectionRoute] = []
    for number, rule in enumerate(_spec(db, key).tcp):
        matches = [match for match in rule.match if applies(match, key, place)]
        if not rule.route or (rule.match and not matches):
            continue
        subnets: tuple[str, ...] = ()
        if all(match.destination_subnets for match in matches):
            subnets = blocks(subnet for match in matches for subnet in match.destination_subnets)
        targets = _targets(db, key, place, rule.route)
        found.append(routed(db, targets, place, (), subnets, key, f"spec.tcp[{number}]"))
        if found[-1].takes_all:
            break
    return tuple(found)


def routed(
    db: Engine,
    targets: tuple[WeightedTarget, ...],
    place: Place,
    server_names: tuple[str, ...] = (),
    subnets: tuple[str, ...] = (),
    origin: ObjectKey | None = None,
    field: str = "",
) -> ConnectionRoute:
    """A route with what the DestinationRule of its first destination says of connections (as Istio does it)."""
    first = targets[0].cluster
    if not isinstance(first, ClusterRef):
        return ConnectionRoute(targets, server_names, subnets, origin=origin, field=field)
    called = service(db, first.host, place.namespace)
    policy = traffic_policy(db, first.host, place.namespace, first.port, first.subset, place.labels)
    return ConnectionRoute(
        targets,
        server_names,
        subnets,
        idle_timeout=policy.pool.idle_timeout,
        max_duration=policy.pool.max_connection_duration,
        by_source=policy.hash_key is not None and policy.hash_key.source == "source_ip",
        looks_up=first.port if called is not None and called.resolution is Resolution.DYNAMIC_DNS else 0,
        tunnel=policy.tunnel,
        origin=origin,
        field=field,
    )


def blocks(subnets: Iterable[str]) -> tuple[str, ...]:
    """Subnets in their one spelling, sorted; () where one of them is every address. What is none is left out."""
    found = set()
    for subnet in subnets:
        try:
            found.add(str(ipaddress.ip_network(subnet, strict=False)))
        except ValueError:
            continue
    return () if found.intersection(_EVERYWHERE) else tuple(sorted(found))


def _spec(db: Engine, key: ObjectKey) -> api.VirtualServiceSpec:
    value = objects(db, key)
    assert isinstance(value, api.VirtualService), key
    return value.spec


def _targets(
    db: Engine, key: ObjectKey, place: Place, destinations: tuple[api.RouteDestination, ...]
) -> tuple[WeightedTarget, ...]:
    """Where a rule's connections go; a share of nothing is no destination, unless it is the only one."""
    alone = len(destinations) == 1

    def targets() -> Iterator[WeightedTarget]:
        for each in destinations:
            if each.weight or alone:
                to = each.destination
                host = canonical(db, to.host, key.namespace)
                cluster = cluster_of(db, host, to.port.number if to.port else None, to.subset, place)
                yield WeightedTarget(cluster, 100 if alone and not each.weight else each.weight)

    # Weights that are all 0 are refused by validation; what slipped past goes to the first.
    return tuple(targets()) or _targets(db, key, place, destinations[:1])
