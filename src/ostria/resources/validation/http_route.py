"""One HTTP route of a VirtualService: matches, destinations, and what is done to requests on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ostria.base.selectors import is_label_value
from ostria.resources.validation.findings import (
    CONFLICT,
    DEPRECATED,
    INVALID,
    MISSING,
    Findings,
    check_duration,
    check_labels,
    check_not_negative,
    check_pattern,
    check_percent,
    check_port,
    check_regex,
    entry,
    error,
    warning,
)
from ostria.resources.virtual_service import (
    CorsPolicy,
    Destination,
    Headers,
    HTTPFaultInjection,
    HTTPMatchRequest,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    HTTPRoute,
    StringMatch,
)

# RFC 9110: a token.
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
_CLAIM = "@request.auth.claims"
# envoyproxy.io, router filter: x-envoy-retry-on and x-envoy-retry-grpc-on.
_RETRY_ON = frozenset(
    (
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    )
)
_GRPC_CODES = frozenset(
    (
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    )
)


class Context(NamedTuple):
    """What a route has to know of the VirtualService around it."""

    delegate: bool
    in_mesh: bool
    at_gateway: bool


def check_http_route(field: str, route: HTTPRoute, context: Context) -> Findings:
    """Everything that is wrong with one route."""
    for index, match in enumerate(route.match):
        yield from _match(f"{field}.match[{index}]", match, context)
    yield from _action(field, route, context)
    for index, target in enumerate(route.route):
        place = f"{field}.route[{index}]"
        yield from check_destination(f"{place}.destination", target.destination)
        yield from _headers(f"{place}.headers", target.headers)
    yield from check_weights(f"{field}.route", [target.weight for target in route.route])
    yield from _headers(f"{field}.headers", route.headers)
    yield from _authority(field, route)
    yield from check_duration(f"{field}.timeout", route.timeout, zero=True)
    if route.redirect is not None:
        yield from _redirect(f"{field}.redirect", route.redirect, route.match)
    if route.direct_response is not None and not 100 <= route.direct_response.status <= 599:
        yield error(INVALID, f"{field}.directResponse.status", f"{route.direct_response.status} is no HTTP status")
    if route.rewrite is not None:
        yield from _rewrite(f"{field}.rewrite", route.rewrite)
    if route.retries is not None:
        yield from _retries(f"{field}.retries", route.retries)
    if route.fault is not None:
        yield from _fault(f"{field}.fault", route.fault)
    if route.cors_policy is not None:
        yield from _cors(f"{field}.corsPolicy", route.cors_policy)
    yield from _mirrors(field, route)


def check_destination(field: str, destination: Destination) -> Findings:
    """Where traffic goes."""
    if not destination.host:
        yield error(MISSING, f"{field}.host", "a destination needs a host")
    elif destination.host == "*":
        yield error(INVALID, f"{field}.host", '"*" is not a destination')
    else:
        yield from check_pattern(f"{field}.host", destination.host)
    if destination.subset and not is_label_value(destination.subset):
        yield error(INVALID, f"{field}.subset", f'"{destination.subset[:100]}" cannot be a subset\'s name')
    if destination.port is not None:
        yield from check_port(f"{field}.port.number", destination.port.number)


def check_weights(field: str, weights: Sequence[int]) -> Findings:
    """Shares of destinations; a single destination takes all whatever its weight is."""
    for index, weight in enumerate(weights):
        yield from check_not_negative(f"{field}[{index}].weight", weight)
    if len(weights) > 1 and sum(weights) == 0:
        yield error(INVALID, field, "the weights of the destinations add up to 0", "give each destination a weight")


def _action(field: str, route: HTTPRoute, context: Context) -> Findings:
    """Exactly one thing is done with a request."""
    actions = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
        "delegate": route.delegate is not None,
    }
    written = [name for name, given in actions.items() if given]
    if not written:
        yield error(MISSING, field, "one of route, redirect, directResponse and delegate is needed")
    elif len(written) > 1:
        yield error(CONFLICT, f"{field}.{written[1]}", f"only one of {' and '.join(written)} may be set")
    if route.delegate is not None:
        if context.delegate:
            yield error(CONFLICT, f"{field}.delegate", "a delegate cannot delegate further")
        if not route.delegate.name:
            yield error(MISSING, f"{field}.delegate.name", "a delegate needs a name")
    ends = "redirect" if route.redirect is not None else "directResponse" if route.direct_response is not None else ""
    if ends:
        for name, given in (("rewrite", route.rewrite), ("fault", route.fault)):
            # A direct response may be delayed on purpose; a redirect may not.
            if given is not None and (name == "rewrite" or ends == "redirect"):
                yield error(CONFLICT, f"{field}.{name}", f"only one of {name} and {ends} may be set")


def _match(field: str, match: HTTPMatchRequest, context: Context) -> Findings:
    for name, text in (
        ("uri", match.uri),
        ("scheme", match.scheme),
        ("method", match.method),
        ("authority", match.authority),
    ):
        if text is not None:
            yield from _text(f"{field}.{name}", text)
    for name, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for header, text in headers.items():
            place = entry(f"{field}.{name}", header)
            if header.startswith(_CLAIM):
                if context.in_mesh or not context.at_gateway:
                    message = "routing by claims is possible at gateways only"
                    yield error(INVALID, place, message, "name the gateways, without mesh")
            else:
                yield from _header_name(place, header)
            # Istio: the regex "*" of a header asks whether it is there at all.
            if text.regex != "*":
                yield from _text(place, text)
    for parameter, text in match.query_params.items():
        yield from _text(entry(f"{field}.queryParams", parameter), text)
    if match.port:
        yield from check_port(f"{field}.port", match.port)
    yield from check_labels(f"{field}.sourceLabels", match.source_labels)


def _text(field: str, match: StringMatch) -> Findings:
    if match.regex is not None:
        yield from check_regex(f"{field}.regex", match.regex)


def _header_name(field: str, name: str) -> Findings:
    if not name:
        yield error(INVALID, field, "the name of a header is empty")
    elif not _TOKEN.fullmatch(name.removeprefix(":")):
        yield error(INVALID, field, f'"{name[:100]}" cannot be the name of a header')


def _is_authority(name: str) -> bool:
    return name.lower() in ("host", ":authority")


def _headers(field: str, headers: Headers | None) -> Findings:
    if headers is None:
        return
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations is None:
            continue
        for verb, names in (("set", operations.set), ("add", operations.add), ("remove", operations.remove)):
            for index, name in enumerate(names):
                place = f"{field}.{side}.{verb}"
                place = f"{place}[{index}]" if verb == "remove" else entry(place, name)
                yield from _header_name(place, name)
                allowed = side == "request" and verb != "remove" and _is_authority(name)
                if (name.startswith(":") or _is_authority(name)) and not allowed:
                    yield error(INVALID, place, f'the header "{name[:100]}" cannot be changed')


def _authority(field: str, route: HTTPRoute) -> Findings:
    if route.rewrite is None or not route.rewrite.authority:
        return
    places = [(f"{field}.headers", route.headers)]
    places += [(f"{field}.route[{index}].headers", target.headers) for index, target in enumerate(route.route)]
    for place, headers in places:
        request = headers.request if headers is not None else None
        if request is not None and any(map(_is_authority, (*request.set, *request.add))):
            yield error(CONFLICT, f"{place}.request", "the authority is already set by rewrite.authority")


def _redirect(field: str, redirect: HTTPRedirect, matches: Sequence[HTTPMatchRequest]) -> Findings:
    if redirect == HTTPRedirect():
        yield error(MISSING, field, "a redirect needs at least one of uri, authority, port, scheme and redirectCode")
    if redirect.prefix_rewrite:
        if redirect.uri:
            yield error(CONFLICT, f"{field}.prefixRewrite", "only one of uri and prefixRewrite may be set")
        if any(match.uri is not None and match.uri.prefix is None for match in matches):
            message = "prefixRewrite replaces the matched prefix: every match of the uri must be one by prefix"
            yield error(CONFLICT, f"{field}.prefixRewrite", message)
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        yield error(INVALID, f"{field}.redirectCode", f"{redirect.redirect_code} is no redirect: use 300 to 399")
    if redirect.scheme not in ("", "http", "https"):
        yield error(INVALID, f"{field}.scheme", f'"{redirect.scheme[:60]}" is neither http nor https')
    if redirect.port is not None:
        yield from check_port(f"{field}.port", redirect.port)


def _rewrite(field: str, rewrite: HTTPRewrite) -> Findings:
    if rewrite == HTTPRewrite():
        yield error(MISSING, field, "a rewrite needs at least one of uri, authority and uriRegexRewrite")
    regex = rewrite.uri_regex_rewrite
    if regex is None:
        return
    if rewrite.uri:
        yield error(CONFLICT, f"{field}.uriRegexRewrite", "only one of uri and uriRegexRewrite may be set")
    if not regex.match or not regex.rewrite:
        yield error(MISSING, f"{field}.uriRegexRewrite", "uriRegexRewrite needs match and rewrite")
    else:
        yield from check_regex(f"{field}.uriRegexRewrite.match", regex.match)


def _retries(field: str, retries: HTTPRetry) -> Findings:
    yield from check_not_negative(f"{field}.attempts", retries.attempts)
    if retries.attempts == 0 and (retries.per_try_timeout is not None or retries.retry_on or retries.backoff):
        message = "with 0 attempts nothing is tried again, and the other settings of retries mean nothing"
        yield error(CONFLICT, f"{field}.attempts", message)
    yield from check_duration(f"{field}.perTryTimeout", retries.per_try_timeout, zero=True)
    yield from check_duration(f"{field}.backoff", retries.backoff)
    for condition in filter(None, (part.strip() for part in retries.retry_on.split(","))):
        status = condition.isdigit() and len(condition) == 3 and 100 <= int(condition) <= 599
        if condition not in _RETRY_ON and not status:
            message = f'"{condition[:60]}" is neither a retry condition of Envoy nor an HTTP status'
            yield error(INVALID, f"{field}.retryOn", message)


def _fault(field: str, fault: HTTPFaultInjection) -> Findings:
    if fault.delay is None and fault.abort is None:
        yield error(MISSING, field, "a fault is a delay or an abort")
    delay, abort = fault.delay, fault.abort
    if delay is not None:
        if delay.percent:
            yield from check_percent(f"{field}.delay.percent", delay.percent)
            yield warning(DEPRECATED, f"{field}.delay.percent", "percent is deprecated", "use percentage.value")
        if delay.percentage is not None:
            yield from check_percent(f"{field}.delay.percentage.value", delay.percentage.value)
        if delay.exponential_delay is not None:
            yield error(INVALID, f"{field}.delay.exponentialDelay", "exponentialDelay is not supported")
        elif delay.fixed_delay is None:
            yield error(MISSING, f"{field}.delay.fixedDelay", "a delay needs fixedDelay")
        yield from check_duration(f"{field}.delay.fixedDelay", delay.fixed_delay)
    if abort is not None:
        if abort.percentage is not None:
            yield from check_percent(f"{field}.abort.percentage.value", abort.percentage.value)
        if abort.http2_error is not None:
            yield error(INVALID, f"{field}.abort.http2Error", "http2Error is not supported")
        elif abort.grpc_status is not None:
            if abort.grpc_status not in _GRPC_CODES:
                message = f'"{abort.grpc_status[:60]}" is no gRPC status'
                yield error(INVALID, f"{field}.abort.grpcStatus", message, "write its name, as in UNAVAILABLE")
        elif abort.http_status is None:
            yield error(MISSING, f"{field}.abort", "an abort needs httpStatus or grpcStatus")
        elif not 200 <= abort.http_status <= 599:
            yield error(INVALID, f"{field}.abort.httpStatus", f"{abort.http_status} is no HTTP status from 200 to 599")


def _cors(field: str, cors: CorsPolicy) -> Findings:
    if cors.allow_origin:
        yield warning(DEPRECATED, f"{field}.allowOrigin", "allowOrigin is deprecated", "use allowOrigins")
    for index, origin in enumerate(cors.allow_origins):
        yield from _text(f"{field}.allowOrigins[{index}]", origin)
    for index, method in enumerate(cors.allow_methods):
        if method not in _METHODS:
            yield error(INVALID, f"{field}.allowMethods[{index}]", f'"{method[:60]}" is not an HTTP method')
    for name, headers in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for index, header in enumerate(headers):
            yield from _header_name(f"{field}.{name}[{index}]", header)
    yield from check_duration(f"{field}.maxAge", cors.max_age, zero=True)


def _mirrors(field: str, route: HTTPRoute) -> Findings:
    if route.mirror is not None:
        yield from check_destination(f"{field}.mirror", route.mirror)
        if route.mirrors:
            yield error(CONFLICT, f"{field}.mirrors", "only one of mirror and mirrors may be set")
    if route.mirror_percent is not None:
        yield from check_percent(f"{field}.mirrorPercent", route.mirror_percent)
        yield warning(DEPRECATED, f"{field}.mirrorPercent", "mirrorPercent is deprecated", "use mirrorPercentage")
    if route.mirror_percentage is not None:
        yield from check_percent(f"{field}.mirrorPercentage.value", route.mirror_percentage.value)
    for index, mirror in enumerate(route.mirrors):
        yield from check_destination(f"{field}.mirrors[{index}].destination", mirror.destination)
        if mirror.percentage is not None:
            yield from check_percent(f"{field}.mirrors[{index}].percentage.value", mirror.percentage.value)
