"""Checking a decoded document against a type, field by field, so that every mistake is told and none only the first.

The types are read with `msgspec.inspect`, so that what is checked here and what msgspec decodes are one statement:
a value passes here exactly if msgspec takes what is returned. Never knows kinds, files or lines.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from ostria.base import durations
from ostria.base.durations import Duration
from ostria.base.yaml import Path
from ostria.resources.shapes import OneOf


class Fault(NamedTuple):
    """One mistake in one field. `unknown` sets fields that nobody reads apart from fields that are wrong."""

    code: str
    path: Path
    message: str
    hint: str = ""
    unknown: bool = False


@cache
def type_of(shape: Any) -> inspect.Type:
    """What msgspec knows of a type."""
    return inspect.type_info(shape)


@cache
def fields_of(shape: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    """A struct's fields by the names of the wire."""
    info = type_of(shape)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: field for field in info.fields}


def decode_duration(type_: type, value: Any) -> Any:
    """msgspec's hook for the one type that it does not know."""
    if type_ is Duration and isinstance(value, str):
        return durations.parse(value)
    raise ValueError(f"Expected a duration, got {name_of(value)}")


def check(shape: type[msgspec.Struct], value: Any, path: Path = ()) -> tuple[Any, list[Fault]]:
    """The value without what msgspec would refuse, and what was wrong with it.

    Without faults, `msgspec.convert` of the returned value into `shape` succeeds. A field that is null counts as
    not written, as it does for Kubernetes and for protobuf.
    """
    faults: list[Fault] = []
    return _check(type_of(shape), value, path, faults), faults


def name_of(value: Any) -> str:
    """What a decoded value is, in the words of JSON."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {_short(value)}"
    if isinstance(value, str):
        return f'the text "{_short(value)}"'
    if isinstance(value, Mapping):
        return "an object"
    return "null" if value is None else "a list" if isinstance(value, list | tuple) else type(value).__name__


def nearest(name: str, names: Iterable[str]) -> str:
    """The hint that names the nearest of the names, if one is near."""
    by_lower = {known.lower().replace("_", ""): known for known in names}
    found = difflib.get_close_matches(name[:100].lower().replace("_", ""), by_lower, n=1, cutoff=0.6)
    return f"did you mean `{by_lower[found[0]]}`?" if found else ""


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _wrong(expected: str, value: Any, path: Path, faults: list[Fault], hint: str = "") -> None:
    faults.append(Fault("wrong-type", path, f"expected {expected}, got {name_of(value)}", hint))


def _check(info: inspect.Type, value: Any, path: Path, faults: list[Fault]) -> Any:
    check_one = _CHECKS.get(type(info))
    assert check_one is not None, f"the shapes use a type that is not checked: {info}"
    return check_one(info, value, path, faults)


def _struct(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, Mapping):
        _wrong("an object", value, path, faults)
        return {}
    shape = info.cls
    fields = fields_of(shape)
    known: dict[str, Any] = {}
    for name, item in value.items():
        field = fields.get(name)
        if field is None:
            if shape.__struct_config__.forbid_unknown_fields:
                hint = nearest(name, fields.keys() - value.keys())
                faults.append(
                    Fault("unknown-field", (*path, name), f'unknown field "{_short(name)}"', hint, unknown=True)
                )
        elif item is not None:
            known[name] = _check(field.type, item, (*path, name), faults)
    for name, field in fields.items():
        if field.required and name not in known:
            faults.append(Fault("required-field", (*path, name), f'required field "{name}" is missing'))
    if issubclass(shape, OneOf):
        for members in shape.MEMBERS:
            written = [name for name in members if name in known]
            if len(written) > 1:
                message = f"only one of {', '.join(members)} may be set, but {' and '.join(written)} are"
                faults.append(Fault("one-of", (*path, written[1]), message, "remove all but one"))
    return known


def _mapping(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, Mapping):
        _wrong("an object", value, path, faults)
        return {}
    return {name: _check(info.value_type, item, (*path, name), faults) for name, item in value.items()}


def _sequence(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, list | tuple):
        _wrong("a list", value, path, faults, "" if isinstance(value, Mapping) else "put `- ` in front of each item")
        return []
    _check_length(info, value, path, faults, "items")
    return [_check(info.item_type, item, (*path, index), faults) for index, item in enumerate(value)]


def _check_length(info: Any, value: Any, path: Path, faults: list[Fault], what: str) -> None:
    if info.min_length is not None and len(value) < info.min_length:
        message = "it is empty" if not value else f"fewer than {info.min_length} {what}"
        faults.append(Fault("invalid-value", path, message))
    if info.max_length is not None and len(value) > info.max_length:
        faults.append(Fault("invalid-value", path, f"more than {info.max_length} {what}"))


def _union(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    options = [option for option in info.types if not isinstance(option, inspect.NoneType)]
    if len(options) == 1:
        return _check(options[0], value, path, faults)
    # The only other union of the shapes is a port's: a number or a name.
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    _wrong("a number or a text", value, path, faults)
    return 0


def _text(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, str):
        quoted = "" if isinstance(value, Mapping | list) or value is None else f'quote it: "{_short(value).lower()}"'
        _wrong("a text", value, path, faults, quoted)
        return ""
    _check_length(info, value, path, faults, "characters")
    return value


def _number(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    whole = isinstance(info, inspect.IntType)
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and value != int(value)):
        text = isinstance(value, str) and value.lstrip("-").isdigit()
        _wrong("a whole number" if whole else "a number", value, path, faults, "remove the quotes" if text else "")
        return 0
    if (info.ge is not None and value < info.ge) or (info.le is not None and value > info.le):
        limits = f"at least {info.ge}" if info.le is None else f"between {info.ge} and {info.le}"
        faults.append(Fault("invalid-value", path, f"{_short(value)} is out of range: it must be {limits}"))
    return int(value) if whole else value


def _boolean(_: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, bool):
        hint = "remove the quotes" if isinstance(value, str) and value.lower() in ("true", "false") else ""
        _wrong("true or false", value, path, faults, hint)
        return False
    return value


def _enum(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if value in info.values if isinstance(value, str) else False:
        return value
    if not isinstance(value, str):
        _wrong(f"one of {', '.join(info.values)}", value, path, faults)
    else:
        message = f'"{_short(value)}" is none of {", ".join(info.values)}'
        faults.append(Fault("invalid-value", path, message, nearest(value, info.values)))
    return info.values[0]


def _bytes(_: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, str):
        _wrong("a text in base64", value, path, faults)
        return ""
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        faults.append(Fault("invalid-value", path, "not base64"))
        return ""
    return value


def _duration(_: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    if not isinstance(value, str):
        _wrong("a duration", value, path, faults, f'give the unit: "{_short(value)}s"' if type(value) is int else "")
        return "0s"
    try:
        durations.parse(value)
    except ValueError as error:
        faults.append(Fault("invalid-value", path, str(error)))
        return "0s"
    return value


def _any(_: Any, value: Any, _path: Path, _faults: list[Fault]) -> Any:
    return value


_CHECKS: dict[type, Any] = {
    inspect.StructType: _struct,
    inspect.DictType: _mapping,
    inspect.VarTupleType: _sequence,
    inspect.UnionType: _union,
    inspect.StrType: _text,
    inspect.IntType: _number,
    inspect.FloatType: _number,
    inspect.BoolType: _boolean,
    inspect.LiteralType: _enum,
    inspect.BytesType: _bytes,
    inspect.CustomType: _duration,
    inspect.AnyType: _any,
    inspect.RawType: _any,
}
