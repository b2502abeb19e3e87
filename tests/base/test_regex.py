"""Expressions are RE2's: what it takes and refuses, and what no expression may cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.base.regex import RegexError, compiled


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"[[:alpha:]]+", "abc", True),
        (r"\pL+", "é", True),
        (r"(?i)REVIEWS", "reviews", True),
        (r"a.c", "a\nc", False),
        (r"(?s)a.c", "a\nc", True),
        (r"a$", "a\n", False),
        (r"(?<n>a)\z", "a", True),
        (r"\d", "٣", False),
    ],
)
def test_an_expression_means_what_it_means_to_envoy(pattern: str, text: str, matches: bool) -> None:
    assert (compiled(pattern).fullmatch(text) is not None) is matches


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"\1", "a{1001}", "[z-a]", "*", "\ud800"])
def test_what_is_no_expression_says_why(pattern: str) -> None:
    with pytest.raises(RegexError, match=r"\S"):
        compiled(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", "(a|aa)+$", "(.*a){20}$"])
def test_no_expression_takes_exponential_time(pattern: str) -> None:
    """ISTIO-SECURITY-2026-006: an expression of a user's could stop the control plane. Python's would never return."""
    assert compiled(pattern).search("a" * 5000 + "b") is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_written_is_compiled_or_refused(pattern: str, text: str) -> None:
    try:
        found = compiled(pattern)
    except RegexError:
        return
    found.search(text)
