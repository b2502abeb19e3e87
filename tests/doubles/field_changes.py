"""Every field that a kind's objects may have, and what an object is like with one of them changed.

A document is walked along its kind's type, so that each of its fields is known by the type that declares it. A field is
changed by taking it away or, if it must be there, by giving it another value; whether the object is still valid is for
the reader to find out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from ostria.base.durations import Duration
from ostria.base.yaml import Path
from ostria.resources.fields import fields_of, type_of

# What stands in fields that are texts to their types and words of a list to the API.
_WORDS = (
    "9s",
    "NOT_FOUND",
    "HTTP",
    "TCP",
    "TLS",
    "REGISTRY_ONLY",
    "Exact",
    "RegularExpression",
    "All",
    "None",
    "NotIn",
    "Passthrough",
    "10.9.9.9",
    "Permanent",
    "Header",
)

# A field of a type that a kind's spec is made of: ("HTTPRetry", "attempts").
Field = tuple[str, str]


class Place(NamedTuple):
    """One field as it stands in a document: the path to it, the field, and the type of its value.

    What `has_parts` is made of other fields, which are changed one by one.
    """

    path: Path
    field: Field
    type: inspect.Type
    has_parts: bool = False


def declared(shape: type[msgspec.Struct]) -> frozenset[Field]:
    """Every field of a type, and of the types of its fields."""
    found: set[Field] = set()
    seen: set[type] = set()

    def visit(info: inspect.Type) -> None:
        info = _inner(info)
        if isinstance(info, inspect.StructType):
            if info.cls in seen:
                return
            seen.add(info.cls)
            for name, field in fields_of(info.cls).items():
                found.add((info.cls.__name__, name))
                visit(field.type)
        elif isinstance(info, inspect.VarTupleType):
            visit(info.item_type)
        elif isinstance(info, inspect.DictType):
            visit(info.value_type)

    visit(type_of(shape))
    return frozenset(found)


def places(shape: type[msgspec.Struct], value: Any, path: Path = ()) -> Iterator[Place]:
    """The fields that a document has, those of its parts after them."""
    for name, item in value.items():
        info = fields_of(shape)[name].type
        here = Place((*path, name), (shape.__name__, name), _inner(info))
        parts = list(_within(here.type, item, here.path))
        yield here._replace(has_parts=bool(parts))
        yield from parts


def _within(info: inspect.Type, value: Any, path: Path) -> Iterator[Place]:
    info = _inner(info)
    if isinstance(info, inspect.StructType):
        yield from places(info.cls, value, path)
    elif isinstance(info, inspect.VarTupleType):
        for number, item in enumerate(value):
            yield from _within(info.item_type, item, (*path, number))
    elif isinstance(info, inspect.DictType):
        for key, item in value.items():
            yield from _within(info.value_type, item, (*path, key))


def changed(document: Mapping[str, Any], place: Place) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The document without the field (None), and then with other values of it."""
    yield None, _with(document, place.path, None)
    old = _at(document, place.path)
    for value in _others(place.type, old):
        if value != old:
            yield value, _with(document, place.path, value)


def _others(info: inspect.Type, old: Any) -> Iterator[Any]:
    if isinstance(info, inspect.LiteralType):
        yield from info.values
    elif isinstance(info, inspect.BoolType):
        yield not old
    elif isinstance(info, inspect.IntType | inspect.FloatType):
        yield from (old + 1, old - 1)
    elif isinstance(info, inspect.StrType):
        yield from (f"x{old}", f"{old}x", f"{old}/x", *_WORDS)
    elif isinstance(info, inspect.CustomType) and info.cls is Duration:
        yield "9s"
    elif isinstance(info, inspect.DictType) and isinstance(_inner(info.value_type), inspect.StrType):
        yield {key: f"x{value}" for key, value in old.items()}
    elif isinstance(info, inspect.DictType) and isinstance(_inner(info.value_type), inspect.IntType):
        yield dict(zip(old, reversed(old.values()), strict=True))
        yield {key: value + 1 for key, value in old.items()}
    elif isinstance(info, inspect.VarTupleType) and isinstance(_inner(info.item_type), inspect.StrType):
        yield from (old[1:], [f"x{old[0]}"], [f"{old[0]}x"], ["*"], ["."])


def _inner(info: inspect.Type) -> inspect.Type:
    """The type without what only says that a field may be left out, or within which bounds it is."""
    if isinstance(info, inspect.Metadata):
        return _inner(info.type)
    if isinstance(info, inspect.UnionType):
        rest = [each for each in info.types if not isinstance(each, inspect.NoneType)]
        return _inner(rest[0])
    return info


def _at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _with(document: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(dict(document))
    holder = _at(made, path[:-1])
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return made
