"""The filters of HTTPRoutes and GRPCRoutes as what a route does: https://gateway-api.sigs.k8s.io/api-types/httproute/."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ostria.engine import Engine
from ostria.mesh.gateway_api.backends import backend, cluster, named
from ostria.mesh.gateway_api.references import Referrer
from ostria.mesh.model import Cors, HeaderChanges, Headers, MatchKind, Mirror, Redirect, Rewrite, StringMatch, Verdict
from ostria.mesh.virtual_services import Place
from ostria.resources import gateway_api as api

Filter = api.HTTPRouteFilter | api.GRPCRouteFilter

_WELL_KNOWN = {"http": 80, "https": 443}


class Applied(NamedTuple):
    """What the filters of a rule come to. A `fatal` fault means that such requests are answered with an error."""

    headers: Headers = Headers()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: tuple[Mirror, ...] = ()
    cors: Cors | None = None
    fault: Verdict | None = None
    fatal: bool = False


def applied(
    db: Engine, filters: Sequence[Filter], referrer: Referrer, place: Place, *, at_backend: bool = False
) -> Applied:
    """What filters come to at one place; `at_backend` are those of one backend, which change headers only."""
    found = Applied()
    mirrors: list[Mirror] = []
    for each in filters:
        if each.type == "RequestHeaderModifier" and each.request_header_modifier is not None:
            changes = _changes(each.request_header_modifier)
            found = found._replace(headers=found.headers._replace(request=changes))
        elif each.type == "ResponseHeaderModifier" and each.response_header_modifier is not None:
            changes = _changes(each.response_header_modifier)
            found = found._replace(headers=found.headers._replace(response=changes))
        elif each.type == "RequestMirror" and each.request_mirror is not None and not at_backend:
            wanted = named(each.request_mirror.backend_ref, referrer.namespace)
            target = backend(db, wanted, referrer, place.gateway)
            if target.fault is not None:
                found = found._replace(fault=target.fault)
            if not target.fatal:
                mirrors.append(Mirror(cluster(db, target, wanted, place), _share(each.request_mirror)))
        elif isinstance(each, api.HTTPRouteFilter) and not at_backend and _is_http(each):
            found = _http(found, each, place)
        else:
            return Applied(fault=Verdict("InvalidFilter", f'filter "{each.type}" is not supported here'), fatal=True)
    return found._replace(mirrors=tuple(mirrors))


def _is_http(each: api.HTTPRouteFilter) -> bool:
    given = {"RequestRedirect": each.request_redirect, "URLRewrite": each.url_rewrite, "CORS": each.cors}
    return given.get(each.type) is not None


def _http(found: Applied, each: api.HTTPRouteFilter, place: Place) -> Applied:
    if each.request_redirect is not None:
        return found._replace(redirect=_redirect(each.request_redirect, place))
    if each.url_rewrite is not None:
        return found._replace(rewrite=_rewrite(each.url_rewrite))
    return found._replace(cors=_cors(each.cors)) if each.cors is not None else found


def _changes(changes: api.HTTPHeaderFilter) -> HeaderChanges:
    return HeaderChanges(set=_pairs(changes.set), add=_pairs(changes.add), remove=tuple(sorted(changes.remove)))


def _pairs(headers: Iterable[api.HTTPHeader]) -> tuple[tuple[str, str], ...]:
    # Of equal names the first counts (HTTPHeaderFilter).
    found: dict[str, tuple[str, str]] = {}
    for header in headers:
        found.setdefault(header.name.lower(), (header.name, header.value))
    return tuple(sorted(found.values()))


def _share(mirror: api.HTTPRequestMirrorFilter) -> float:
    if mirror.percent is not None:
        return float(mirror.percent)
    if mirror.fraction is not None:
        return 100.0 * mirror.fraction.numerator / (mirror.fraction.denominator or 100)
    return 100.0


def _redirect(redirect: api.HTTPRequestRedirectFilter, place: Place) -> Redirect:
    """A redirect; its port is the one given, else the scheme's own, else the listener's (HTTPRequestRedirectFilter).

    A port that goes without saying is not said.
    """
    scheme = redirect.scheme or ("https" if place.tls else "http")
    port = redirect.port or (_WELL_KNOWN.get(scheme) if redirect.scheme else place.port or None)
    change = redirect.path
    return Redirect(
        code=redirect.status_code or 302,
        scheme=redirect.scheme,
        authority=redirect.hostname,
        port=None if port == _WELL_KNOWN.get(scheme) else port,
        path=change.replace_full_path if change else None,
        path_prefix=_prefix(change),
    )


def _rewrite(rewrite: api.HTTPURLRewriteFilter) -> Rewrite:
    change = rewrite.path
    return Rewrite(
        authority=rewrite.hostname,
        prefix=_prefix(change),
        path=change.replace_full_path if change else None,
    )


def _prefix(change: api.HTTPPathModifier | None) -> str | None:
    """What a prefix is replaced by; by nothing is by the slash that a path begins with."""
    return change.replace_prefix_match or "/" if change and change.replace_prefix_match is not None else None


def _cors(cors: api.HTTPCORSFilter) -> Cors:
    return Cors(
        origins=tuple(_origin(origin) for origin in cors.allow_origins),
        methods=cors.allow_methods,
        headers=cors.allow_headers,
        expose=cors.expose_headers,
        max_age=(5 if cors.max_age is None else cors.max_age) * 1000,
        credentials=cors.allow_credentials,
    )


def _origin(origin: str) -> StringMatch:
    """An origin, in which "*" stands for anything, in the name of a host too."""
    if "*" not in origin:
        return StringMatch(MatchKind.EXACT, origin)
    return StringMatch(MatchKind.REGEX, ".*".join(re.escape(part) for part in origin.split("*")))
