"""The CustomResourceDefinitions of the mesh's own kinds, read off their types so that the two cannot differ.

Structural schemas as Kubernetes asks for them (OpenAPI v3 without references), one and the same for all versions of
a kind, each with the kind's printer columns. The output is the same for every run.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from ostria.resources.fields import fields_of
from ostria.resources.kinds import KINDS, Column, Kind
from ostria.resources.shapes import OneOf, Strict

BUNDLE = "v1.5.0"
"""The version of the Gateway API whose kinds these are."""

# What Kubernetes itself says of these, or what every object has anyway.
_OUTSIDE = ("metadata", "status")


def crds(*, standard: bool = False) -> list[dict[str, Any]]:
    """The CRD of each kind that is the mesh's own, sorted by name, as plain values.

    With `standard` those of the Gateway API, which a cluster may have from elsewhere.
    """
    made = (crd(kind) for kind in KINDS.values() if kind.ours and kind.standard == standard)
    return sorted(made, key=lambda each: str(each["metadata"]["name"]))


def crd(kind: Kind) -> dict[str, Any]:
    """The CRD of one kind."""
    name = f"{kind.plural}.{kind.group}"
    names: dict[str, Any] = {"kind": kind.shape.__name__, "listKind": f"{kind.shape.__name__}List"}
    names |= {"plural": kind.plural, "singular": kind.singular}
    if kind.categories:
        names["categories"] = list(kind.categories)
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name} | _told(kind),
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(kind, version) for version in kind.versions],
        },
    }


def _told(kind: Kind) -> dict[str, Any]:
    """What the CRD says of itself; an API server takes one of Kubernetes' groups only with the first annotation."""
    if not kind.standard:
        return {"labels": {"app": "istio-pilot", "istio": kind.group.partition(".")[0]}}
    approved = "https://github.com/kubernetes-sigs/gateway-api/pull/2997"
    return {
        "annotations": {
            "api-approved.kubernetes.io": approved,
            f"{kind.group}/bundle-version": BUNDLE,
            f"{kind.group}/channel": "experimental",
        }
    }


def _version(kind: Kind, version: str) -> dict[str, Any]:
    fields = fields_of(kind.shape)
    properties = {name: schema(field.type) for name, field in fields.items() if name not in _OUTSIDE}
    properties["status"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    whole: dict[str, Any] = {"type": "object", "description": _sentence(kind.shape), "properties": properties}
    required = sorted(name for name, field in fields.items() if field.required and name not in _OUTSIDE)
    if required:
        whole["required"] = required
    made: dict[str, Any] = {"name": version, "served": True, "storage": version == kind.storage}
    if kind.columns:
        made["additionalPrinterColumns"] = [schema_of_column(column) for column in kind.columns]
    return made | {"schema": {"openAPIV3Schema": whole}, "subresources": {"status": {}}}


def schema_of_column(column: Column) -> dict[str, Any]:
    """One of a CRD's `additionalPrinterColumns`."""
    made = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return made | ({"description": column.description} if column.description else {})


def _sentence(shape: type) -> str:
    return (shape.__doc__ or "").strip().partition("\n")[0]


def schema(info: Any) -> dict[str, Any]:
    """The structural schema of one type, as `msgspec.inspect` describes it."""
    if isinstance(info, inspect.StructType):
        return _struct(info.cls)
    if isinstance(info, inspect.UnionType):
        options = [option for option in info.types if not isinstance(option, inspect.NoneType)]
        return schema(options[0]) if len(options) == 1 else {"x-kubernetes-int-or-string": True}
    if isinstance(info, inspect.DictType):
        return {"type": "object", "additionalProperties": schema(info.value_type)}
    if isinstance(info, inspect.VarTupleType):
        return {"type": "array", "items": schema(info.item_type)} | _bounds(info, "minItems", "maxItems")
    if isinstance(info, inspect.LiteralType):
        return {"type": "string", "enum": list(info.values)}
    if isinstance(info, inspect.CustomType):
        return {"type": "string", "pattern": DURATION}
    if isinstance(info, inspect.BytesType):
        return {"type": "string", "format": "byte"}
    if isinstance(info, inspect.StrType):
        return {"type": "string"} | _bounds(info, "minLength", "maxLength")
    if isinstance(info, inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return _number(info)
    assert isinstance(info, inspect.AnyType), f"the shapes use a type that has no schema: {info}"
    return {"x-kubernetes-preserve-unknown-fields": True}


# As Go spells durations; a CEL rule would say it shorter, but costs more than a CRD may inside of unbounded lists.
DURATION = r"^-?(0|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)$"


def _bounds(info: inspect.StrType | inspect.VarTupleType, least: str, most: str) -> dict[str, int]:
    bounds = {least: info.min_length, most: info.max_length}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _number(info: inspect.IntType | inspect.FloatType) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "integer" if isinstance(info, inspect.IntType) else "number"}
    # Bounds that are only those of 32 or 64 bits are what a format says; a float64 would round the larger ones.
    bounds = (info.ge, info.le)
    if bounds == (-(2**31), 2**31 - 1):
        return made | {"format": "int32"}
    if info.ge is not None:
        made["minimum"] = info.ge
    if info.le is not None and info.le <= 2**53:
        made["maximum"] = info.le
    return made


def _struct(shape: type[msgspec.Struct]) -> dict[str, Any]:
    fields = fields_of(shape)
    made: dict[str, Any] = {
        "type": "object",
        "description": _sentence(shape),
        "properties": {name: _property(shape, name, field.type) for name, field in fields.items()},
    }
    required = sorted(name for name, field in fields.items() if field.required)
    if required:
        made["required"] = required
    if issubclass(shape, OneOf):
        rules = [_one_of(members) for members in shape.MEMBERS]
        made |= rules[0] if len(rules) == 1 else {"allOf": rules}
    return made


def _property(shape: type[msgspec.Struct], name: str, info: inspect.Type) -> dict[str, Any]:
    made = schema(info)
    if issubclass(shape, Strict) and name in shape.DEFAULTS:
        made["default"] = shape.DEFAULTS[name]
    return made


def _one_of(members: tuple[str, ...]) -> dict[str, Any]:
    """At most one of the members: exactly one, or none of them."""
    alone = [{"required": [member]} for member in members]
    return {"oneOf": [{"not": {"anyOf": alone}}, *alone]}
