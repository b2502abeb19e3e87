"""A patch makes the old value into the new one, and says no more than it must."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ostria.injection import json_patch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0]) | st.text("ab/~", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=4),
    max_leaves=20,
)


def apply(value: Any, patch: list[dict[str, Any]]) -> Any:
    """RFC 6902 for add, remove and replace."""
    root = {"": copy.deepcopy(value)}
    for operation in patch:
        steps = ["", *(step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:])]
        at: Any = root
        for step in steps[:-1]:
            at = at[int(step)] if isinstance(at, list) else at[step]
        last = steps[-1]
        if isinstance(at, list):
            index = int(last)
            assert index <= len(at) - (operation["op"] != "add")
            if operation["op"] == "add":
                at.insert(index, operation["value"])
            elif operation["op"] == "remove":
                del at[index]
            else:
                at[index] = operation["value"]
        elif operation["op"] == "remove":
            del at[last]
        else:
            assert (last in at) == (operation["op"] == "replace") or last in at
            at[last] = operation["value"]
    return root[""]


def exactly(value: Any) -> Any:
    """A value that is equal only to what JSON takes for the same."""
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    return [exactly(item) for item in value] if isinstance(value, list) else (type(value), value)


@given(JSON, JSON)
def test_the_patch_makes_the_one_into_the_other(old: Any, new: Any) -> None:
    assert exactly(apply(old, json_patch(old, new))) == exactly(new)


@given(JSON)
def test_equal_values_need_no_patch(value: Any) -> None:
    assert json_patch(value, copy.deepcopy(value)) == []


def test_what_is_added_to_a_list_is_all_that_is_said() -> None:
    old = {"volumes": [{"name": "a"}], "containers": [{"name": "app", "image": "x"}]}
    new = {"volumes": [{"name": "a"}, {"name": "b"}], "containers": [{"name": "proxy"}, {"name": "app", "image": "y"}]}
    assert json_patch(old, new) == [
        {"op": "add", "path": "/volumes/1", "value": {"name": "b"}},
        {"op": "add", "path": "/containers/0", "value": {"name": "proxy"}},
        {"op": "replace", "path": "/containers/1/image", "value": "y"},
    ]
