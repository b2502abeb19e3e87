"""The reader of VirtualServices: which one speaks for a host, and what its rules are as routes.

    VirtualService -> bound(gateway), speaking_for(host) -> http_routes(object, where it is asked from) -> Route

What is below knows only routes. A rule with several matches becomes several routes; a rule that does not apply where
it is asked from (gateways, port, sourceLabels, sourceNamespace) becomes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.destinations import destination, destination_labels, destination_scope, milliseconds, traffic_policy
from ostria.mesh.model import (
    Abort,
    ClusterRef,
    Cors,
    Delay,
    DirectResponse,
    HashKey,
    HeaderChanges,
    Headers,
    Labels,
    MatchKind,
    Mirror,
    MissingDestination,
    NamedMatch,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
    Route,
    StringMatch,
    WeightedTarget,
)
from ostria.mesh.services import (
    age,
    canonical,
    is_visible,
    reference,
    references_to,
    service,
    service_scope,
    visibility,
    wildcards_over,
)
from ostria.mesh.settings import default_export_to, mesh_config
from ostria.mesh.traits import Scope
from ostria.resources import Object, objects
from ostria.resources import virtual_service as api

MESH = "mesh"

# github.com/grpc/grpc, Status codes and their use in gRPC.
GRPC_CODES = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}


class Place(NamedTuple):
    """Where a rule is asked from: a gateway ("mesh" for sidecars), a port, and the client's namespace and labels."""

    gateway: str
    port: int
    namespace: str = ""
    labels: Labels = ()
    tls: bool = False


def gateway_reference(name: str, namespace: str) -> str:
    """A gateway as "namespace/name", as an object in `namespace` writes it; "mesh" is no object and stays."""
    return name if name == MESH or "/" in name else f"{namespace}/{name}"


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
    """The namespaces whose clients one VirtualService speaks to."""
    exported = _virtual_service(db, key).spec.export_to or default_export_to(db, "VirtualService")
    return visibility(exported, key.namespace)


@query
def wildcard_speakers(db: Engine, parent: str) -> tuple[ObjectKey, ...]:
    """Who speaks in the mesh for all hosts under a domain: one query, since every host under it asks."""
    groups = (speaking(db, (MESH, wildcard)) for wildcard in wildcards_over(f"*.{parent}" if parent else "*"))
    return tuple(key for group in groups for key in sorted(group, key=lambda key: (age(db, key), key)))


@query
def candidates(db: Engine, host: str) -> tuple[ObjectKey, ...]:
    """The VirtualServices that could speak for a host to sidecars: the most specific host first, then the oldest."""
    exact = [key for form in references_to(db, host) for key in speaking(db, (MESH, form))]
    exact.sort(key=lambda key: (age(db, key), key))
    return tuple(dict.fromkeys((*exact, *wildcard_speakers(db, host.partition(".")[2]))))


@query
def speaking_for(db: Engine, host: str, namespace: str) -> ObjectKey | None:
    """The VirtualService that decides for a host when a sidecar in `namespace` calls it, or None."""
    found = (key for key in candidates(db, host) if is_visible(visible_in(db, key), namespace))
    return next(found, None)


@query
def source_labels(db: Engine, key: ObjectKey) -> frozenset[tuple[str, str]]:
    """The label pairs that the rules of one VirtualService ask of the client."""
    matches = (match for rule in _virtual_service(db, key).spec.http for match in rule.match)
    return frozenset(pair for match in matches for pair in match.source_labels.items())


@query
def rule_scope(db: Engine, key: ObjectKey) -> Scope:
    """What tells the clients of one VirtualService apart: what its rules ask of them, and what they see behind it."""
    spec = _virtual_service(db, key).spec
    matches = [match for rule in spec.http for match in rule.match]
    named = frozenset(match.source_namespace for match in matches if match.source_namespace)
    hosts = _destinations(db, key, spec)
    seen = (destination_scope(db, host) | service_scope(db, host) for host in hosts)
    labels = source_labels(db, key).union(*(destination_labels(db, host) for host in hosts))
    return Scope(namespaces=frozenset().union(visible_in(db, key) - {"*"}, named, *seen), labels=labels)


def _destinations(db: Engine, key: ObjectKey, spec: api.VirtualServiceSpec) -> set[str]:
    named = [target.destination.host for rule in spec.http for target in rule.route]
    named += [rule.mirror.host for rule in spec.http if rule.mirror]
    named += [mirror.destination.host for rule in spec.http for mirror in rule.mirrors]
    return {canonical(db, host, key.namespace) for host in named}


