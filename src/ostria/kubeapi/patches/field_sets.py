"""Which fields of an object there are, by the paths that `managedFields` names them with.

A path is a tuple of elements as FieldsV1 spells them: `f:NAME` for a field, `k:{"name":"x"}` for an item by its keys,
`v:VALUE` for a member of a set. What is atomic by schema is one path, whatever is in it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from ostria.kubeapi.requests import Document
from ostria.kubeapi.schemas import Schema

Path = tuple[str, ...]

# What the server or the request's address says is nobody's field.
_UNOWNED = frozenset({("f:apiVersion",), ("f:kind",)}) | {
    ("f:metadata", f"f:{name}")
    for name in (
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields",
        "name", "namespace", "resourceVersion", "selfLink", "uid",
    )
}  # fmt: skip


class Item(NamedTuple):
    """The value of a path that names a list's item: its presence is owned, its fields have paths of their own."""


def fields(document: Document, schema: Schema | None) -> dict[Path, Any]:
    """Every path in the document that can be owned, with what stands there."""
    return dict(_fields(document, schema, ()))


def _fields(value: Any, schema: Schema | None, path: Path) -> Iterator[tuple[Path, Any]]:
    if path in _UNOWNED:
        return
    if isinstance(value, dict) and value and not (schema and schema.atomic_map):
        for key, held in value.items():
            yield from _fields(held, schema.child(key) if schema else None, (*path, f"f:{key}"))
    elif isinstance(value, list) and value and schema and schema.list_type == "map":
        items = schema.items()
        for held in value:
            below = (*path, key_element(held, schema))
            yield below, Item()
            yield from _fields(held, items, below)
    elif isinstance(value, list) and value and schema and schema.list_type == "set":
        for held in value:
            yield (*path, value_element(held)), Item()
    elif path:
        yield path, value


def key_element(item: Any, schema: Schema) -> str:
    """How an item of a keyed list is named; keys that are not written have their default."""
    items = schema.items()
    found = {}
    for key in sorted(schema.list_keys):
        child = items.child(key) if items else None
        value = item.get(key) if isinstance(item, dict) else None
        if value is None and child:
            value = child.default_value
        if value is not None:
            found[key] = value
    return "k:" + msgspec.json.encode(found).decode()


def value_element(value: Any) -> str:
    """How a member of a set is named."""
    return "v:" + msgspec.json.encode(value).decode()


def to_fields_v1(paths: Iterable[Path]) -> Document:
    """Paths as the tree that `fieldsV1` holds. A path that has others below it is told by `.`."""
    root: Document = {}
    ends = []
    for path in sorted(paths):
        node = root
        for element in path:
            node = node.setdefault(element, {})
        ends.append(node)
    for node in ends:
        if node:
            node["."] = {}
    return root


def from_fields_v1(tree: Any) -> set[Path]:
    """The paths of a `fieldsV1`; what is not understood is left out."""
    return set(_paths(tree, ()))


def _paths(tree: Any, path: Path) -> Iterator[Path]:
    if not isinstance(tree, dict):
        return
    if not tree and path:
        yield path
    for element, below in tree.items():
        if element == ".":
            yield path
        else:
            yield from _paths(below, (*path, element))


def printed(path: Path) -> str:
    """A path as people read it: `.spec.containers[name="x"].image`."""
    words = []
    for element in path:
        kind, _, name = element.partition(":")
        if kind == "f":
            words.append(f".{name}")
        elif kind == "k":
            pairs = msgspec.json.decode(name)
            words.append(
                "[" + ",".join(f"{key}={msgspec.json.encode(held).decode()}" for key, held in pairs.items()) + "]"
            )
        else:
            words.append(f"[={name}]")
    return "".join(words)


def merged(live: Any, applied: Any, schema: Schema | None) -> Any:
    """What is live with what is applied on top; shares parts with both."""
    if isinstance(applied, dict) and isinstance(live, dict) and not (schema and schema.atomic_map):
        result = dict(live)
        for key, value in applied.items():
            result[key] = merged(live[key], value, schema.child(key) if schema else None) if key in live else value
        return result
    if isinstance(applied, list) and isinstance(live, list) and schema and schema.list_type == "set":
        return live + [each for each in applied if each not in live]
    if isinstance(applied, list) and isinstance(live, list) and schema and schema.list_type == "map":
        items = schema.items()
        result_items = list(live)
        places = {key_element(each, schema): n for n, each in enumerate(live)}
        for each in applied:
            place = places.get(key_element(each, schema))
            if place is None:
                result_items.append(each)
            else:
                result_items[place] = merged(result_items[place], each, items)
        return result_items
    return applied


def without(document: Document, paths: Iterable[Path], schema: Schema | None, *, keep: set[Path]) -> Document:
    """The document without the given paths; objects and lists that are empty then go too, unless they are in `keep`.

    The fields that are the keys of a list's item stay for as long as the item does.
    """
    result = copy.deepcopy(document)
    gone = set(paths)
    for path in sorted(gone):
        if not any(path[:size] in gone for size in range(1, len(path))):
            _remove(result, path, schema, keep, ())
    return result


def _remove(value: Any, path: Path, schema: Schema | None, keep: set[Path], above: Path) -> bool:
    """Removes `path` from `value`, in place; whether `value` has become empty by it."""
    element, rest = path[0], path[1:]
    here = (*above, element)
    if isinstance(value, dict) and element.startswith("f:"):
        key = element.removeprefix("f:")
        child = schema.child(key) if schema else None
        is_key = above and above[-1].startswith("k:") and key in msgspec.json.decode(above[-1].removeprefix("k:"))
        if key in value and not (is_key and not rest):
            if not rest or (_remove(value[key], rest, child, keep, here) and here not in keep):
                del value[key]
            return not value
    elif isinstance(value, list) and schema:
        for index, held in enumerate(value):
            name = key_element(held, schema) if element.startswith("k:") else value_element(held)
            if name == element:
                if not rest:
                    del value[index]
                else:
                    _remove(held, rest, schema.items(), keep, here)
                return not value
    return False
