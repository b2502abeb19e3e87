"""What HTTP filters answer before a request is sent anywhere: aborts, and browsers' questions across origins.

See https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/fault_filter and .../cors_filter.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostria.analysis.simulation.call import Answer, Chance
from ostria.analysis.simulation.model import CorsRule, Fault, Forward, RouteEntry
from ostria.analysis.simulation.requests import Asked
from ostria.analysis.simulation.texts import fits

FAULT, CORS = "envoy.filters.http.fault", "envoy.filters.http.cors"

# gRPC's statuses in HTTP's words, for callers that speak no gRPC.
_HTTP_OF_GRPC = {
    0: 200, 1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501,
    13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip


_GRPC_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_UNKNOWN = 2


def local(answer: Answer, request: Asked) -> Answer:
    """An answer of the proxy's own as its caller gets it: gRPC has its own word for every status of HTTP."""
    if not is_grpc(request):
        return answer
    return Answer(200, (*answer.headers, ("grpc-status", str(_GRPC_OF_HTTP.get(answer.status, _UNKNOWN)))))


def is_grpc(request: Asked) -> bool:
    """Whether the caller speaks gRPC."""
    kind = request.headers.get("content-type", "")
    return kind == "application/grpc" or kind.startswith("application/grpc+")


def answered(filters: Sequence[str], route: RouteEntry, request: Asked) -> tuple[Answer | None, tuple[Chance, ...]]:
    """What the filters answer for certain, and what they do by chance, in the order in which they stand."""
    chances: list[Chance] = []
    for name in filters:
        if name == FAULT and route.fault is not None:
            chances += _chances(route.fault)
            if _aborts(route.fault) and route.fault.abort_share >= 1:
                return _aborted(route.fault, request), tuple(chances)
        elif name == CORS and (rule := cors_of(route)) is not None:
            answer = _preflight(rule, request)
            if answer is not None:
                return answer, tuple(chances)
    return None, tuple(chances)


def cors_of(route: RouteEntry) -> CorsRule | None:
    """A route's rule for browsers; Envoy passes it over where the route itself answers."""
    return route.cors if isinstance(route.action, Forward) else None


def _aborts(fault: Fault) -> bool:
    return bool(fault.status) or fault.grpc_status is not None


def _chances(fault: Fault) -> list[Chance]:
    found = []
    if fault.delay and fault.delay_share > 0:
        found.append(Chance(f"delay {fault.delay} ms", fault.delay_share))
    if _aborts(fault) and fault.abort_share > 0:
        what = f"gRPC status {fault.grpc_status}" if fault.grpc_status is not None else f"status {fault.status}"
        found.append(Chance(f"abort with {what}", fault.abort_share))
    return found


def _aborted(fault: Fault, request: Asked) -> Answer:
    if fault.grpc_status is None:
        return local(Answer(fault.status, body=b"fault filter abort"), request)
    if is_grpc(request):
        return Answer(200, (("grpc-status", str(fault.grpc_status)),))
    return Answer(_HTTP_OF_GRPC.get(fault.grpc_status, 500), body=b"fault filter abort")


def _preflight(rule: CorsRule, request: Asked) -> Answer | None:
    origin = request.headers.get("origin", "")
    if request.method != "OPTIONS" or not origin or not request.headers.get("access-control-request-method"):
        return None
    if not _allowed(rule, origin):
        return None if rule.forward_unmatched else Answer(200)
    headers = [("access-control-allow-origin", origin)]
    if rule.credentials:
        headers.append(("access-control-allow-credentials", "true"))
    for name, value in (("methods", rule.methods), ("headers", rule.headers)):
        if value:
            headers.append((f"access-control-allow-{name}", value))
    if rule.max_age:
        headers.append(("access-control-max-age", rule.max_age))
    if rule.expose:
        headers.append(("access-control-expose-headers", rule.expose))
    return Answer(200, tuple(headers))


def cors_headers(rule: CorsRule | None, request: Asked) -> tuple[tuple[str, str], ...]:
    """What is added to an answer so that the page that asked may read it."""
    origin = request.headers.get("origin", "")
    if rule is None or not origin or not _allowed(rule, origin):
        return ()
    headers = [("access-control-allow-origin", origin)]
    if rule.credentials:
        headers.append(("access-control-allow-credentials", "true"))
    if rule.expose:
        headers.append(("access-control-expose-headers", rule.expose))
    return tuple(headers)


def _allowed(rule: CorsRule, origin: str) -> bool:
    return any(fits(each, origin) for each in rule.origins) or any(each.value == "*" for each in rule.origins)
