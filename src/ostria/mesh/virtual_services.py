"""The reader of VirtualServices: which one speaks for a host, and what its rules are as routes.

    VirtualService -> bound(gateway), speaking_for(host) -> http_routes(object, where it is asked from) -> Route

What is below knows only routes. A rule with several matches becomes several routes; a rule that does not apply where
it is asked from (gateways, port, sourceLabels, sourceNamespace) becomes none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh import http_rules as say
from ostria.mesh.delegation import merged
from ostria.mesh.destinations import destination, destination_labels, destination_scope, milliseconds, traffic_policy
from ostria.mesh.model import (
    ClusterRef,
    HashKey,
    Labels,
    Mirror,
    MissingDestination,
    RequestMatch,
    Retries,
    Route,
    WeightedTarget,
)
from ostria.mesh.services import (
    age,
    canonical,
    concrete,
    is_visible,
    reference,
    references_to,
    service,
    service_scope,
    visibility,
    wildcards_over,
)
from ostria.mesh.settings import default_export_to, mesh_config
from ostria.mesh.tenancy import speaks_for
from ostria.mesh.traits import Scope
from ostria.resources import Object, objects
from ostria.resources import virtual_service as api

MESH = "mesh"


class Place(NamedTuple):
    """Where a rule is asked from: a gateway ("mesh" for sidecars), a port, and the client's namespace and labels."""

    gateway: str
    port: int
    namespace: str = ""
    labels: Labels = ()
    tls: bool = False


def gateway_reference(name: str, namespace: str) -> str:
    """A gateway as "namespace/name", as an object in `namespace` writes it; "mesh" is no object and stays.

    A name with dots is the old way to name another namespace: `edge.shop`, `edge.shop.svc.cluster.local`.
    """
    if name == MESH:
        return name
    where, slash, rest = name.partition("/")
    if slash:
        return f"{namespace}/{rest}" if where == "." else name
    parts = name.split(".")
    return f"{parts[1]}/{parts[0]}" if len(parts) > 1 else f"{namespace}/{name}"


def _gateways(key: ObjectKey, value: api.VirtualService) -> set[str]:
    return {gateway_reference(name, key.namespace) for name in value.spec.gateways} or {MESH}


def _speaking(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, api.VirtualService):
        hosts = {reference(host, key.namespace) for host in value.spec.hosts}
        yield from ((gateway, host) for gateway in _gateways(key, value) for host in hosts)


def _bound(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, api.VirtualService) and value.spec.hosts:
        yield from _gateways(key, value)


speaking = Index("mesh.virtual_services.speaking", objects, _speaking)
bound = Index("mesh.virtual_services.bound", objects, _bound)


def _virtual_service(db: Engine, key: ObjectKey) -> api.VirtualService:
    value = objects(db, key)
    assert isinstance(value, api.VirtualService), key
    return value


@query
def visible_in(db: Engine, key: ObjectKey) -> frozenset[str]:
    """The namespaces that one VirtualService is exported to: whose gateways and roots may use it."""
    exported = _virtual_service(db, key).spec.export_to or default_export_to(db, "VirtualService")
    return visibility(exported, key.namespace)


@query
def speaks_to(db: Engine, key: ObjectKey) -> frozenset[str]:
    """The namespaces whose sidecars go by one VirtualService."""
    hosts = [canonical(db, host, key.namespace) for host in _virtual_service(db, key).spec.hosts]
    return speaks_for(db, hosts, key.namespace, visible_in(db, key))


@query
def wildcard_speakers(db: Engine, parent: str) -> tuple[ObjectKey, ...]:
    """Who speaks in the mesh for all hosts under a domain: one query, since every host under it asks."""
    groups = (speaking(db, (MESH, wildcard)) for wildcard in wildcards_over(f"*.{parent}" if parent else "*"))
    return tuple(key for group in groups for key in sorted(group, key=lambda key: (age(db, key), key)))


