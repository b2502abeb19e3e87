"""Laws of the door: what is written is read back, what passes is what msgspec takes, and nothing makes it raise."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from ostria.base import Level, ObjectKey
from ostria.base.yaml import Document, Tree
from ostria.resources import KINDS, Kind, parse, read_text
from ostria.resources.decode import decode_list
from ostria.resources.fields import check, decode_duration, fields_of, type_of
from ostria.resources.parse import read, wire_shape
from ostria.resources.refusals import encode_duration
from ostria.resources.shapes import OneOf

KEY = ObjectKey("", "X", "default", "a")
ALL = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def generated(info: Any) -> st.SearchStrategy[Any]:
    """Values as JSON has them, of one type."""
    if isinstance(info, inspect.StructType):
        return structs(info.cls)
    if isinstance(info, inspect.UnionType):
        return st.one_of(*(generated(option) for option in info.types if not isinstance(option, inspect.NoneType)))
    if isinstance(info, inspect.DictType):
        return st.dictionaries(st.text(max_size=5), generated(info.value_type), max_size=2)
    if isinstance(info, inspect.VarTupleType):
        least = info.min_length or 0
        return st.lists(generated(info.item_type), min_size=least, max_size=max(2, least))
    if isinstance(info, inspect.LiteralType):
        return st.sampled_from(info.values)
    if isinstance(info, inspect.CustomType):
        return st.integers(-(10**12), 10**12).map(lambda ms: f"{ms}ms")
    if isinstance(info, inspect.BytesType):
        return st.sampled_from(["", "aGk=", "AAAA"])
    if isinstance(info, inspect.BoolType):
        return st.booleans()
    if isinstance(info, inspect.IntType):
        low = -(2**31) if info.ge is None else int(info.ge)
        return st.integers(low, low + 2**31 if info.le is None else min(int(info.le), 2**62))
    if isinstance(info, inspect.FloatType):
        return st.floats(info.ge, info.le, allow_nan=False, allow_infinity=False)
    if isinstance(info, inspect.StrType):
        return st.text(min_size=info.min_length or 0, max_size=8)
    return st.none() | st.integers()


@functools.cache
def structs(shape: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    fields = fields_of(shape)
    left_out = {name for members in (shape.MEMBERS if issubclass(shape, OneOf) else ()) for name in members[1:]}
    required = {name: generated(field.type) for name, field in fields.items() if field.required}
    optional = {
        name: st.deferred(lambda field=field: generated(field.type))
        for name, field in fields.items()
        if not field.required and name not in left_out
    }
    return st.fixed_dictionaries(required, optional=optional)


@functools.cache
def json_values() -> st.SearchStrategy[Any]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5)
    )
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    )


def damage(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The value with one part, somewhere in it, replaced by anything."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: damage(value[name], draw)}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], damage(value[at], draw), *value[at + 1 :]]
    return draw(json_values())


@ALL
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_of_the_type_passes_and_reads_back(kind: Kind, data: st.DataObject) -> None:
    value = data.draw(structs(kind.shape))
    checked, faults = check(wire_shape(kind), value)
    assert faults == []
    obj = msgspec.convert(checked, kind.shape, dec_hook=decode_duration)
    written = msgspec.json.encode(obj, enc_hook=encode_duration)
    assert msgspec.json.decode(written, type=kind.shape, dec_hook=decode_duration) == obj
    again, faults = check(kind.shape, json.loads(written))
    assert faults == []
    assert msgspec.convert(again, kind.shape, dec_hook=decode_duration) == obj


@ALL
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_check_and_msgspec_agree(kind: Kind, data: st.DataObject) -> None:
    shape = wire_shape(kind)
    value = damage(data.draw(structs(kind.shape)), data.draw)
    checked, faults = check(shape, value)
    if faults:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, shape, dec_hook=decode_duration)
    else:
        msgspec.convert(checked, shape, dec_hook=decode_duration)


@ALL
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_document_makes_parsing_raise(kind: Kind, data: st.DataObject) -> None:
    value = damage(data.draw(structs(kind.shape)), data.draw)
    obj, problems = parse(kind, value, KEY)
    assert (obj is None) == any(problem.level is Level.ERROR for problem in problems)
    document = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "a"}}
    if isinstance(value, dict):
        document = {**document, **{name: part for name, part in value.items() if name != "metadata"}}
    text = json.dumps(document)
    for change in read_text(text, "f.yaml").changes:
        assert all(problem.origin is not None and problem.origin.line for problem in change.problems)
    decode_list(kind, f'{{"items":[{text}]}}'.encode())


@given(json_values())
def test_no_value_makes_reading_raise(value: Any) -> None:
    read(Document(value, "f.yaml", Tree(1, 1)))


def test_every_type_of_the_shapes_is_known_here() -> None:
    for kind in KINDS.values():
        assert isinstance(type_of(kind.shape), inspect.StructType)
