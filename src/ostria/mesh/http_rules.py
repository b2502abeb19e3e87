"""What a VirtualService's rule for requests says, part by part, in the mesh's own words; it asks nothing of the mesh.

    api.HTTPMatchRequest -> request_match() -> RequestMatch, api.HTTPRedirect -> redirect() -> Redirect, and so on

Source: https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ostria.mesh.destinations import milliseconds
from ostria.mesh.model import (
    Abort,
    ClaimMatch,
    Cors,
    Delay,
    DirectResponse,
    HeaderChanges,
    Headers,
    MatchKind,
    NamedMatch,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
    StringMatch,
)
from ostria.resources import virtual_service as api

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

# istio.io, JWT claim based routing: a header of this name is no header but a claim, `.a.b` or `[a][b]` within others.
_CLAIMS = "@request.auth.claims"

# What Istio takes for "there is one at all", although it is no regular expression.
_ANY = "*"

# What stands before a path that replaces only the prefix that was matched.
_PREFIX = "%PREFIX()%"


def request_match(match: api.HTTPMatchRequest) -> RequestMatch:
    """What is asked of a request itself."""
    return RequestMatch(
        path=_string(match.uri) if match.uri else None,
        ignore_case=match.ignore_uri_case,
        method=_value(match.method) if match.method else None,
        authority=_value(match.authority) if match.authority else None,
        scheme=_value(match.scheme) if match.scheme else None,
        headers=_named(match.headers),
        without_headers=_named(match.without_headers),
        query=_named(match.query_params),
        claims=(*_claims(match.headers, absent=False), *_claims(match.without_headers, absent=True)),
    )


def _named(matches: Mapping[str, api.StringMatch]) -> tuple[NamedMatch, ...]:
    named = ((name, match) for name, match in sorted(matches.items()) if not name.startswith(_CLAIMS))
    return tuple(NamedMatch(name, _value(match)) for name, match in named)


def _claims(matches: Mapping[str, api.StringMatch], *, absent: bool) -> tuple[ClaimMatch, ...]:
    named = ((name, match) for name, match in sorted(matches.items()) if name.startswith(_CLAIMS))
    return tuple(ClaimMatch(claim_path(name), _value(match), absent) for name, match in named)


def claim_path(name: str) -> tuple[str, ...]:
    """The claim that a header's name stands for: ("nested", "key") of `@request.auth.claims.nested.key`."""
    path = name.removeprefix(_CLAIMS)
    return (
        tuple(re.findall(r"\[([^\]]*)\]", path)) if path.startswith("[") else tuple(path.removeprefix(".").split("."))
    )


def _value(match: api.StringMatch) -> StringMatch:
    return StringMatch(MatchKind.PRESENT) if match.regex == _ANY else _string(match)


def _string(match: api.StringMatch) -> StringMatch:
    if match.exact is not None:
        return StringMatch(MatchKind.EXACT, match.exact)
    if match.prefix is not None:
        return StringMatch(MatchKind.PREFIX, match.prefix)
    if match.regex is not None:
        return StringMatch(MatchKind.REGEX, match.regex)
    return StringMatch(MatchKind.PRESENT)


def redirect(to: api.HTTPRedirect, port: int, *, tls: bool) -> Redirect:
    """An answer that leads elsewhere, to a request that came to `port`; `tls` says how it came."""
    scheme = to.scheme or ("https" if tls else "http")
    target = port if to.derive_port == "FROM_REQUEST_PORT" else to.port
    if (target, scheme) in ((80, "http"), (443, "https")):
        target = None  # It goes without saying.
    prefix = to.prefix_rewrite or (to.uri.removeprefix(_PREFIX) if to.uri.startswith(_PREFIX) else None)
    return Redirect(
        code=to.redirect_code or 301,
        scheme=to.scheme or None,
        authority=to.authority or None,
        port=target,
        path=to.uri or None if prefix is None else None,
        path_prefix=prefix,
    )


def direct_response(response: api.HTTPDirectResponse) -> DirectResponse:
    """An answer that the proxy gives itself."""
    body = response.body
    if body is None:
        return DirectResponse(response.status)
    return DirectResponse(response.status, body.bytes if body.bytes is not None else (body.string or "").encode())


def rewrite(change: api.HTTPRewrite) -> Rewrite:
    """What becomes of a request's path and authority."""
    regex = change.uri_regex_rewrite
    return Rewrite(
        authority=change.authority or None,
        prefix=change.uri or None,
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


def delay(fault: api.Delay) -> Delay | None:
    """A wait; None where none is said."""
    duration = milliseconds(fault.fixed_delay)
    return Delay(duration, _share(fault.percentage, fault.percent)) if duration else None


def abort(fault: api.Abort) -> Abort | None:
    """An error; None where none is said that Envoy can make."""
    share = _share(fault.percentage, 0)
    if fault.grpc_status is not None:
        return Abort(share, grpc_status=GRPC_CODES.get(fault.grpc_status.upper()))
    return Abort(share, http_status=fault.http_status) if fault.http_status else None


def _share(percentage: api.Percent | None, deprecated: int) -> float:
    return percentage.value if percentage else float(deprecated)


def mirrored(rule: api.HTTPRoute) -> list[tuple[api.Destination, float]]:
    """Where copies of requests go, and of which share of them; without a share of all."""
    found = [(mirror.destination, mirror.percentage) for mirror in rule.mirrors]
    if rule.mirror:
        share = rule.mirror_percentage
        if share is None and rule.mirror_percent is not None:
            share = api.Percent(value=float(rule.mirror_percent))
        found.insert(0, (rule.mirror, share))
    return [(destination, share.value if share else 100.0) for destination, share in found]


def cors(policy: api.CorsPolicy) -> Cors:
    """Who may call from pages of other origins."""
    origins = tuple(_string(origin) for origin in policy.allow_origins)
    return Cors(
        origins=origins or tuple(StringMatch(MatchKind.EXACT, origin) for origin in policy.allow_origin),
        methods=policy.allow_methods,
        headers=policy.allow_headers,
        expose=policy.expose_headers,
        max_age=milliseconds(policy.max_age),
        credentials=policy.allow_credentials,
        forward_unmatched=policy.unmatched_preflights != "IGNORE",
    )


def headers(changes: api.Headers | None) -> Headers:
    """Changes of a request's headers and of its answer's."""
    return Headers(_changes(changes.request), _changes(changes.response)) if changes else Headers()


def _changes(operations: api.HeaderOperations | None) -> HeaderChanges:
    if operations is None:
        return HeaderChanges()
    return HeaderChanges(
        set=tuple(sorted(operations.set.items())),
        add=tuple(sorted(operations.add.items())),
        remove=tuple(sorted(operations.remove)),
    )
