"""The shapes of objects: of built-in kinds (Kubernetes' OpenAPI, packed by `make schemas`) and those that CRDs bring.

What a Schema answers is about one document and nothing else: which fields are unknown, what is left when they are
taken away, which defaults are missing, and (schema_checks.py) what is wrong. CEL rules (x-kubernetes-validations) are
kept in definitions and shown to readers, and are not acted on.
"""

from __future__ import annotations

import copy
import lzma
import pkgutil
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from ostria.kubeapi import schema_checks
from ostria.kubeapi.errors import Cause
from ostria.kubeapi.requests import Document

_PREFIX = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_PRESERVE = "x-kubernetes-preserve-unknown-fields"


class Schema(NamedTuple):
    """One node of a schema: an object's, a field's, or a list item's. `definition` finds what references name.

    `structural` tells a CRD's schema, where nulls count and all values are checked, from a built-in's, where what Go
    would decode to an empty value is accepted.
    """

    node: Document
    definition: Callable[[str], Document]
    structural: bool = False

    def child(self, field: str) -> Schema | None:
        """The schema of a field of this object or of a key of this map; None where anything or nothing may stand."""
        properties = self.node.get("properties")
        if properties and field in properties:
            return self._at(properties[field])
        values = self.node.get("additionalProperties")
        return self._at(values) if isinstance(values, dict) else None

    def items(self) -> Schema | None:
        """The schema of this list's items."""
        found = self.node.get("items")
        return self._at(found) if isinstance(found, dict) else None

    @property
    def kind(self) -> str:
        """`object`, `array`, `string`, `integer`, `number`, `boolean`; "" where several are possible."""
        return str(self.node.get("type") or "")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are named, in alphabetical order for built-in kinds, in the author's for others."""
        return tuple(self.node.get("properties") or ())

    @property
    def list_type(self) -> str:
        """`atomic`, `set` or `map`: whether managers share a list, and how its items are told apart."""
        return str(self.node.get("x-kubernetes-list-type") or "atomic")

    @property
    def list_keys(self) -> tuple[str, ...]:
        """The fields that together identify an item of a list of type `map`."""
        return tuple(self.node.get("x-kubernetes-list-map-keys") or ())

    @property
    def atomic_map(self) -> bool:
        """Whether an object is owned and replaced as a whole."""
        return self.node.get("x-kubernetes-map-type") == "atomic"

    @property
    def patch_strategies(self) -> frozenset[str]:
        """Of `merge`, `replace` and `retainKeys`: how a strategic merge patch treats this field."""
        return frozenset(filter(None, str(self.node.get("x-kubernetes-patch-strategy") or "").split(",")))

    @property
    def merge_key(self) -> str:
        """The field by which a strategic merge patch tells a list's items apart; "" for lists of plain values."""
        return str(self.node.get("x-kubernetes-patch-merge-key") or "")

    @property
    def default_value(self) -> Any:
        """What stands where nothing is written; None if nothing does."""
        return self.node.get("default")

    @property
    def open(self) -> bool:
        """Whether fields that are not named are kept."""
        node = self.node
        if node.get(_PRESERVE) or node.get("additionalProperties") is True:
            return True
        return "type" not in node and "properties" not in node and "additionalProperties" not in node

    def check(self, document: Document) -> tuple[Cause, ...]:
        """What is wrong with a document's types and values, in the order of its fields; () if nothing is."""
        return tuple(schema_checks.causes(self, document, ""))

    def decoding_error(self, document: Document) -> Cause | None:
        """For built-in kinds: why the JSON cannot be read as this kind, as a Go decoder says it; None if it can."""
        return schema_checks.decoding_error(self, document)

    def unknown(self, document: Document) -> tuple[str, ...]:
        """The paths of the fields that the schema does not have: `spec.foo`, `spec.ports[0].bar`."""
        return tuple(_unknown(self, document, ""))

    def prune(self, document: Document) -> Document:
        """The document without the fields that the schema does not have. What is kept is shared with the argument."""
        pruned: Document = _prune(self, document)
        return pruned

    def default(self, document: Document) -> Document:
        """The document with the schema's defaults in place of what is missing. What is kept is shared."""
        filled: Document = _default(self, document)
        return filled

    def _at(self, node: Document) -> Schema:
        # A structural schema refers to one definition only, ObjectMeta, which is Go's as in every built-in kind.
        return Schema(self._resolved(node), self.definition, self.structural and "$ref" not in node)

    def _resolved(self, node: Document) -> Document:
        if "$ref" not in node:
            return node
        target = self.definition(node["$ref"].removeprefix(_PREFIX))
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return {**target, **beside} if beside else target


