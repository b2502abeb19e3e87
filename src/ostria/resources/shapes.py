"""How objects are written down as types: frozen structs with the API's own field names.

Two families differ in one thing. A `Strict` shape is Istio's: a field it does not have is somebody's mistake and is
reported. A `Lenient` shape is Kubernetes': it holds the fields that a mesh reads and passes over all others.

A list or map that is not written is empty, a scalar that is not written is its zero; None stands for a message that
is absent, or where the API tells absent from zero. What every write changes (resourceVersion, managedFields, most of
status) has no field, so that equality of two objects is equality of meaning.

These types are the only statement of the API: parsing, the schemas and the CRDs are read off them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
UInt32 = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Labels = Mapping[str, str]
Base64 = bytes


class Lenient(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, gc=False):
    """A part of an object whose unknown fields are passed over."""


class Strict(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A part of an object whose unknown fields are mistakes.

    `DEFAULTS` are what an API server writes into fields that are left out, by the names of the wire. Readers take such
    a field to be the same whether or not that was done: what comes from a file has met no API server.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {}


class OneOf(Strict, frozen=True):
    """A strict shape of which some fields exclude each other; an object that breaks this cannot exist.

    `MEMBERS` lists the sets, by the names of the wire. The fields are None when they are not written.
    """

    MEMBERS: ClassVar[tuple[tuple[str, ...], ...]] = ()

    def __post_init__(self) -> None:
        written = {
            wire
            for name, wire in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
            if getattr(self, name) is not None
        }
        for members in self.MEMBERS:
            if len(written.intersection(members)) > 1:
                raise ValueError(f"at most one of {', '.join(members)} may be set")


class OwnerReference(Lenient, frozen=True):
    """An object that this one belongs to and vanishes with."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool = False


class Meta(Lenient, frozen=True):
    """An object's metadata, as far as it carries meaning. Times are RFC 3339 texts in UTC, "" where there is none."""

    name: str = ""
    namespace: str = ""
    labels: Labels = {}
    annotations: Labels = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    uid: str = ""
    owner_references: tuple[OwnerReference, ...] = ()


class Object(Lenient, frozen=True):
    """Any object of any kind; each kind is a subclass that adds its own fields."""

    metadata: Meta
