"""Hosts: wildcards, order, short names, scopes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.base import hosts


@pytest.mark.parametrize(
    ("pattern", "host", "covered"),
    [
        ("*", "a.com", True),
        ("*", "*.com", True),
        ("*.foo.com", "a.foo.com", True),
        ("*.foo.com", "b.a.foo.com", True),
        ("*.foo.com", "foo.com", False),
        ("*.foo.com", "*.foo.com", True),
        ("*.foo.com", "*.a.foo.com", True),
        ("*.a.foo.com", "*.foo.com", False),
        ("a.foo.com", "*.foo.com", False),
        ("*-v1.foo.com", "a-v1.foo.com", True),
        ("foo.com", "foo.com", True),
        ("*.foo.com", "*", False),
    ],
)
def test_a_pattern_covers(pattern: str, host: str, covered: bool) -> None:
    assert hosts.matches(pattern, host) is covered


def test_the_most_specific_comes_first() -> None:
    given_hosts = ["*", "*.com", "b.foo.com", "*.foo.com", "a.foo.com", "long.name.foo.com"]
    assert sorted(given_hosts, key=hosts.specificity) == [
        "long.name.foo.com",
        "a.foo.com",
        "b.foo.com",
        "*.foo.com",
        "*.com",
        "*",
    ]
    assert hosts.most_specific("x.foo.com", tuple(given_hosts)) == "*.foo.com"
    assert hosts.most_specific("x.foo.com", ("a.com",)) is None


PATTERNS = st.lists(st.sampled_from(["a", "b", "com"]), min_size=1, max_size=4).flatmap(
    lambda labels: st.sampled_from([".".join(labels), "*." + ".".join(labels), "*"])
)


@given(PATTERNS, PATTERNS, PATTERNS)
def test_covering_is_an_order(a: str, b: str, c: str) -> None:
    assert hosts.matches(a, a)
    if hosts.matches(a, b) and hosts.matches(b, c):
        assert hosts.matches(a, c)
    if a != b and hosts.matches(a, b):
        assert hosts.specificity(b) < hosts.specificity(a)


@pytest.mark.parametrize(
    ("host", "full"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("*", "*"),
        ("::1", "::1"),
        ("*.com", "*.com"),
    ],
)
def test_a_short_name_is_a_service_beside_it(host: str, full: str) -> None:
    assert hosts.expand(host, "shop") == full


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a.com", True),
        ("a.com.", True),
        ("A-1.com", True),
        ("", False),
        ("a..com", False),
        ("-a.com", False),
        ("a_b.com", False),
        ("1.2.3.4", False),
        ("a" * 64, False),
        ("a.*.com", False),
    ],
)
def test_what_is_a_name(text: str, good: bool) -> None:
    assert hosts.is_dns_name(text) is good
    assert hosts.is_pattern(f"*.{text}") is good


def test_what_is_a_pattern() -> None:
    assert hosts.is_pattern("*")
    assert hosts.is_pattern("*-v1.com")
    assert not hosts.is_pattern("*.")
    assert not hosts.is_pattern("**.com")
    assert hosts.is_partial("*foo.com")
    assert not hosts.is_partial("*.foo.com")


def test_scopes() -> None:
    assert hosts.split_scoped("ns/a.com") == ("ns", "a.com")
    assert hosts.split_scoped("a.com") == ("*", "a.com")
    assert hosts.in_scope("*", "own", "other")
    assert hosts.in_scope(".", "own", "own")
    assert not hosts.in_scope(".", "own", "other")
    assert not hosts.in_scope("~", "own", "own")
    assert hosts.in_scope("other", "own", "other")