class Schemas:
    """The schemas of the built-in kinds. Each definition is decoded when it is first asked for."""

    def __init__(self, packed: bytes) -> None:
        index, *lines = lzma.decompress(packed).split(b"\n")
        read = msgspec.json.decode(index)
        self.version: str = read["version"]
        self._kinds: dict[str, str] = read["kinds"]
        self._packed = {name.decode(): node for name, _, node in (line.partition(b"\t") for line in lines)}
        self._decoded: dict[str, Document] = {}

    @classmethod
    def load(cls) -> Schemas:
        """The schemas that are shipped; read once in a process."""
        return _shipped()

    def of(self, group: str, version: str, kind: str) -> Schema | None:
        """The schema of a built-in kind; None for what the pack does not have."""
        name = self.name(group, version, kind)
        return Schema(self.definition(name), self.definition) if name else None

    def name(self, group: str, version: str, kind: str) -> str:
        """What OpenAPI calls the definition of a kind; "" for what the pack does not have."""
        return self._kinds.get(f"{group}/{version}/{kind}" if group else f"{version}/{kind}", "")

    def definition(self, name: str) -> Document:
        """A definition by its full name (`io.k8s.api.core.v1.Pod`). It is shared: it is not changed."""
        found = self._decoded.get(name)
        if found is None:
            found = self._decoded[name] = self.written(name)
        return found

    def written(self, name: str) -> Document:
        """A definition as it is packed, read anew: for whoever needs all of them once, and keeps none."""
        read: Document = msgspec.json.decode(self._packed[name])
        return read

    def from_crd(self, schema: Document) -> Schema:
        """The schema of a CRD's version, from its `openAPIV3Schema`. Every object has kind, apiVersion and metadata."""
        return Schema(complete(schema), self.definition, structural=True)


@lru_cache(maxsize=1)
def _shipped() -> Schemas:
    packed = pkgutil.get_data("ostria.kubeapi", "schemas.bin")
    if packed is None:
        raise FileNotFoundError("schemas.bin is not among the package's files: make schemas")
    return Schemas(packed)


def complete(schema: Document) -> Document:
    """A CRD's schema with what every object (also those embedded) has: apiVersion, kind and metadata."""
    properties = {
        **(schema.get("properties") or {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": _PREFIX + _META},
    }
    return {**schema, "type": "object", "properties": properties}


def strict_decoding_error(fields: tuple[str, ...]) -> str:
    """What a strict request is refused with, of fields that are unknown."""
    return "strict decoding error: " + ", ".join(f'unknown field "{field}"' for field in fields)


def unknown_field_warnings(fields: tuple[str, ...]) -> tuple[str, ...]:
    """What a lenient request is warned of, a warning for each field that is unknown."""
    return tuple(f'unknown field "{field}"' for field in fields)


def _embedded(schema: Schema) -> Schema:
    if schema.structural and schema.node.get("x-kubernetes-embedded-resource"):
        return schema._replace(node=complete(schema.node))
    return schema


def _unknown(schema: Schema, value: Any, path: str) -> Iterator[str]:
    schema = _embedded(schema)
    if isinstance(value, dict):
        for key, held in value.items():
            below = f"{path}.{key}" if path else str(key)
            child = schema.child(key)
            if child is not None:
                yield from _unknown(child, held, below)
            elif not schema.open and schema.kind in ("object", ""):
                yield below
    elif isinstance(value, list) and (items := schema.items()) is not None:
        for index, held in enumerate(value):
            yield from _unknown(items, held, f"{path}[{index}]")


def _prune(schema: Schema, value: Any) -> Any:
    schema = _embedded(schema)
    if isinstance(value, dict):
        kept = {}
        for key, held in value.items():
            child = schema.child(key)
            if child is not None:
                kept[key] = _prune(child, held)
            elif schema.open or schema.kind not in ("object", ""):
                kept[key] = held
        return kept
    if isinstance(value, list) and (items := schema.items()) is not None:
        return [_prune(items, held) for held in value]
    return value


def _default(schema: Schema, value: Any) -> Any:
    if isinstance(value, dict):
        filled = {}
        for key, held in value.items():
            child = schema.child(key)
            if child is None:
                filled[key] = held
            elif held is None and child.default_value is not None and not child.node.get("nullable"):
                # A null where none may be is as if nothing was written.
                filled[key] = _default(child, copy.deepcopy(child.default_value))
            else:
                filled[key] = _default(child, held)
        for key in schema.fields:
            child = schema.child(key)
            if key not in filled and child is not None and child.default_value is not None:
                filled[key] = _default(child, copy.deepcopy(child.default_value))
        return filled
    if isinstance(value, list) and (items := schema.items()) is not None:
        return [_default(items, held) for held in value]
    return value
