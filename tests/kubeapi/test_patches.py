"""The patches that people and controllers send, and the laws that they obey."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ostria.base import yaml
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.patches import json_patch, merge_patch, strategic_merge_patch
from ostria.kubeapi.schemas import Schema, Schemas


def read(text: str) -> Any:
    (document,) = yaml.read_documents(text, "test")
    assert isinstance(document, yaml.Document)
    return document.value


PLAIN = some.none() | some.booleans() | some.integers(-9, 9) | some.text("ab", max_size=2)
NAMES = some.sampled_from("abcd")
JSON = some.recursive(
    PLAIN, lambda below: some.lists(below, max_size=3) | some.dictionaries(NAMES, below, max_size=3), max_leaves=8
)
OBJECTS = some.dictionaries(NAMES, JSON, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(held) for key, held in value.items() if held is not None}
    return value


def has_nulls(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and any(map(has_nulls, value.values())))


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A merge patch from one object without nulls to another."""
    found: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        if key not in old or old[key] != value:
            before = old.get(key)
            both = isinstance(value, dict) and isinstance(before, dict)
            found[key] = difference(before, value) if both else value
    return found


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_applied_twice_is_applied_once(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_leads_from_any_object_to_any_other(old: Any, new: Any) -> None:
    old, new = without_nulls(old), without_nulls(new)
    assert merge_patch(old, difference(old, new)) == new


@given(OBJECTS)
def test_an_empty_merge_patch_changes_nothing_and_a_patch_of_nothing_is_itself_without_nulls(document: Any) -> None:
    assert merge_patch(document, {}) == document
    assert merge_patch({}, document) == without_nulls(document)


@given(OBJECTS, OBJECTS)
def test_without_a_schema_a_strategic_merge_is_a_merge_of_objects(document: Any, patch: Any) -> None:
    def objects_only(value: Any) -> Any:
        # What lists hold is taken as it is by one and cleaned of directives by the other.
        return {k: objects_only(v) for k, v in value.items()} if isinstance(value, dict) else str(value)

    patch = {key: objects_only(value) if value is not None else None for key, value in patch.items()}
    assert strategic_merge_patch(document, patch, None) == merge_patch(document, patch)


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ("{a: b}", "{a: c}", "{a: c}"),
        ("{a: b, b: c}", "{a: null}", "{b: c}"),
        ("{a: [b]}", "{a: c}", "{a: c}"),
        ("{a: {b: c}}", "{a: {b: d, c: null}}", "{a: {b: d}}"),
        ("{a: [{b: c}]}", "{a: [1]}", "{a: [1]}"),
        ("{e: null}", "{a: 1}", "{e: null, a: 1}"),
        ("{}", "{a: {bb: {ccc: null}}}", "{a: {bb: {}}}"),
    ],
)
def test_the_examples_of_rfc_7386(document: str, patch: str, result: str) -> None:
    assert merge_patch(read(document), read(patch)) == read(result)


def test_a_json_patch_does_its_operations_in_order() -> None:
    document = read("{spec: {hosts: [a, b], weight: 1}, old: x}")
    patch = read("""
    - {op: test, path: /spec/weight, value: 1}
    - {op: add, path: /spec/hosts/-, value: c}
    - {op: replace, path: /spec/weight, value: 2}
    - {op: move, from: /old, path: /new}
    - {op: copy, from: /spec/hosts, path: /spec/copied}
    - {op: remove, path: /spec/hosts/0}
    - {op: add, path: /spec/a~1b, value: {}}
    """)
    before = read("{spec: {hosts: [a, b], weight: 1}, old: x}")
    assert json_patch(document, patch) == read("{spec: {hosts: [b, c], weight: 2, copied: [a, b, c], a/b: {}}, new: x}")
    assert document == before


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ("{a: b}", 400),
        ("[{op: nonsense, path: /a}]", 400),
        ("[{op: add, path: a, value: 1}]", 422),
        ("[{op: remove, path: /missing}]", 422),
        ("[{op: test, path: /a, value: other}]", 422),
        ("[{op: copy, from: /missing, path: /a}]", 422),
        ("[{op: replace, path: '', value: 3}]", 422),
    ],
)
def test_a_json_patch_that_cannot_be_is_refused(patch: str, code: int) -> None:
    with pytest.raises(StatusError) as refused:
        json_patch({"a": "b"}, read(patch))
    assert refused.value.code == code


def test_a_failed_test_names_its_path() -> None:
    with pytest.raises(StatusError, match="testing value /a failed"):
        json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])


