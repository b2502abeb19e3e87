"""What a route table does with a request: the virtual host, the first route that fits, and what it changes.

See https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ostria.analysis.simulation.model import (
    AppendAction,
    ClaimRule,
    Forward,
    HeaderChanges,
    HeaderRule,
    HostEntry,
    Http,
    PathKind,
    QueryRule,
    RedirectTo,
    RegexRewrite,
    RouteEntry,
    RouteRule,
    RouteTable,
)
from ostria.analysis.simulation.texts import (
    canonical_path,
    expression,
    fits,
    merged_slashes,
    query_of,
    replaced,
    without_query,
)

_PORT = re.compile(r":\d+$")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}

# Envoy keeps what requests are about under names of its own.
_ALIASES = {"host": ":authority"}


class Asked(NamedTuple):
    """A request as routes see it. `headers` are lower case, several of one name joined by commas; `scheme` is that of
    the connection, or what a trusted caller says of it. `claims` are those of its verified token."""

    authority: str
    path: str
    method: str
    scheme: str
    headers: Mapping[str, str]
    claims: Mapping[str, Any] = {}

    def value(self, name: str) -> str | None:
        """A header, or what Envoy keeps as one; None where it is not there."""
        name = _ALIASES.get(name.lower(), name.lower())
        if name.startswith(":"):
            return {
                ":authority": self.authority,
                ":path": self.path,
                ":method": self.method,
                ":scheme": self.scheme,
            }.get(name)
        return self.headers.get(name)


def asked(
    http: Http,
    *,
    authority: str,
    path: str,
    method: str,
    headers: Iterable[tuple[str, str]],
    secure: bool,
    port: int,
) -> Asked | None:
    """A request as the connection manager hands it on; None if it refuses it (400)."""
    if "#" in path or not path.startswith("/"):
        return None
    held: dict[str, str] = {}
    for name, value in ((name.lower(), value) for name, value in headers):
        held[name] = f"{held[name]},{value}" if name in held else value
    if http.escaped_slashes == "REJECT_REQUEST" and re.search("%2f|%5c", without_query(path), re.IGNORECASE):
        return None
    if http.escaped_slashes == "UNESCAPE_AND_FORWARD":
        before, mark, query = path.partition("?")
        path = re.sub("%5[cC]", "\\\\", re.sub("%2[fF]", "/", before)) + mark + query
    if http.normalize_path:
        path = canonical_path(path)
    if http.merge_slashes:
        path = merged_slashes(path)
    matching = http.strip_port == "strip_matching_host_port" and authority.endswith(f":{port}")
    if matching or http.strip_port == "strip_any_host_port":
        authority = _PORT.sub("", authority)
    scheme = "https" if secure else "http"
    claimed = held.get("x-forwarded-proto", "")
    if not http.use_remote_address and claimed in _DEFAULT_PORTS:
        scheme = claimed
    held["x-forwarded-proto"] = scheme
    return Asked(authority, path, method, scheme, held)


# --- which host, which route --------------------------------------------------------------------------------------


def host_of(table: RouteTable, authority: str) -> HostEntry | None:
    """The virtual host of an authority: by its whole name, then the longest `*.suffix`, the longest `prefix.*`, `*`."""
    if table.ignore_port:
        authority = _PORT.sub("", authority)
    name = authority.lower()
    best: tuple[int, int] = (0, 0)
    found = None
    for host in table.hosts:
        for domain in host.domains:
            rank = _rank(domain.lower(), name)
            if rank > best:
                best, found = rank, host
    return found


def _rank(domain: str, name: str) -> tuple[int, int]:
    """How well a domain fits a name, to be compared; (0, 0) where it does not."""
    if domain == "*":
        return (1, 0)
    if domain == name:
        return (4, 0)
    if domain.startswith("*"):
        return (3, len(domain)) if len(name) >= len(domain) and name.endswith(domain[1:]) else (0, 0)
    if domain.endswith("*"):
        return (2, len(domain)) if len(name) >= len(domain) and name.startswith(domain[:-1]) else (0, 0)
    return (0, 0)


def route_of(host: HostEntry, request: Asked) -> RouteEntry | None:
    """The first route that takes a request."""
    return next((route for route in host.routes if takes(route.rule, request)), None)


def takes(rule: RouteRule, request: Asked) -> bool:
    """Whether a route takes a request. One that takes a share of them only is taken to do so, unless it is none."""
    return (
        rule.share > 0
        and (not rule.grpc or request.headers.get("content-type", "").startswith("application/grpc"))
        and _path_fits(rule, request)
        and all(_header_fits(each, request.value(each.name)) for each in rule.headers)
        and _query_fits(rule.query, request.path)
        and all(_claim_fits(each, request.claims) != each.invert for each in rule.claims)
    )


def _claim_fits(rule: ClaimRule, claims: Mapping[str, Any]) -> bool:
    found: Any = claims
    for key in rule.path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if rule.text is None:
        return found is not None
    several = found if isinstance(found, list | tuple) else [found]
    return any(isinstance(each, str) and fits(rule.text, each) for each in several)


def _path_fits(rule: RouteRule, request: Asked) -> bool:
    if rule.path is PathKind.CONNECT:
        return request.method == "CONNECT"
    path, wanted = without_query(request.path), rule.value
    if rule.path is PathKind.REGEX:
        found = expression(wanted)
        return bool(found and found.fullmatch(path))
    if rule.ignore_case:
        path, wanted = path.lower(), wanted.lower()
    if rule.path is PathKind.EXACT:
        return path == wanted
    if rule.path is PathKind.ELEMENTS:
        return path == wanted or path.startswith(f"{wanted}/")
    return path.startswith(wanted)


def _header_fits(rule: HeaderRule, value: str | None) -> bool:
    if rule.text is None and rule.range is None:
        return ((value is not None) == rule.present) != rule.invert
    if value is None:
        if not rule.missing_as_empty:
            return False
        value = ""
    if rule.text is not None:
        return fits(rule.text, value) != rule.invert
    assert rule.range is not None
    number = int(value) if re.fullmatch(r"[+-]?\d+", value) else None
    return (number is not None and rule.range[0] <= number < rule.range[1]) != rule.invert


def _query_fits(rules: Sequence[QueryRule], path: str) -> bool:
    if not rules:
        return True
    held = query_of(path)
    return all(rule.name in held and (rule.text is None or fits(rule.text, held[rule.name])) for rule in rules)


# --- what it changes ----------------------------------------------------------------------------------------------


def forwarded_path(rule: RouteRule, action: Forward | RedirectTo, path: str) -> str:
    """The path that a route sends on, or redirects to, where it rewrites the one that was asked for."""
    return _rewritten(rule, action.prefix_rewrite, action.regex_rewrite, path)


def _rewritten(rule: RouteRule, prefix: str, regex: RegexRewrite | None, path: str) -> str:
    compared = without_query(path)
    rest = path[len(compared) :]
    if regex is not None:
        return replaced(regex, compared) + rest
    if not prefix:
        return path
    whole = rule.path in (PathKind.EXACT, PathKind.REGEX)
    return prefix + (rest if whole else path[len(rule.value) :])


def location(rule: RouteRule, action: RedirectTo, request: Asked) -> str:
    """Where a redirect leads (the Location header)."""
    scheme = action.scheme or ("https" if action.https else request.scheme)
    port = f":{action.port}" if action.port else ""
    host = action.host or _without_port(request, scheme, changed=bool(port))
    if action.path:
        path = action.path
        if "?" not in path:
            _, mark, query = request.path.partition("?")
            path += mark + query
        elif action.strip_query:
            return f"{scheme}://{host}{port}{path}"
    else:
        path = forwarded_path(rule, action, request.path)
    if action.strip_query:
        path = path.partition("?")[0]
    return f"{scheme}://{host}{port}{path}"


def _without_port(request: Asked, scheme: str, *, changed: bool) -> str:
    """The authority asked for, without a port that the redirect replaces or that was the old scheme's own."""
    found = _PORT.search(request.authority)
    if not found:
        return request.authority
    default = scheme != request.scheme and found[0] == _DEFAULT_PORTS.get(request.scheme)
    return request.authority[: found.start()] if changed or default else request.authority


