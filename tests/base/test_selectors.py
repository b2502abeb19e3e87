"""Selectors: what kubectl takes after -l, what an object's selector says, and what they match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.base import selectors
from ostria.base.selectors import EVERYTHING, Operator, Requirement

LABELS = {"app": "reviews", "version": "v1"}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("", True),
        ("app=reviews", True),
        ("app==reviews,version!=v2", True),
        ("app in (reviews, ratings)", True),
        ("app notin (reviews)", False),
        ("version", True),
        ("!version", False),
        ("! tier", True),
        ("tier notin (a)", True),
        ("tier!=a", True),
        ("tier=", False),
        (" app = reviews , version in (v1) ", True),
        ("in=out,notin", False),
    ],
)
def test_a_text_matches(text: str, matched: bool) -> None:
    selector = selectors.parse(text)
    assert selector.matches(LABELS) is matched
    assert selectors.parse(str(selector)) == selector


@pytest.mark.parametrize("text", ["=a", "a in b", "a in (b", "a b", "a=b c", "!a=b", "a=b/c", "a,,b", "*=a"])
def test_what_is_no_selector_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"selector|label"):
        selectors.parse(text)


def test_an_objects_selector() -> None:
    selector = selectors.of_expressions(
        {"app": "reviews"}, [("version", "In", ["v2", "v1"]), ("tier", "DoesNotExist", [])]
    )
    assert selector.matches(LABELS)
    assert selector.keys == ("app", "tier", "version")
    assert not selector.matches({**LABELS, "tier": "x"})
    for bad in (("a", "Like", ["b"]), ("a", "In", []), ("a", "Exists", ["b"])):
        with pytest.raises(ValueError, match=r"none of|takes"):
            selectors.of_expressions({}, [bad])


def test_equal_selectors_are_equal_values() -> None:
    assert selectors.parse("a=b,c in (e,d)") == selectors.parse("c in (d,e),a=b,a=b")
    assert EVERYTHING.matches({})


@given(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), st.sampled_from("abc"), st.sampled_from("xyz"))
def test_each_requirement_has_its_opposite(labels: dict[str, str], key: str, value: str) -> None:
    for one, other in ((Operator.IN, Operator.NOT_IN), (Operator.EXISTS, Operator.MISSING)):
        values = (value,) if one is Operator.IN else ()
        assert Requirement(key, one, values).matches(labels) != Requirement(key, other, values).matches(labels)
    assert selectors.of_labels({key: value}).matches(labels) is selectors.matches_labels({key: value}, labels)