@query
def candidates(db: Engine, host: str) -> tuple[ObjectKey, ...]:
    """The VirtualServices that could speak for a host to sidecars: the most specific host first, then the oldest."""
    return tuple(dict.fromkeys((*speakers(db, host), *wildcard_speakers(db, host.partition(".")[2]))))


def speakers(db: Engine, host: str) -> list[ObjectKey]:
    """The VirtualServices that name a host, or a pattern, in the mesh, the oldest first."""
    keys = [key for form in references_to(db, host) for key in speaking(db, (MESH, form))]
    return sorted(keys, key=lambda key: (age(db, key), key))


def speaks_in_mesh(value: api.VirtualService) -> bool:
    """Whether a VirtualService has rules for sidecars."""
    return not value.spec.gateways or MESH in value.spec.gateways


@query
def source_labels(db: Engine, key: ObjectKey) -> frozenset[tuple[str, str]]:
    """The label pairs that the rules of one VirtualService ask of the client."""
    spec = _virtual_service(db, key).spec
    matches = [match.source_labels for rule in spec.http for match in rule.match]
    matches += [match.source_labels for rule in spec.tls for match in rule.match]
    matches += [match.source_labels for rule in spec.tcp for match in rule.match]
    return frozenset(pair for labels in matches for pair in labels.items())


@query
def rule_scope(db: Engine, key: ObjectKey) -> Scope:
    """What tells the clients of one VirtualService's requests apart: what is asked of them, and what they see of it."""
    rules = [each.rule for each in http_rules(db, key)]
    matches = [match for rule in rules for match in rule.match]
    named = frozenset(match.source_namespace for match in matches if match.source_namespace)
    hosts = {target.destination.host for rule in rules for target in rule.route}
    hosts |= {rule.mirror.host for rule in rules if rule.mirror}
    hosts |= {mirror.destination.host for rule in rules for mirror in rule.mirrors}
    hosts = {concrete(db, host) for host in hosts}
    seen = (destination_scope(db, host) | service_scope(db, host) for host in hosts)
    asked = frozenset(pair for match in matches for pair in match.source_labels.items())
    labels = asked.union(*(destination_labels(db, host) for host in hosts))
    return Scope(namespaces=frozenset().union(speaks_to(db, key) - {"*"}, named, *seen), labels=labels)


@query
def named_destinations(db: Engine, key: ObjectKey) -> frozenset[tuple[str, int]]:
    """The hosts, with a port or 0 for none in particular, that one VirtualService sends anything to."""
    spec, rules = _virtual_service(db, key).spec, [each.rule for each in http_rules(db, key)]
    named = [target.destination for rule in rules for target in rule.route]
    named += [rule.mirror for rule in rules if rule.mirror]
    named += [mirror.destination for rule in rules for mirror in rule.mirrors]
    named += [target.destination for rule in spec.tls for target in rule.route]
    named += [target.destination for rule in spec.tcp for target in rule.route]
    hosts = [(concrete(db, canonical(db, to.host, key.namespace)), to.port) for to in named]
    return frozenset((host, port.number if port else 0) for host, port in hosts)


