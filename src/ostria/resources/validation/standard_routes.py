"""Routes of the Gateway API: what its CRDs refuse by patterns and CEL.

https://gateway-api.sigs.k8s.io/reference/spec/. What a route refers to is judged by its status and not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ostria.base import durations
from ostria.resources.gateway_api.connection_routes import TCPRoute, TLSRoute
from ostria.resources.gateway_api.grpc_route import GRPCRoute, GRPCRouteFilter, GRPCRouteMatch
from ostria.resources.gateway_api.http_route import (
    HTTPHeaderFilter,
    HTTPHeaderMatch,
    HTTPPathModifier,
    HTTPQueryParamMatch,
    HTTPRequestMirrorFilter,
    HTTPRoute,
    HTTPRouteFilter,
    HTTPRouteMatch,
    HTTPRouteRule,
)
from ostria.resources.gateway_api.shapes import BackendObjectReference, BackendRef, ParentReference, SessionPersistence
from ostria.resources.validation.findings import (
    CONFLICT,
    DUPLICATE,
    INVALID,
    MISSING,
    Findings,
    check_regex,
    check_unique,
    error,
)
from ostria.resources.validation.standard_gateway import check_hostnames

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+", re.ASCII)
_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+", re.ASCII)
_NOT_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F", "#")
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}", re.ASCII)
_SERVICE = re.compile(r"(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*", re.ASCII)
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_CODES = (301, 302, 303, 307, 308)
_TOO_MANY_MATCHES = 128

# Which field goes with which type of filter; those of the second list may stand once in a rule.
_HTTP_FILTERS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestMirror": "request_mirror",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
    "CORS": "cors",
    "ExtensionRef": "extension_ref",
}
_GRPC_FILTERS = {name: field for name, field in _HTTP_FILTERS.items() if field in GRPCRouteFilter.__struct_fields__}
_ONCE = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS")


def validate_http_route(route: HTTPRoute) -> Findings:
    """Everything that is wrong with one HTTPRoute."""
    spec = route.spec
    yield from _common(spec.parent_refs, spec.hostnames)
    yield from check_unique("spec.rules", (rule.name for rule in spec.rules if rule.name), "rule name", ".name")
    if sum(len(rule.matches) for rule in spec.rules) > _TOO_MANY_MATCHES:
        yield error(INVALID, "spec.rules", f"more than {_TOO_MANY_MATCHES} matches in all rules together")
    for index, rule in enumerate(spec.rules):
        yield from _http_rule(f"spec.rules[{index}]", rule)


def validate_grpc_route(route: GRPCRoute) -> Findings:
    """Everything that is wrong with one GRPCRoute."""
    spec = route.spec
    yield from _common(spec.parent_refs, spec.hostnames)
    yield from check_unique("spec.rules", (rule.name for rule in spec.rules if rule.name), "rule name", ".name")
    for index, rule in enumerate(spec.rules):
        field = f"spec.rules[{index}]"
        for number, match in enumerate(rule.matches):
            yield from _grpc_match(f"{field}.matches[{number}]", match)
        yield from _filters(f"{field}.filters", rule.filters, _GRPC_FILTERS)
        for number, backend in enumerate(rule.backend_refs):
            place = f"{field}.backendRefs[{number}]"
            yield from _backend(place, backend.group, backend.kind, backend.port)
            yield from _filters(f"{place}.filters", backend.filters, _GRPC_FILTERS)
        yield from _session(f"{field}.sessionPersistence", rule.session_persistence)


def validate_tls_route(route: TLSRoute) -> Findings:
    """Everything that is wrong with one TLSRoute."""
    yield from _common(route.spec.parent_refs, route.spec.hostnames)
    for index, rule in enumerate(route.spec.rules):
        yield from _backends(f"spec.rules[{index}]", rule.backend_refs)


def validate_tcp_route(route: TCPRoute) -> Findings:
    """Everything that is wrong with one TCPRoute."""
    yield from _common(route.spec.parent_refs, ())
    for index, rule in enumerate(route.spec.rules):
        yield from _backends(f"spec.rules[{index}]", rule.backend_refs)


def _common(parents: Sequence[ParentReference], hostnames: Iterable[str]) -> Findings:
    yield from check_hostnames("spec.hostnames", hostnames)
    seen: list[tuple[tuple[str, ...], tuple[str | None, int | None]]] = []
    for index, parent in enumerate(parents):
        group = "gateway.networking.k8s.io" if parent.group is None else parent.group
        whom = (group, parent.kind or "Gateway", parent.namespace or "", parent.name)
        part = (parent.section_name, parent.port)
        others = [other for known, other in seen if known == whom]
        if any(other == part for other in others):
            yield error(DUPLICATE, f"spec.parentRefs[{index}]", "the same parent is already named")
        elif others and (part == (None, None) or (None, None) in others):
            message = "one parent is named twice: tell its parts apart by sectionName or port"
            yield error(CONFLICT, f"spec.parentRefs[{index}]", message)
        seen.append((whom, part))


def _backends(field: str, backends: Iterable[BackendRef]) -> Findings:
    for index, backend in enumerate(backends):
        yield from _backend(f"{field}.backendRefs[{index}]", backend.group, backend.kind, backend.port)


def _backend(field: str, group: str | None, kind: str | None, port: int | None) -> Findings:
    if not group and kind in (None, "Service") and port is None:
        yield error(MISSING, f"{field}.port", "a Service is named with its port")


# --- HTTP ---------------------------------------------------------------------------------------------------------


def _http_rule(field: str, rule: HTTPRouteRule) -> Findings:
    for index, match in enumerate(rule.matches):
        yield from _http_match(f"{field}.matches[{index}]", match)
    yield from _filters(f"{field}.filters", rule.filters, _HTTP_FILTERS)
    yield from _prefix_replaced(f"{field}.filters", rule.filters, rule.matches)
    if rule.backend_refs and any(step.type == "RequestRedirect" for step in rule.filters):
        yield error(CONFLICT, f"{field}.backendRefs", "a rule that redirects sends nothing to backends")
    for index, backend in enumerate(rule.backend_refs):
        place = f"{field}.backendRefs[{index}]"
        yield from _backend(place, backend.group, backend.kind, backend.port)
        yield from _filters(f"{place}.filters", backend.filters, _HTTP_FILTERS)
        yield from _prefix_replaced(f"{place}.filters", backend.filters, rule.matches)
    if rule.timeouts is not None:
        whole, each = rule.timeouts.request, rule.timeouts.backend_request
        yield from _duration(f"{field}.timeouts.request", whole)
        yield from _duration(f"{field}.timeouts.backendRequest", each)
        if _longer(each, whole):
            message = "a try cannot last longer than the whole request"
            yield error(CONFLICT, f"{field}.timeouts.backendRequest", message)
    if rule.retry is not None:
        yield from _duration(f"{field}.retry.backoff", rule.retry.backoff)
        for index, code in enumerate(rule.retry.codes):
            if not 400 <= code <= 599:
                yield error(INVALID, f"{field}.retry.codes[{index}]", f"{code} is no status of a failure")
    yield from _session(f"{field}.sessionPersistence", rule.session_persistence)


def _session(field: str, session: SessionPersistence | None) -> Findings:
    if session is None:
        return
    yield from _duration(f"{field}.absoluteTimeout", session.absolute_timeout)
    yield from _duration(f"{field}.idleTimeout", session.idle_timeout)
    if session.type not in (None, "Cookie", "Header"):
        yield error(INVALID, f"{field}.type", f'"{session.type[:60]}" is neither Cookie nor Header')
    lifetime = session.cookie_config.lifetime_type if session.cookie_config else None
    if lifetime not in (None, "Permanent", "Session"):
        message = f'"{lifetime[:60]}" is neither Permanent nor Session'
        yield error(INVALID, f"{field}.cookieConfig.lifetimeType", message)
    if lifetime == "Permanent" and session.absolute_timeout is None:
        yield error(MISSING, f"{field}.absoluteTimeout", "a permanent cookie needs an end")


def _http_match(field: str, match: HTTPRouteMatch) -> Findings:
    if match.path is not None:
        kind = match.path.type or "PathPrefix"
        value = "/" if match.path.value is None else match.path.value
        place = f"{field}.path.value"
        if kind == "RegularExpression":
            yield from check_regex(place, value)
        elif kind in ("Exact", "PathPrefix"):
            yield from _path(place, value)
        else:
            yield error(INVALID, f"{field}.path.type", f'"{kind[:60]}" is none of Exact, PathPrefix, RegularExpression')
    if match.method is not None and match.method not in _METHODS:
        yield error(INVALID, f"{field}.method", f'"{match.method[:60]}" is none of {", ".join(_METHODS)}')
    yield from _named(f"{field}.headers", match.headers)
    yield from _named(f"{field}.queryParams", match.query_params)


def _path(field: str, path: str) -> Findings:
    if not path.startswith("/"):
        yield error(INVALID, field, f'"{path[:100]}" does not begin with a slash')
    elif any(part in path for part in _NOT_IN_PATHS) or path.endswith(("/..", "/.")):
        yield error(INVALID, field, f'"{path[:100]}" is not a path in its normal form')
    elif not _PATH.fullmatch(path):
        yield error(INVALID, field, f'"{path[:100]}" has letters that a path cannot have')


def _named(field: str, matches: Sequence[HTTPHeaderMatch | HTTPQueryParamMatch]) -> Findings:
    yield from check_unique(field, (match.name for match in matches), "name", ".name")
    for index, match in enumerate(matches):
        place = f"{field}[{index}]"
        if not _HEADER.fullmatch(match.name):
            yield error(INVALID, f"{place}.name", f'"{match.name[:100]}" cannot be a name')
        yield from _compared(place, match.type, match.value)


def _compared(field: str, kind: str | None, value: str) -> Findings:
    if kind == "RegularExpression":
        yield from check_regex(f"{field}.value", value)
    elif kind not in (None, "Exact"):
        yield error(INVALID, f"{field}.type", f'"{kind[:60]}" is neither Exact nor RegularExpression')


def _prefix_replaced(field: str, filters: Sequence[HTTPRouteFilter], matches: Sequence[HTTPRouteMatch]) -> Findings:
    """A prefix can be replaced only where it is known which: by one match of a PathPrefix."""
    for index, step in enumerate(filters):
        change = step.request_redirect.path if step.request_redirect else None
        change = step.url_rewrite.path if step.url_rewrite else change
        if change is None or change.type != "ReplacePrefixMatch":
            continue
        prefixes = [match for match in matches if match.path is None or match.path.type in (None, "PathPrefix")]
        if len(matches) > 1 or len(prefixes) != len(matches):
            message = "ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix"
            yield error(CONFLICT, f"{field}[{index}]", message)


def _duration(field: str, text: str | None) -> Findings:
    if text is not None and not _DURATION.fullmatch(text):
        yield error(INVALID, field, f'"{text[:60]}" is no duration such as 500ms, 10s or 1h30m')


def _longer(one: str | None, other: str | None) -> bool:
    if one is None or other is None or not _DURATION.fullmatch(one) or not _DURATION.fullmatch(other):
        return False
    bound = durations.parse(other)
    return bool(bound) and durations.parse(one) > bound


# --- gRPC ---------------------------------------------------------------------------------------------------------


def _grpc_match(field: str, match: GRPCRouteMatch) -> Findings:
    method = match.method
    if method is not None:
        if not method.service and not method.method:
            yield error(MISSING, f"{field}.method", "one of service and method is needed")
        if method.type == "RegularExpression":
            for name, text in (("service", method.service), ("method", method.method)):
                if text:
                    yield from check_regex(f"{field}.method.{name}", text)
        elif method.type not in (None, "Exact"):
            yield error(INVALID, f"{field}.method.type", f'"{method.type[:60]}" is neither Exact nor RegularExpression')
        else:
            if method.service and not _SERVICE.fullmatch(method.service):
                yield error(INVALID, f"{field}.method.service", f'"{method.service[:100]}" is no name of a service')
            if method.method and not _METHOD.fullmatch(method.method):
                yield error(INVALID, f"{field}.method.method", f'"{method.method[:100]}" is no name of a method')
    yield from check_unique(f"{field}.headers", (each.name for each in match.headers), "name", ".name")
    for index, header in enumerate(match.headers):
        if not _HEADER.fullmatch(header.name):
            yield error(INVALID, f"{field}.headers[{index}].name", f'"{header.name[:100]}" cannot be a name')
        yield from _compared(f"{field}.headers[{index}]", header.type, header.value)


# --- filters ------------------------------------------------------------------------------------------------------


def _filters(field: str, filters: Sequence[HTTPRouteFilter | GRPCRouteFilter], known: dict[str, str]) -> Findings:
    types = [step.type for step in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        yield error(CONFLICT, field, "RequestRedirect and URLRewrite exclude each other")
    for index, step in enumerate(filters):
        place = f"{field}[{index}]"
        if step.type not in known:
            yield error(INVALID, f"{place}.type", f'"{step.type[:60]}" is none of {", ".join(known)}')
            continue
        if step.type in _ONCE and step.type in types[:index]:
            yield error(DUPLICATE, place, f"{step.type} stands twice")
        given = [name for name in known.values() if getattr(step, name) is not None]
        if given != [known[step.type]]:
            yield error(CONFLICT, place, f"a filter of type {step.type} has exactly the field of that name")
            continue
        for name in ("request_header_modifier", "response_header_modifier"):
            changes = getattr(step, name)
            if changes is not None:
                yield from _header_changes(f"{place}.{step.type[0].lower()}{step.type[1:]}", changes)
        if step.request_mirror is not None:
            yield from _mirror(f"{place}.requestMirror", step.request_mirror)
        if isinstance(step, HTTPRouteFilter):
            yield from _http_filter(place, step)


def _http_filter(field: str, step: HTTPRouteFilter) -> Findings:
    redirect = step.request_redirect
    if redirect is not None:
        place = f"{field}.requestRedirect"
        if redirect.scheme not in (None, "http", "https"):
            yield error(INVALID, f"{place}.scheme", f'"{redirect.scheme[:60]}" is neither http nor https')
        if redirect.status_code is not None and redirect.status_code not in _CODES:
            yield error(INVALID, f"{place}.statusCode", f"{redirect.status_code} is no status of a redirect")
        if redirect.path is not None:
            yield from _modified(f"{place}.path", redirect.path)
    if step.url_rewrite is not None and step.url_rewrite.path is not None:
        yield from _modified(f"{field}.urlRewrite.path", step.url_rewrite.path)


def _modified(field: str, change: HTTPPathModifier) -> Findings:
    given = {"ReplaceFullPath": change.replace_full_path, "ReplacePrefixMatch": change.replace_prefix_match}
    if change.type not in given:
        yield error(INVALID, f"{field}.type", f'"{change.type[:60]}" is neither ReplaceFullPath nor ReplacePrefixMatch')
    elif [kind for kind, value in given.items() if value is not None] != [change.type]:
        yield error(CONFLICT, field, f"type {change.type} goes with exactly the field of that name")


def _header_changes(field: str, changes: HTTPHeaderFilter) -> Findings:
    for part, headers in (("set", changes.set), ("add", changes.add)):
        yield from check_unique(f"{field}.{part}", (each.name for each in headers), "name", ".name")
        for index, header in enumerate(headers):
            if not _HEADER.fullmatch(header.name):
                place = f"{field}.{part}[{index}].name"
                yield error(INVALID, place, f'"{header.name[:100]}" cannot be a header\'s name')
    yield from check_unique(f"{field}.remove", changes.remove, "name")


def _mirror(field: str, mirror: HTTPRequestMirrorFilter) -> Findings:
    reference: BackendObjectReference = mirror.backend_ref
    yield from _backend(f"{field}.backendRef", reference.group, reference.kind, reference.port)
    if mirror.percent is not None and mirror.fraction is not None:
        yield error(CONFLICT, f"{field}.fraction", "percent and fraction exclude each other")
    fraction = mirror.fraction
    if fraction is not None:
        whole = 100 if fraction.denominator is None else fraction.denominator
        if whole < 1 or not 0 <= fraction.numerator <= whole:
            yield error(INVALID, f"{field}.fraction", "the numerator is between 0 and the denominator")
