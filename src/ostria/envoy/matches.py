"""When a route applies: the comparisons of a request's path, headers and query."""

from __future__ import annotations

from typing import Any as Untyped

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher, RouteMatch
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from ostria.mesh.model import MatchKind, NamedMatch, RequestMatch, StringMatch


def route_match(match: RequestMatch) -> RouteMatch:
    """Everything that a request must be for a route to take it; without a path, every path."""
    message = RouteMatch()
    _path(message, match.path, ignore_case=match.ignore_case)
    for name, comparison in ((":method", match.method), (":authority", match.authority), (":scheme", match.scheme)):
        if comparison is not None:
            message.headers.append(_header(name, comparison))
    message.headers.extend(_header(name, comparison) for name, comparison in match.headers)
    message.headers.extend(_without(name, comparison) for name, comparison in match.without_headers)
    message.query_parameters.extend(map(_query, match.query))
    return message


def string_matcher(match: StringMatch) -> StringMatcher:
    """A comparison with a string that is there; PRESENT is any."""
    message = StringMatcher()
    if match.kind is MatchKind.EXACT:
        message.exact = match.value
    elif match.kind is MatchKind.REGEX:
        message.safe_regex.regex = match.value
    else:
        message.prefix = match.value if match.kind is not MatchKind.PRESENT else ""
    return message


def _path(message: Untyped, path: StringMatch | None, *, ignore_case: bool) -> None:
    if path is None or path.kind is MatchKind.PRESENT:
        message.prefix = "/"
        return
    if path.kind is MatchKind.REGEX:
        message.safe_regex.regex = f"(?i){path.value}" if ignore_case else path.value
        return
    if path.kind is MatchKind.EXACT:
        message.path = path.value
    elif path.kind is MatchKind.PATH_PREFIX and (elements := path.value.rstrip("/")):
        # Envoy compares whole path elements, and wants them without the last slash.
        message.path_separated_prefix = elements
    else:
        message.prefix = path.value if path.kind is MatchKind.PREFIX else "/"
    if ignore_case:
        message.case_sensitive.value = False


def _header(name: str, match: StringMatch) -> HeaderMatcher:
    message = HeaderMatcher(name=name)
    if match.kind is MatchKind.PRESENT:
        message.present_match = True
    else:
        message.string_match.CopyFrom(string_matcher(match))
    return message


def _without(name: str, match: StringMatch) -> HeaderMatcher:
    message = _header(name, match)
    message.invert_match = True
    if match.kind is not MatchKind.PRESENT:
        # Else a request that has no such header at all would not pass for one without that value.
        message.treat_missing_header_as_empty = True
    return message


def _query(parameter: NamedMatch) -> QueryParameterMatcher:
    message = QueryParameterMatcher(name=parameter.name)
    if parameter.match.kind is MatchKind.PRESENT:
        message.present_match = True
    else:
        message.string_match.CopyFrom(string_matcher(parameter.match))
    return message