def test_copies_of_copies_are_stopped_before_they_fill_the_memory() -> None:
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/k{n}"} for n in range(60)]
    with pytest.raises(StatusError) as refused:
        json_patch({"a": {"b": "x" * 100}}, doubling)
    assert refused.value.code == 413


def deployment() -> Schema:
    found = Schemas.load().of("apps", "v1", "Deployment")
    assert found is not None
    return found


def containers(live: str, patch: str, extra: str = "") -> Any:
    document = {"spec": {"template": {"spec": {"containers": read(live)}}}}
    change = {"spec": {"template": {"spec": {"containers": read(patch), **(read(extra) if extra else {})}}}}
    return strategic_merge_patch(document, change, deployment())["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ("[{name: b, image: '2'}]", "[{name: a, image: '1'}, {name: b, image: '2'}]"),
        ("[{name: c, image: '3'}]", "[{name: c, image: '3'}, {name: a, image: '1'}, {name: b, image: '1'}]"),
        ("[{name: b}, {name: c}]", "[{name: a, image: '1'}, {name: b, image: '1'}, {name: c}]"),
        ("[{name: a, $patch: delete}]", "[{name: b, image: '1'}]"),
        ("[{$patch: replace}, {name: z}]", "[{name: z}]"),
        ("[{name: a, $patch: replace, tty: true}]", "[{name: a, tty: true}]"),
        ("[{name: a, image: null}]", "[{name: a}, {name: b, image: '1'}]"),
    ],
)
def test_containers_are_merged_by_their_names(patch: str, result: str) -> None:
    assert containers("[{name: a, image: '1'}, {name: b, image: '1'}]", patch) == read(result)


def test_an_order_is_kept_and_what_it_does_not_know_stays_between_its_neighbours() -> None:
    found = containers(
        "[{name: a}, {name: injected}, {name: b}]",
        "[{name: new}]",
        "{$setElementOrder/containers: [{name: b}, {name: new}, {name: a}]}",
    )
    assert [each["name"] for each in found] == ["injected", "b", "new", "a"]


def test_an_item_without_its_merge_key_is_refused() -> None:
    with pytest.raises(StatusError, match="does not contain declared merge key: name"):
        containers("[{name: a}]", "[{image: x}]")


def test_atomic_lists_are_replaced_and_labels_are_merged() -> None:
    live = read(
        "{metadata: {labels: {a: '1', b: '1'}}, spec: {template: {spec: {containers: [{name: a, args: [x, y]}]}}}}"
    )
    patch = read("""
    metadata: {labels: {b: null, c: '1'}}
    spec: {template: {spec: {containers: [{name: a, args: [z]}]}}}
    """)
    found = strategic_merge_patch(live, patch, deployment())
    assert found["metadata"]["labels"] == {"a": "1", "c": "1"}
    assert found["spec"]["template"]["spec"]["containers"] == [{"name": "a", "args": ["z"]}]
    assert live["metadata"]["labels"] == {"a": "1", "b": "1"}


def test_a_union_retains_only_the_keys_of_its_new_choice() -> None:
    live = read("{spec: {strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}}}")
    patch = read("{spec: {strategy: {type: Recreate, $retainKeys: [type]}}}")
    assert strategic_merge_patch(live, patch, deployment()) == {"spec": {"strategy": {"type": "Recreate"}}}


def test_lists_of_plain_values_are_joined_and_lose_what_a_patch_deletes() -> None:
    live = {"metadata": {"finalizers": ["a", "b"]}}
    patch = read("{metadata: {finalizers: [c, a], $deleteFromPrimitiveList/finalizers: [b]}}")
    found = strategic_merge_patch(live, patch, deployment())
    assert found["metadata"]["finalizers"] == ["c", "a"]


def test_an_object_is_replaced_or_deleted_as_a_whole_on_request() -> None:
    live = read("{spec: {selector: {matchLabels: {a: '1'}}, strategy: {type: Recreate}}}")
    patch = read("{spec: {selector: {$patch: replace, matchLabels: {b: '1'}}, strategy: {$patch: delete}}}")
    assert strategic_merge_patch(live, patch, deployment()) == read("{spec: {selector: {matchLabels: {b: '1'}}}}")


def test_ports_of_a_service_are_merged_by_port() -> None:
    schema = Schemas.load().of("", "v1", "Service")
    live = read("{spec: {ports: [{port: 80, nodePort: 30080}, {port: 443}]}}")
    patch = read("{spec: {ports: [{port: 80, targetPort: 8080}]}}")
    assert strategic_merge_patch(live, patch, schema) == read(
        "{spec: {ports: [{port: 80, nodePort: 30080, targetPort: 8080}, {port: 443}]}}"
    )
