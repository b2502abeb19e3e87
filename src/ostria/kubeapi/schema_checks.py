"""What is wrong with a document, by its schema, in the words that the API server uses.

A CRD's structural schema is checked whole: types, required fields, bounds, patterns, enums, formats, keys of lists, and
allOf, anyOf, oneOf and not. Of a built-in kind types are checked, and that required fields are there, except below
`status`, which programs write piece by piece. CEL rules are not acted on.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from ostria.kubeapi.errors import Cause

if TYPE_CHECKING:
    from ostria.kubeapi.schemas import Schema

INVALID = "FieldValueInvalid"
REQUIRED = "FieldValueRequired"
TYPE_INVALID = "FieldValueTypeInvalid"
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)
# What Go calls the types that fields of built-in kinds have.
_GO_TYPES = {"boolean": "bool", "object": "map[string]interface {}", "array": "[]interface {}", "number": "float64"}
_INDEX = re.compile(r"\[\d+\]")
_JSON_TYPES = {"boolean": "bool", "null": "null"}


def causes(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    """Every cause why `value`, found at `path`, does not fit; nothing where it does."""
    if value is None:
        if schema.structural and not schema.node.get("nullable") and schema.kind and path:
            yield _mistyped(schema, value, path)
        return
    if not _has_type(schema, value):
        yield _mistyped(schema, value, path)
        return
    if schema.structural:
        yield from _bounds(schema.node, value, path)
        yield from _alternatives(schema, value, path)
    if isinstance(value, dict):
        yield from _required(schema, value, path)
        for key, held in value.items():
            if (child := schema.child(key)) is not None:
                yield from causes(child, held, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        if schema.structural:
            yield from _duplicates(schema, value, path)
        if (items := schema.items()) is not None:
            for index, held in enumerate(value):
                yield from causes(items, held, f"{path}[{index}]")


def decoding_error(schema: Schema, document: dict[str, Any]) -> Cause | None:
    """Why a Go decoder cannot read the document into a built-in kind, and the field; None if it can."""
    kinds = schema.node.get("x-kubernetes-group-version-kind") or ({"kind": "Object"},)
    found = _first_mistyped(schema, document, "", kinds[0]["kind"], "")
    return Cause(found.field, f"json: cannot unmarshal {found.message}", "FieldValueTypeInvalid") if found else None


def _first_mistyped(schema: Schema, value: Any, path: str, struct: str, holder: str) -> Cause | None:
    """`struct` is the Go struct that `schema` describes, `holder` the one that has the field at `path`."""
    if value is None:
        return None
    if not _has_type(schema, value):
        # Go names a field by its path without indexes.
        named = f"{holder}.{_INDEX.sub('', path)}"
        words = f"{_json_type(schema, value)} into Go struct field {named} of type {_go_type(schema, struct)}"
        return Cause(path, words)
    if isinstance(value, dict):
        for key, held in value.items():
            if (child := schema.child(key)) is not None:
                named = _struct((schema.node.get("properties") or {}).get(key) or schema.node["additionalProperties"])
                if found := _first_mistyped(child, held, f"{path}.{key}" if path else key, named, struct or holder):
                    return found
    if isinstance(value, list) and (items := schema.items()) is not None:
        for index, held in enumerate(value):
            if found := _first_mistyped(items, held, f"{path}[{index}]", _struct(schema.node["items"]), holder):
                return found
    return None


def _struct(node: dict[str, Any]) -> str:
    return str(node.get("$ref") or "").rpartition(".")[2]


def _json_type(schema: Schema, value: Any) -> str:
    found = _type_of(value)
    if found in ("integer", "number"):
        return f"number {value}" if schema.kind == "integer" else "number"
    return _JSON_TYPES.get(found, found)


def _go_type(schema: Schema, struct: str) -> str:
    if schema.kind == "integer":
        return str(schema.node.get("format") or "int64")
    if schema.kind == "object" and struct:
        return f"v1.{struct}"
    return _GO_TYPES.get(schema.kind, schema.kind)


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _has_type(schema: Schema, value: Any) -> bool:
    node = schema.node
    found = _type_of(value)
    if node.get("x-kubernetes-int-or-string"):
        return found in ("integer", "string")
    if not schema.structural and "oneOf" in node:
        return any(_fits(each.get("type"), found, value) for each in node["oneOf"])
    wanted = schema.kind
    if not wanted:
        return True
    if not _fits(wanted, found, value):
        return False
    if wanted == "integer":
        return int(value) in (_INT32 if node.get("format") == "int32" else _INT64)
    return True


def _fits(wanted: str | None, found: str, value: Any) -> bool:
    if wanted == found or (wanted == "number" and found == "integer"):
        return True
    return wanted == "integer" and found == "number" and float(value).is_integer()


def _mistyped(schema: Schema, value: Any, path: str) -> Cause:
    found = _type_of(value)
    wanted = "integer or string" if schema.node.get("x-kubernetes-int-or-string") else schema.kind
    if wanted == found == "integer":
        wanted = str(schema.node.get("format") or "int64")
    return Cause(
        path or "<nil>",
        f'Invalid value: "{found}": {path or "<nil>"} in body must be of type {wanted}: "{found}"',
        TYPE_INVALID,
    )


def _required(schema: Schema, value: dict[str, Any], path: str) -> Iterator[Cause]:
    if not schema.structural and (path == "status" or path.startswith("status.")):
        return
    for name in schema.node.get("required") or ():
        if name not in value:
            yield Cause(f"{path}.{name}" if path else name, "Required value", REQUIRED)


def _bounds(node: dict[str, Any], value: Any, path: str) -> Iterator[Cause]:
    """The validations of one value by itself."""
    for words in _broken_bounds(node, value, path):
        shown = f"Invalid value: {_shown(value)}: {path} in body {words}"
        yield Cause(path, shown, INVALID)
    if "enum" in node and value not in node["enum"]:
        listed = ", ".join(_shown(each) for each in node["enum"])
        yield Cause(path, f"Unsupported value: {_shown(value)}: supported values: {listed}", "FieldValueNotSupported")
    if isinstance(value, list) and _over(node, "maxItems", len(value)):
        words = f"Too many: {len(value)}: must have at most {node['maxItems']} items"
        yield Cause(path, words, "FieldValueTooMany")
    if isinstance(value, dict) and _over(node, "maxProperties", len(value)):
        words = f"Too many: {len(value)}: must have at most {node['maxProperties']} items"
        yield Cause(path, words, "FieldValueTooMany")
    if isinstance(value, str) and _over(node, "maxLength", len(value)):
        yield Cause(path, f"Too long: may not be more than {node['maxLength']} bytes", "FieldValueTooLong")


def _over(node: dict[str, Any], bound: str, size: int) -> bool:
    return bound in node and size > node[bound]


def _broken_bounds(node: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    if isinstance(value, str):
        if "minLength" in node and len(value) < node["minLength"]:
            yield f"should be at least {node['minLength']} chars long"
        if "pattern" in node and not _matches(node["pattern"], value):
            yield f"should match '{node['pattern']}'"
        if "format" in node and not _has_format(node["format"], value):
            yield f'must be of type {node["format"]}: "{value}"'
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        least, most = node.get("minimum"), node.get("maximum")
        above, below = bool(node.get("exclusiveMinimum")), bool(node.get("exclusiveMaximum"))
        if least is not None and (value < least or (above and value == least)):
            yield f"should be greater than {'' if above else 'or equal to '}{least}"
        if most is not None and (value > most or (below and value == most)):
            yield f"should be less than {'' if below else 'or equal to '}{most}"
        if "multipleOf" in node and value % node["multipleOf"]:
            yield f"should be a multiple of {node['multipleOf']}"
    elif isinstance(value, list):
        if "minItems" in node and len(value) < node["minItems"]:
            yield f"should have at least {node['minItems']} items"
    elif isinstance(value, dict) and "minProperties" in node and len(value) < node["minProperties"]:
        yield f"should have at least {node['minProperties']} properties"


def _alternatives(schema: Schema, value: Any, path: str) -> Iterator[Cause]:
    node = schema.node
    if node.get("x-kubernetes-int-or-string"):
        return
    for each in node.get("allOf") or ():
        yield from causes(_value_only(schema, each), value, path)
    where = f'"{path}" ' if path else '"" '
    if "anyOf" in node and not any(_fits_node(schema, each, value) for each in node["anyOf"]):
        yield _refused(value, path, where + "must validate at least one schema (anyOf)")
    if "oneOf" in node and (fitting := sum(_fits_node(schema, each, value) for each in node["oneOf"])) != 1:
        count = f"Found {fitting} valid alternatives" if fitting else "Found none valid"
        yield _refused(value, path, where + f"must validate one and only one schema (oneOf). {count}")
    if "not" in node and _fits_node(schema, node["not"], value):
        yield _refused(value, path, where + "must not validate the schema (not)")


def _refused(value: Any, path: str, words: str) -> Cause:
    shown = _type_of(value) if isinstance(value, (dict, list)) else value
    return Cause(path or "<nil>", f"Invalid value: {_shown(shown)}: {words}", INVALID)


def _fits_node(schema: Schema, node: dict[str, Any], value: Any) -> bool:
    return next(causes(_value_only(schema, node), value, ""), None) is None


def _value_only(schema: Schema, node: dict[str, Any]) -> Schema:
    """A validation nested in allOf, anyOf, oneOf or not: about values only, it has no say in nulls or fields."""
    return schema._replace(node=node)


def _duplicates(schema: Schema, value: list[Any], path: str) -> Iterator[Cause]:
    if schema.list_type == "atomic" and not schema.node.get("uniqueItems"):
        return
    keys = schema.list_keys if schema.list_type == "map" else ()
    items = schema.items()
    seen = set()
    for index, held in enumerate(value):
        if keys and not isinstance(held, dict):
            continue
        told = {key: held.get(key, _default_of(items, key)) for key in keys} if keys else held
        identity = msgspec.json.encode(told, order="deterministic")
        if identity in seen:
            shown = identity.decode()
            yield Cause(f"{path}[{index}]", f"Duplicate value: {shown}", "FieldValueDuplicate")
        seen.add(identity)


def _default_of(items: Schema | None, key: str) -> Any:
    child = items.child(key) if items else None
    return child.default_value if child else None


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        value = _type_of(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    try:
        # RE2's \z is Python's \Z; the rest of what definitions use is the same in both.
        return re.compile(pattern.replace(r"\z", r"\Z"))
    except re.error:
        return None


def _matches(pattern: str, value: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is None or compiled.search(value) is not None


def _has_format(name: str, value: str) -> bool:
    try:
        if name == "date-time":
            datetime.fromisoformat(value)
            return "T" in value.upper() and len(value) > len("2006-01-02T15:04:05")
        if name == "date":
            datetime.strptime(value, "%Y-%m-%d")
        elif name == "byte":
            base64.b64decode(value, validate=True)
        elif name == "ipv4":
            ipaddress.IPv4Address(value)
        elif name == "ipv6":
            ipaddress.IPv6Address(value)
        elif name == "cidr":
            ipaddress.ip_network(value, strict=False)
        elif name in ("uuid", "uuid3", "uuid4", "uuid5"):
            return re.fullmatch(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}", value) is not None
    except (ValueError, binascii.Error):
        return False
    return True
