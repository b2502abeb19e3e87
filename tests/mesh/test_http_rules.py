"""What the parts of a rule for requests say, in the mesh's own words."""

from __future__ import annotations

import msgspec
import pytest

from ostria.mesh import http_rules as say
from ostria.mesh.model import ClaimMatch, MatchKind, NamedMatch, Redirect, StringMatch
from ostria.resources import virtual_service as api

ANY = StringMatch(MatchKind.PRESENT)


def read(shape: type, text: str) -> object:
    return msgspec.yaml.decode(text, type=shape)


@pytest.mark.parametrize(
    ("text", "port", "tls", "expected"),
    [
        ("{uri: /new}", 80, False, Redirect(path="/new")),
        ("{prefixRewrite: /new/}", 80, False, Redirect(path_prefix="/new/")),
        ("{uri: '%PREFIX()%/new'}", 80, False, Redirect(path_prefix="/new")),
        ("{authority: a.example, redirectCode: 307}", 80, False, Redirect(307, authority="a.example")),
        ("{port: 8443}", 80, False, Redirect(port=8443)),
        ("{derivePort: FROM_REQUEST_PORT}", 8080, False, Redirect(port=8080)),
        ("{derivePort: FROM_PROTOCOL_DEFAULT}", 8080, False, Redirect()),
        # A port that goes without saying is not said.
        ("{derivePort: FROM_REQUEST_PORT}", 443, True, Redirect()),
        ("{port: 443, scheme: https}", 80, False, Redirect(scheme="https")),
        ("{port: 443}", 80, False, Redirect(port=443)),
    ],
)
def test_redirects(text: str, port: int, tls: bool, expected: Redirect) -> None:
    to = read(api.HTTPRedirect, text)
    assert isinstance(to, api.HTTPRedirect)
    assert say.redirect(to, port, tls=tls) == expected


def test_the_regex_that_is_none_asks_whether_there_is_one_at_all():
    match = read(api.HTTPMatchRequest, "{headers: {a: {regex: '*'}, b: {}}, withoutHeaders: {c: {regex: '.*'}}}")
    assert isinstance(match, api.HTTPMatchRequest)
    found = say.request_match(match)
    assert found.headers == (NamedMatch("a", ANY), NamedMatch("b", ANY))
    assert found.without_headers == (NamedMatch("c", StringMatch(MatchKind.REGEX, ".*")),)


def test_a_header_may_stand_for_a_claim():
    match = read(
        api.HTTPMatchRequest,
        "{headers: {'@request.auth.claims.groups': {exact: admin}},"
        " withoutHeaders: {'@request.auth.claims[iss.com][key]': {prefix: a}}}",
    )
    assert isinstance(match, api.HTTPMatchRequest)
    found = say.request_match(match)
    assert (found.headers, found.without_headers) == ((), ())
    assert found.claims == (
        ClaimMatch(("groups",), StringMatch(MatchKind.EXACT, "admin")),
        ClaimMatch(("iss.com", "key"), StringMatch(MatchKind.PREFIX, "a"), absent=True),
    )


def test_retries_that_are_numbers_are_response_codes():
    found = say.retries(api.HTTPRetry(attempts=3, retry_on="5xx, 503,504"))
    assert (found.on, found.status_codes) == (("5xx", "retriable-status-codes"), (503, 504))
    assert say.retries(api.HTTPRetry(attempts=3)).on == say.Retries().on


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("{mirror: {host: a}}", [100.0]),
        ("{mirror: {host: a}, mirrorPercentage: {value: 0.5}}", [0.5]),
        ("{mirror: {host: a}, mirrorPercent: 20}", [20.0]),
        ("{mirrors: [{destination: {host: a}, percentage: {value: 10}}, {destination: {host: b}}]}", [10.0, 100.0]),
    ],
)
def test_mirrors(text: str, shares: list[float]) -> None:
    rule = read(api.HTTPRoute, text)
    assert isinstance(rule, api.HTTPRoute)
    assert [share for _, share in say.mirrored(rule)] == shares


def test_cross_origin_questions_that_no_policy_answers_are_passed_on_unless_they_are_to_be_ignored():
    assert say.cors(api.CorsPolicy()).forward_unmatched
    assert say.cors(api.CorsPolicy(unmatched_preflights="FORWARD")).forward_unmatched
    assert not say.cors(api.CorsPolicy(unmatched_preflights="IGNORE")).forward_unmatched
