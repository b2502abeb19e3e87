"""The rules of HTTPRoutes and GRPCRoutes as routes, in the order in which the API has them compete.

    HTTPRoute, GRPCRoute -> rules(route, place) -> in_order(all routes of a host)

A request goes by the most specific match of all the routes of its host: an exact path, then the longest prefix, then
the method, then the number of headers and of query parameters; of equal ones the oldest route's, then by name, then the
first rule (https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule). Where no backend can be reached at all, or
a filter cannot be done, the answer is 500.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ostria.base import ObjectKey, durations
from ostria.engine import Engine, query
from ostria.mesh.destinations import milliseconds
from ostria.mesh.gateway_api.backends import backend, cluster, named
from ostria.mesh.gateway_api.declared import route_spec
from ostria.mesh.gateway_api.filters import Applied, applied
from ostria.mesh.gateway_api.references import Referrer
from ostria.mesh.model import (
    ClusterRef,
    DirectResponse,
    HashKey,
    MatchKind,
    NamedMatch,
    RequestMatch,
    Retries,
    Route,
    Session,
    StringMatch,
    Verdict,
    WeightedTarget,
)
from ostria.mesh.virtual_services import Place, default_retries, hash_key_of
from ostria.resources import gateway_api as api

ERROR = DirectResponse(500)

# What is sent again where a rule asks for retries: everything that no answer came of, besides the codes that it names.
_RETRIED = ("connect-failure", "refused-stream", "unavailable", "cancelled", "reset")

Rule = api.HTTPRouteRule | api.GRPCRouteRule


class _Sent(NamedTuple):
    """Where the requests of a rule go, and what is wrong with some of it."""

    targets: tuple[WeightedTarget, ...] = ()
    fault: Verdict | None = None
    fatal: bool = False


@query
def rules(db: Engine, key: ObjectKey, place: Place) -> tuple[Route, ...]:
    """The routes of one HTTPRoute or GRPCRoute at one place, one a match, in the order of the rules."""
    found: list[Route] = []
    for number, rule in enumerate(_rules(db, key)):
        base, _ = _ruled(db, key, place, rule)
        name = rule.name or f"{key.namespace}.{key.name}.{number}"
        if base.targets and rule.session_persistence is not None:
            base = base._replace(session=_session(rule.session_persistence, f"{key.namespace}.{key.name}.{number}"))
        for position, match in enumerate(_matches(rule)):
            field = f"spec.rules[{number}]" + (f".matches[{position}]" if rule.matches else "")
            found.append(base._replace(name=name, match=match, field=field))
    return tuple(found)


@query
def fault(db: Engine, key: ObjectKey, gateway: str) -> Verdict | None:
    """What is wrong with what a route refers to, at gateways ("") or in the mesh (MESH); of several the last rule's."""
    found: Verdict | None = None
    place = Place(gateway, 0)
    for rule in _rules(db, key):
        _, wrong = _ruled(db, key, place, rule)
        found = wrong or found
    return found


def _rules(db: Engine, key: ObjectKey) -> Sequence[Rule]:
    spec = route_spec(db, key)
    if isinstance(spec, api.HTTPRouteSpec):
        # The API's own default: one rule, for everything, with nothing behind it.
        return spec.rules or (api.HTTPRouteRule(),)
    return spec.rules if isinstance(spec, api.GRPCRouteSpec) else ()


def _ruled(db: Engine, key: ObjectKey, place: Place, rule: Rule) -> tuple[Route, Verdict | None]:
    """A rule as a route without a match, and what is wrong with it."""
    referrer = Referrer((api.GROUP, key.kind), key.namespace)
    done = applied(db, rule.filters, referrer, place)
    route = Route("", RequestMatch(), origin=key)
    if done.fatal:
        return route._replace(response=ERROR), done.fault
    if done.redirect is not None:
        return route._replace(redirect=done.redirect, headers=done.headers, cors=done.cors), done.fault
    sent = _sent(db, rule, referrer, place)
    wrong = sent.fault or done.fault
    if sent.fatal or not sent.targets:
        return route._replace(response=ERROR, headers=done.headers, cors=done.cors), wrong
    return _forwarding(db, route, rule, done, sent, place), wrong


def _forwarding(db: Engine, route: Route, rule: Rule, done: Applied, sent: _Sent, place: Place) -> Route:
    timeouts = rule.timeouts if isinstance(rule, api.HTTPRouteRule) else None
    retries = _retries(db, rule.retry if isinstance(rule, api.HTTPRouteRule) else None)
    each = _milliseconds(timeouts.backend_request) if timeouts else None
    return route._replace(
        targets=sent.targets,
        rewrite=done.rewrite,
        timeout=_milliseconds(timeouts.request) if timeouts else None,
        retries=retries._replace(per_try_timeout=each) if each else retries,
        headers=done.headers,
        mirrors=done.mirrors,
        cors=done.cors,
        hash_keys=_hash_keys(db, sent.targets, place),
        missing_status=500,
    )


