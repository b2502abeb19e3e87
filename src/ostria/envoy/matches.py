"""When a route applies: the comparisons of a request's path, headers and query."""

from __future__ import annotations

from typing import Any as Untyped

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher, RouteMatch
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from ostria.mesh.model import ClaimMatch, MatchKind, NamedMatch, RequestMatch, StringMatch

# Where the claims of a verified token are kept while a request is answered.
JWT_FILTER = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD = "payload"


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
    message.dynamic_metadata.extend(map(_claim, match.claims))
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
        message.safe_regex.regex = path.value  # Case is ignored of exact paths and prefixes only (ignoreUriCase).
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


def _claim(claim: ClaimMatch) -> MetadataMatcher:
    """A comparison with what the filter that verified the request's token has left of it, a text or a list of texts."""
    message = MetadataMatcher(filter=JWT_FILTER, invert=claim.absent)
    for key in (JWT_PAYLOAD, *claim.path):
        message.path.add(key=key)
    if claim.match.kind is MatchKind.PRESENT:
        message.value.present_match = True
        return message
    either = message.value.or_match.value_matchers
    either.add().string_match.CopyFrom(string_matcher(claim.match))
    either.add().list_match.one_of.string_match.CopyFrom(string_matcher(claim.match))
    return message


def _query(parameter: NamedMatch) -> QueryParameterMatcher:
    message = QueryParameterMatcher(name=parameter.name)
    if parameter.match.kind is MatchKind.PRESENT:
        message.present_match = True
    else:
        message.string_match.CopyFrom(string_matcher(parameter.match))
    return message