@query
def named_destinations(db: Engine, key: ObjectKey) -> frozenset[tuple[str, int]]:
    """The hosts, with a port or 0 for none in particular, that one VirtualService sends anything to."""
    spec = _virtual_service(db, key).spec
    named = [target.destination for rule in spec.http for target in rule.route]
    named += [rule.mirror for rule in spec.http if rule.mirror]
    named += [mirror.destination for rule in spec.http for mirror in rule.mirrors]
    named += [target.destination for rule in spec.tls for target in rule.route]
    named += [target.destination for rule in spec.tcp for target in rule.route]
    return frozenset((canonical(db, to.host, key.namespace), to.port.number if to.port else 0) for to in named)


# --- rules as routes ----------------------------------------------------------------------------------------------


@query
def http_routes(db: Engine, key: ObjectKey, place: Place) -> tuple[Route, ...]:
    """The routes of one VirtualService at one place, first match first.

    What follows a route that takes every request is left out: nothing would ever reach it.
    """
    spec = _virtual_service(db, key).spec
    routes: list[Route] = []
    for number, rule in enumerate(spec.http):
        for position, match in enumerate(rule.match or (None,)):
            # Delegation is not acted on yet (analysis/unsupported says so); the rules after it still are.
            if rule.delegate or (match is not None and not applies(match, key, place)):
                continue
            field = f"spec.http[{number}]" + (f".match[{position}]" if match is not None else "")
            routes.append(_route(db, key, place, rule, match, field))
            if routes[-1].match == RequestMatch():
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


def _route(
    db: Engine, key: ObjectKey, place: Place, rule: api.HTTPRoute, match: api.HTTPMatchRequest | None, field: str
) -> Route:
    asked = _match(match) if match else RequestMatch()
    targets = _targets(db, key, place, rule)
    return Route(
        name=".".join(part for part in (rule.name, match.name if match else "") if part),
        match=asked,
        targets=targets,
        redirect=_redirect(rule.redirect, place) if rule.redirect else None,
        response=_response(rule.direct_response) if rule.direct_response else None,
        rewrite=_rewrite(rule.rewrite) if rule.rewrite else None,
        timeout=milliseconds(rule.timeout),
        retries=retries(rule.retries) if rule.retries else default_retries(db),
        delay=_delay(rule.fault.delay) if rule.fault and rule.fault.delay else None,
        abort=_abort(rule.fault.abort) if rule.fault and rule.fault.abort else None,
        headers=_headers(rule.headers),
        mirrors=_mirrors(db, key, place, rule),
        cors=_cors(rule.cors_policy) if rule.cors_policy else None,
        hash_keys=_hash_keys(db, place, targets),
        origin=key,
        field=field,
    )


def _match(match: api.HTTPMatchRequest) -> RequestMatch:
    return RequestMatch(
        path=_string(match.uri) if match.uri else None,
        ignore_case=match.ignore_uri_case,
        method=_string(match.method) if match.method else None,
        authority=_string(match.authority) if match.authority else None,
        scheme=_string(match.scheme) if match.scheme else None,
        headers=_named(match.headers),
        without_headers=_named(match.without_headers),
        query=_named(match.query_params),
    )


def _named(matches: Mapping[str, api.StringMatch]) -> tuple[NamedMatch, ...]:
    return tuple(NamedMatch(name, _string(match)) for name, match in sorted(matches.items()))


def _string(match: api.StringMatch) -> StringMatch:
    if match.exact is not None:
        return StringMatch(MatchKind.EXACT, match.exact)
    if match.prefix is not None:
        return StringMatch(MatchKind.PREFIX, match.prefix)
    if match.regex is not None:
        return StringMatch(MatchKind.REGEX, match.regex)
    return StringMatch(MatchKind.PRESENT)


def cluster_of(db: Engine, host: str, port: int | None, subset: str, place: Place) -> ClusterRef | MissingDestination:
    """The cluster that a destination means to a client at `place`; without a port, the service's only one.

    A host, port or subset that does not exist (for this client) is a missing destination.
    """
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


def _cluster(db: Engine, key: ObjectKey, place: Place, to: api.Destination) -> ClusterRef | MissingDestination:
    host = canonical(db, to.host, key.namespace)
    return cluster_of(db, host, to.port.number if to.port else None, to.subset, place)


def _targets(db: Engine, key: ObjectKey, place: Place, rule: api.HTTPRoute) -> tuple[WeightedTarget, ...]:
    alone = len(rule.route) == 1
    return tuple(
        WeightedTarget(
            _cluster(db, key, place, target.destination),
            # A weight that is not written is 0, and the whole where there is no other destination.
            100 if alone and not target.weight else target.weight,
            _headers(target.headers),
        )
        for target in rule.route
        if target.weight or alone
    )