def _sent(db: Engine, rule: Rule, referrer: Referrer, place: Place) -> _Sent:
    wrong: Verdict | None = None
    targets: list[WeightedTarget] = []
    # A share of nothing is not looked at.
    sharing = [each for each in rule.backend_refs if each.weight != 0]
    for each in sharing:
        wanted = named(each, referrer.namespace)
        found = backend(db, wanted, referrer, place.gateway)
        wrong = found.fault or wrong
        if found.fault is not None and found.fault.reason == "InvalidDestination":
            return _Sent(fault=found.fault, fatal=True)
        own = applied(db, each.filters, referrer, place, at_backend=True)
        if own.fatal:
            return _Sent(fault=own.fault, fatal=True)
        to = cluster(db, found, wanted, place)
        targets.append(WeightedTarget(to, 1 if each.weight is None else each.weight, own.headers))
    # What is missing is kept among the targets: its share of the requests is answered with 500.
    return _Sent(tuple(targets), wrong)


def _hash_keys(db: Engine, targets: Iterable[WeightedTarget], place: Place) -> tuple[HashKey, ...]:
    found: dict[HashKey, None] = {}
    for target in targets:
        key = hash_key_of(db, target.cluster, place.namespace) if isinstance(target.cluster, ClusterRef) else None
        if key is not None:
            found[key] = None
    return tuple(found)


def _session(wanted: api.SessionPersistence, default: str) -> Session:
    """Which client a request is of; what the API leaves open has a name of the rule's own."""
    name = wanted.session_name or f"session-{default}"
    if wanted.type == "Header":
        return Session(name, header=True)
    stays = wanted.cookie_config is not None and wanted.cookie_config.lifetime_type == "Permanent"
    return Session(name, lifetime=_milliseconds(wanted.absolute_timeout) if stays else None)


def _retries(db: Engine, retry: api.HTTPRouteRetry | None) -> Retries:
    if retry is None:
        return default_retries(db)
    return Retries(
        attempts=2 if retry.attempts is None else retry.attempts,
        on=_RETRIED,
        status_codes=retry.codes,
        backoff=_milliseconds(retry.backoff),
    )


def _milliseconds(text: str | None) -> int | None:
    return milliseconds(durations.parse(text)) if text is not None else None


# --- matches ------------------------------------------------------------------------------------------------------


def _matches(rule: Rule) -> tuple[RequestMatch, ...]:
    if isinstance(rule, api.HTTPRouteRule):
        return tuple(map(_http_match, rule.matches)) or (RequestMatch(),)
    return tuple(map(_grpc_match, rule.matches)) or (RequestMatch(),)


def _http_match(match: api.HTTPRouteMatch) -> RequestMatch:
    return RequestMatch(
        path=_path(match.path) if match.path else None,
        method=StringMatch(MatchKind.EXACT, match.method) if match.method else None,
        headers=_named((each.name.lower(), each.type, each.value) for each in match.headers),
        query=_named((each.name, each.type, each.value) for each in match.query_params),
    )


def _path(path: api.HTTPPathMatch) -> StringMatch | None:
    value = "/" if path.value is None else path.value
    if path.type == "Exact":
        return StringMatch(MatchKind.EXACT, value)
    if path.type == "RegularExpression":
        return StringMatch(MatchKind.REGEX, value)
    elements = value.rstrip("/")
    return StringMatch(MatchKind.PATH_PREFIX, elements) if elements else None


def _named(comparisons: Iterable[tuple[str, str | None, str]]) -> tuple[NamedMatch, ...]:
    # Of equal names the first counts (HTTPRouteMatch).
    found: dict[str, NamedMatch] = {}
    for name, kind, value in comparisons:
        found.setdefault(name, NamedMatch(name, _compared(kind, value)))
    return tuple(sorted(found.values()))


def _compared(kind: str | None, value: str) -> StringMatch:
    return StringMatch(MatchKind.REGEX if kind == "RegularExpression" else MatchKind.EXACT, value)


def _grpc_match(match: api.GRPCRouteMatch) -> RequestMatch:
    headers = _named((each.name.lower(), each.type, each.value) for each in match.headers)
    return RequestMatch(path=_call(match.method) if match.method else None, headers=headers)


def _call(method: api.GRPCMethodMatch) -> StringMatch | None:
    """A gRPC method as the path of its requests, /package.Service/Method."""
    service, name = method.service or "", method.method or ""
    if method.type == "RegularExpression":
        return StringMatch(MatchKind.REGEX, f"/{service or '[^/]+'}/{name or '.+'}") if service or name else None
    if service and name:
        return StringMatch(MatchKind.EXACT, f"/{service}/{name}")
    if service:
        return StringMatch(MatchKind.PREFIX, f"/{service}/")
    return StringMatch(MatchKind.REGEX, f"/[^/]+/{re.escape(name)}") if name else None


# --- precedence ---------------------------------------------------------------------------------------------------

_RANKS = {MatchKind.EXACT: 0, MatchKind.PATH_PREFIX: 1, MatchKind.PREFIX: 1, MatchKind.REGEX: 2}


def in_order(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Routes of one host, given by the age of their objects and in the order of their rules, as they compete."""
    return tuple(sorted(routes, key=_specificity))


def _specificity(route: Route) -> tuple[int, int, bool, int, int]:
    match = route.match
    path = match.path
    if path is None:
        rank, length = 3, 0
    else:
        rank, length = _RANKS[path.kind], len(path.value)
    return rank, -length, match.method is None, -len(match.headers), -len(match.query)