# --- rules as routes ----------------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """One rule for requests, and where it is written: the field of the object it stands in, a delegate or the root.

    Its destinations and gateways are written out in full, so that it means the same wherever it is read.
    """

    rule: api.HTTPRoute
    origin: ObjectKey
    field: str


class Delegated(NamedTuple):
    """What came of one delegation: `delegate` is None where there is none that the root may use."""

    field: str
    name: str
    delegate: ObjectKey | None
    refused: tuple[str, ...] = ()  # The fields of the delegate's rules that contradict the root's.


class _Rules(NamedTuple):
    rules: tuple[Rule, ...]
    delegated: tuple[Delegated, ...]


@query
def _rules(db: Engine, key: ObjectKey) -> _Rules:
    rules: list[Rule] = []
    delegated: list[Delegated] = []
    for number, rule in enumerate(_virtual_service(db, key).spec.http):
        field = f"spec.http[{number}]"
        root = _in_full(db, key, rule)
        if rule.delegate is None:
            rules.append(Rule(root, key, field))
            continue
        name = ObjectKey(key.cluster, key.kind, rule.delegate.namespace or key.namespace, rule.delegate.name)
        value = objects(db, name)
        if not isinstance(value, api.VirtualService) or value.spec.hosts or not _may_use(db, name, key.namespace):
            delegated.append(Delegated(field, f"{name.namespace}/{name.name}", None))
            continue
        refused: list[str] = []
        for position, own in enumerate(value.spec.http):
            place = f"spec.http[{position}]"
            # There is one level only: a delegate that delegates is refused by validation.
            one = merged(root, _in_full(db, name, own)) if own.delegate is None else None
            if one is None:
                refused.append(place)
            else:
                rules.append(Rule(one, name, place))
        delegated.append(Delegated(field, f"{name.namespace}/{name.name}", name, tuple(refused)))
    return _Rules(tuple(rules), tuple(delegated))


def _may_use(db: Engine, delegate: ObjectKey, namespace: str) -> bool:
    return is_visible(visible_in(db, delegate), namespace)


def http_rules(db: Engine, key: ObjectKey) -> tuple[Rule, ...]:
    """The rules of one VirtualService for requests, those of its delegates in their places."""
    return _rules(db, key).rules


def delegations(db: Engine, key: ObjectKey) -> tuple[Delegated, ...]:
    """What came of each delegation of one VirtualService."""
    return _rules(db, key).delegated


def delegates_of(db: Engine, key: ObjectKey) -> frozenset[ObjectKey]:
    """The VirtualServices that one delegates to."""
    return frozenset(each.delegate for each in _rules(db, key).delegated if each.delegate)


def _in_full(db: Engine, key: ObjectKey, rule: api.HTTPRoute) -> api.HTTPRoute:
    """A rule with its hosts and gateways as they are called everywhere, not just where it is written."""

    def full(to: api.Destination) -> api.Destination:
        return replace(to, host=canonical(db, to.host, key.namespace))

    def gateways(match: api.HTTPMatchRequest) -> api.HTTPMatchRequest:
        return replace(match, gateways=tuple(gateway_reference(name, key.namespace) for name in match.gateways))

    return replace(
        rule,
        match=tuple(gateways(match) if match.gateways else match for match in rule.match),
        route=tuple(replace(target, destination=full(target.destination)) for target in rule.route),
        mirror=full(rule.mirror) if rule.mirror else None,
        mirrors=tuple(replace(mirror, destination=full(mirror.destination)) for mirror in rule.mirrors),
    )


@query
def http_routes(db: Engine, key: ObjectKey, place: Place) -> tuple[Route, ...]:
    """The routes of one VirtualService at one place, first match first.

    What follows a route that takes every request is left out: nothing would ever reach it.
    """
    routes: list[Route] = []
    for each in http_rules(db, key):
        for position, match in enumerate(each.rule.match or (None,)):
            if match is not None and not applies(match, key, place):
                continue
            field = each.field + (f".match[{position}]" if match is not None else "")
            routes.append(_route(db, place, each.rule, match)._replace(origin=each.origin, field=field))
            if routes[-1].match.takes_all:
                return tuple(routes)
    return tuple(routes)


def applies(
    match: api.HTTPMatchRequest | api.TLSMatchAttributes | api.L4MatchAttributes, key: ObjectKey, place: Place
) -> bool:
    """Whether a match of the object `key` can hold at a place at all."""
    gateways = {gateway_reference(name, key.namespace) for name in match.gateways}
    return (
        (not gateways or place.gateway in gateways)
        and (not match.port or match.port == place.port)
        and (not match.source_namespace or match.source_namespace == place.namespace)
        and all(pair in place.labels for pair in match.source_labels.items())
    )


def _route(db: Engine, place: Place, rule: api.HTTPRoute, match: api.HTTPMatchRequest | None) -> Route:
    targets = _targets(db, place, rule)
    hash_keys = _hash_keys(db, place, targets)
    retries = say.retries(rule.retries) if rule.retries else default_retries(db)
    unsaid = rule.retries is None or rule.retries.retry_ignore_previous_hosts is None
    if len(targets) == 1 and hash_keys and unsaid:
        # Who hashes wants the one host, also when it is asked again.
        retries = retries._replace(ignore_previous_hosts=False)
    fault = rule.fault or api.HTTPFaultInjection()
    return Route(
        name=".".join(part for part in (rule.name, match.name if match else "") if part),
        match=say.request_match(match) if match else RequestMatch(),
        targets=targets,
        redirect=say.redirect(rule.redirect, place.port, tls=place.tls) if rule.redirect else None,
        response=say.direct_response(rule.direct_response) if rule.direct_response else None,
        rewrite=say.rewrite(rule.rewrite) if rule.rewrite else None,
        timeout=milliseconds(rule.timeout),
        retries=retries,
        delay=say.delay(fault.delay) if fault.delay else None,
        abort=say.abort(fault.abort) if fault.abort else None,
        headers=say.headers(rule.headers),
        mirrors=_mirrors(db, place, rule),
        cors=say.cors(rule.cors_policy) if rule.cors_policy else None,
        hash_keys=hash_keys,
        stat_prefix=match.stat_prefix if match else "",
    )


def cluster_of(db: Engine, host: str, port: int | None, subset: str, place: Place) -> ClusterRef | MissingDestination:
    """The cluster that a destination means to a client at `place`; without a port, the service's only one.

    A host, port or subset that does not exist (for this client) is a missing destination.
    """
    host = concrete(db, host)
    found = service(db, host, place.namespace)
    if found is None:
        return MissingDestination(host, port or place.port, subset)
    if port is None:
        port = found.ports[0].number if len(found.ports) == 1 else place.port
    if found.port(port) is None or (
        subset and destination(db, host, place.namespace, place.labels).subset(subset) is None
    ):
        return MissingDestination(host, port, subset)
    return ClusterRef(host, port, subset)


def _cluster(db: Engine, place: Place, to: api.Destination) -> ClusterRef | MissingDestination:
    return cluster_of(db, to.host, to.port.number if to.port else None, to.subset, place)


def _targets(db: Engine, place: Place, rule: api.HTTPRoute) -> tuple[WeightedTarget, ...]:
    alone = len(rule.route) == 1
    return tuple(
        WeightedTarget(
            _cluster(db, place, target.destination),
            # A weight that is not written is 0, and the whole where there is no other destination.
            100 if alone and not target.weight else target.weight,
            say.headers(target.headers),
        )
        for target in rule.route
        if target.weight or alone
    )


def _mirrors(db: Engine, place: Place, rule: api.HTTPRoute) -> tuple[Mirror, ...]:
    return tuple(Mirror(_cluster(db, place, to), share) for to, share in say.mirrored(rule))


def _hash_keys(db: Engine, place: Place, targets: tuple[WeightedTarget, ...]) -> tuple[HashKey, ...]:
    found: dict[HashKey, None] = {}
    for target in targets:
        if isinstance(target.cluster, ClusterRef):
            hash_key = hash_key_of(db, target.cluster, place.namespace, place.labels)
            if hash_key:
                found[hash_key] = None
    return tuple(found)


def hash_key_of(db: Engine, cluster: ClusterRef, namespace: str, labels: Labels = ()) -> HashKey | None:
    """What consistent hashing towards a cluster hashes, or None where it balances otherwise."""
    return traffic_policy(db, cluster.host, namespace, cluster.port, cluster.subset, labels).hash_key


@query
def default_retries(db: Engine) -> Retries:
    """What happens to failed requests of routes that do not say it themselves."""
    policy = mesh_config(db).default_http_retry_policy
    return say.retries(policy) if policy else Retries()