def _mirrors(db: Engine, key: ObjectKey, place: Place, rule: api.HTTPRoute) -> tuple[Mirror, ...]:
    found = [(mirror.destination, mirror.percentage) for mirror in rule.mirrors]
    if rule.mirror:
        share = rule.mirror_percentage
        if share is None and rule.mirror_percent is not None:
            share = api.Percent(value=float(rule.mirror_percent))
        found.insert(0, (rule.mirror, share))
    return tuple(Mirror(_cluster(db, key, place, to), share.value if share else 100.0) for to, share in found)


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


def _redirect(redirect: api.HTTPRedirect, place: Place) -> Redirect:
    port = redirect.port
    if redirect.derive_port == "FROM_REQUEST_PORT":
        port = place.port
    elif redirect.derive_port == "FROM_PROTOCOL_DEFAULT":
        scheme = redirect.scheme or ("https" if place.tls else "http")
        port = 443 if scheme == "https" else 80
    prefix = redirect.uri.removeprefix("%PREFIX()%") if redirect.uri.startswith("%PREFIX()%") else None
    return Redirect(
        code=redirect.redirect_code or 301,
        scheme=redirect.scheme or None,
        authority=redirect.authority or None,
        port=port,
        path=redirect.uri or None if prefix is None else None,
        path_prefix=prefix,
    )


def _response(response: api.HTTPDirectResponse) -> DirectResponse:
    body = response.body
    if body is None:
        return DirectResponse(response.status)
    return DirectResponse(response.status, body.bytes if body.bytes is not None else (body.string or "").encode())


def _rewrite(rewrite: api.HTTPRewrite) -> Rewrite:
    regex = rewrite.uri_regex_rewrite
    return Rewrite(
        authority=rewrite.authority or None,
        prefix=rewrite.uri or None,
        regex=(regex.match, regex.rewrite) if regex else None,
    )


def retries(policy: api.HTTPRetry) -> Retries:
    """Retries as written; conditions that are numbers are response codes (istio.io: HTTPRetry.retryOn)."""
    default = Retries()
    words = [word.strip() for word in policy.retry_on.split(",") if word.strip()]
    codes = tuple(int(word) for word in words if word.isdigit())
    named = tuple(word for word in words if not word.isdigit())
    if codes and "retriable-status-codes" not in named:
        named = (*named, "retriable-status-codes")
    return Retries(
        attempts=policy.attempts,
        on=named or default.on,
        status_codes=codes,
        per_try_timeout=milliseconds(policy.per_try_timeout),
        backoff=milliseconds(policy.backoff),
        remote_localities=bool(policy.retry_remote_localities),
        ignore_previous_hosts=policy.retry_ignore_previous_hosts is not False,
    )


@query
def default_retries(db: Engine) -> Retries:
    """What happens to failed requests of routes that do not say it themselves."""
    policy = mesh_config(db).default_http_retry_policy
    return retries(policy) if policy else Retries()


def _delay(delay: api.Delay) -> Delay | None:
    duration = milliseconds(delay.fixed_delay)
    return Delay(duration, _share(delay.percentage, delay.percent)) if duration else None


def _abort(abort: api.Abort) -> Abort | None:
    share = _share(abort.percentage, 0)
    if abort.grpc_status is not None:
        return Abort(share, grpc_status=GRPC_CODES.get(abort.grpc_status.upper()))
    return Abort(share, http_status=abort.http_status) if abort.http_status else None


def _share(percentage: api.Percent | None, deprecated: int) -> float:
    return percentage.value if percentage else float(deprecated)


def _cors(cors: api.CorsPolicy) -> Cors:
    origins = tuple(_string(origin) for origin in cors.allow_origins)
    return Cors(
        origins=origins or tuple(StringMatch(MatchKind.EXACT, origin) for origin in cors.allow_origin),
        methods=cors.allow_methods,
        headers=cors.allow_headers,
        expose=cors.expose_headers,
        max_age=milliseconds(cors.max_age),
        credentials=cors.allow_credentials,
    )


def _headers(headers: api.Headers | None) -> Headers:
    if headers is None:
        return Headers()
    return Headers(_changes(headers.request), _changes(headers.response))


def _changes(operations: api.HeaderOperations | None) -> HeaderChanges:
    if operations is None:
        return HeaderChanges()
    return HeaderChanges(
        set=tuple(sorted(operations.set.items())),
        add=tuple(sorted(operations.add.items())),
        remove=tuple(sorted(operations.remove)),
    )
