"""Objects put in by hand: as text, as objects, as patches."""

from __future__ import annotations

from typing import Any

import pytest

from doubles.source_rigs import running
from ostria.base import ObjectKey
from ostria.base.merge_patch import merge_patch
from ostria.resources.kubernetes import ConfigMap
from ostria.resources.shapes import Meta
from ostria.sources import MemorySource

A = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '1'}\n"
KEY = ObjectKey("", "ConfigMap", "default", "a")


async def test_replacing_deletes_what_the_text_does_not_have() -> None:
    memory = MemorySource(A)
    async with running(memory) as mesh:
        memory.replace(A.replace("name: a", "name: b"))
        await mesh.until(lambda: {key.name for key in mesh.objects()} == {"b"})


async def test_typed_objects_are_put_in_as_they_are() -> None:
    memory = MemorySource()
    memory.apply([ConfigMap(Meta("a", "default"), {"v": "1"})])
    assert memory.document(KEY) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "default"},
        "data": {"v": "1"},
    }
    async with running(memory) as mesh:
        assert mesh.get(KEY) == ConfigMap(Meta("a", "default"), {"v": "1"})


def test_what_was_read_is_told_at_once() -> None:
    memory = MemorySource(namespace="prod")
    reading = memory.apply(f"{A}---\nkind: Pod\n---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: w}}\n")
    assert [change.key.namespace for change in reading.changes] == ["prod"]
    assert [str(problem.origin) for problem in reading.problems] == ["memory:6:1"]
    assert reading.unread == (("apps/v1", "StatefulSet", "", "w"),)
    assert memory.statistics().problems == reading.problems
    assert memory.changes() == reading.changes


def test_what_is_not_there_cannot_be_deleted() -> None:
    with pytest.raises(KeyError):
        MemorySource().delete(KEY)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # RFC 7396, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, None, None),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result