class Held:
    """Headers while they are changed, in their order, several of one name apart."""

    def __init__(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.entries = [(name.lower(), value) for name, value in headers]
        self.removed: dict[str, None] = {}
        self.unread: dict[str, None] = {}

    def apply(self, changes: HeaderChanges) -> None:
        """What one part of a route says: first what is removed, then what is overwritten, then what is added.

        Whether a header is there is asked before any of them is written (Envoy: HeaderParser).
        """
        for name in changes.remove:
            self._drop(name.lower())
            self.removed[name.lower()] = None
        there = {name for name, _ in self.entries}
        late = (AppendAction.APPEND, AppendAction.ADD_IF_ABSENT)
        for change in sorted(changes.add, key=lambda change: change.action in late):
            name = change.name.lower()
            if change.action is (AppendAction.ADD_IF_ABSENT if name in there else AppendAction.OVERWRITE_IF_EXISTS):
                continue
            if change.action not in late:
                self._drop(name)
            if "%" in change.value.replace("%%", ""):
                self.unread[f"header {name}: {change.value}"] = None
            self.entries.append((name, change.value.replace("%%", "%")))

    def _drop(self, name: str) -> None:
        self.entries = [entry for entry in self.entries if entry[0] != name]


def specificity(
    table: RouteTable, route: HeaderChanges, host: HeaderChanges, whole: HeaderChanges
) -> tuple[HeaderChanges, ...]:
    """The changes of route, virtual host and table in the order in which they are made: the later wins."""
    return (whole, host, route) if table.specific_last else (route, host, whole)
