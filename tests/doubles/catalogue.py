"""A catalogue of resources on a real engine, small enough to read: what `xds` is served from in tests.

An object brings parts to resources, and a resource is its parts joined, bases first, in the order of their objects'
keys; protobuf merges what is joined, so parts can be encoded messages for a real Envoy as well as a letter for a
playbook. A part may be for one group of clients only: a client's traits are its group's name. The group `lazy` is
served on demand: of clusters only its own are listed for it.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, Input, query
from ostria.envoy.fragments import Fragment, ResourceType, fragment
from ostria.xds import Catalogue, Identity, Node

Reference = tuple[ResourceType, str]


class Part(NamedTuple):
    """What an object brings to one resource; without a `base` among its parts there is no resource."""

    type: ResourceType
    name: str
    body: bytes = b""
    references: frozenset[Reference] = frozenset()
    group: str = ""
    base: bool = True


class Groups(NamedTuple):
    """A scope: the groups that one resource tells apart."""

    names: frozenset[str]

    def project(self, traits: str) -> str:
        return traits if traits in self.names else ""


objects: Input[ObjectKey, tuple[Part, ...]] = Input("fake.objects")
stand_ins: Input[ObjectKey, tuple[Part, ...]] = Input("fake.stand_ins")
withdrawn: Input[ObjectKey, bool] = Input("fake.withdrawn")
groups: Input[str, str] = Input("fake.groups")
by_type: Index[ObjectKey, tuple[Part, ...], ResourceType] = Index(
    "fake.by_type", objects, lambda _, parts: {part.type for part in parts}
)
by_resource: Index[ObjectKey, tuple[Part, ...], Reference] = Index(
    "fake.by_resource", objects, lambda _, parts: {(part.type, part.name) for part in parts}
)


@query
def in_effect(db: Engine, key: ObjectKey) -> tuple[Part, ...]:
    table = stand_ins if withdrawn(db, key) else objects
    return table(db, key) or ()


@query
def resource_parts(db: Engine, type: ResourceType, name: str) -> tuple[tuple[ObjectKey, Part], ...]:
    return tuple(
        (key, part)
        for key in by_resource(db, (type, name))
        for part in in_effect(db, key)
        if (part.type, part.name) == (type, name)
    )


@query
def listed(db: Engine, key: ObjectKey, type: ResourceType) -> tuple[tuple[str, str], ...]:
    return tuple((part.name, part.group) for part in in_effect(db, key) if part.type is type and part.base)


@query
def names(db: Engine, type: ResourceType, traits: str) -> tuple[str, ...]:
    found = (entry for key in by_type(db, type) for entry in listed(db, key, type))
    seen = (traits,) if type is ResourceType.CLUSTER and on_demand(traits) else ("", traits)
    return tuple(sorted({name for name, group in found if group in seen}))


def on_demand(traits: str) -> bool:
    return traits == "lazy"


@query
def scope(db: Engine, type: ResourceType, name: str) -> Groups:
    if name == "*":
        found = frozenset(group for key in by_type(db, type) for _, group in listed(db, key, type))
        return Groups(found - {""} | {"lazy"})
    return Groups(frozenset(part.group for _, part in resource_parts(db, type, name)) - {""})


@query
def resource(db: Engine, type: ResourceType, name: str, traits: str) -> Fragment | None:
    parts = [(key, part) for key, part in resource_parts(db, type, name) if part.group in ("", traits)]
    if not any(part.base for _, part in parts):
        return None
    references = frozenset().union(*(part.references for _, part in parts))
    # What is added to comes first, so that what is added wins where protobuf merges scalars.
    parts.sort(key=lambda entry: not entry[1].base)
    return fragment(name, b"".join(part.body for _, part in parts), frozenset(key for key, _ in parts), references)


@query
def traits_of(db: Engine, identity: Identity, node: Node) -> str | None:
    return groups(db, identity.pod)


CATALOGUE: Catalogue[str] = Catalogue(names, scope, resource)


def object_key(path: str) -> ObjectKey:
    """`Kind/name`."""
    kind, name = path.split("/")
    return ObjectKey("", kind, "default", name)


class FakeStore:
    """The write into it, and what is withdrawn; with `stands_in` an object's parts before stand in for those."""

    def __init__(self, db: Engine, *, stands_in: bool = True) -> None:
        self.db = db
        self.stands_in = stands_in
        self.epochs: dict[ObjectKey, int] = {}
        self.convicted: dict[ObjectKey, str] = {}
        self.aside: dict[Reference, str] = {}
        self.withdrawals = 0

    def put(self, changes: dict[str, tuple[Part, ...] | None]) -> int:
        """One epoch."""
        with self.db.write() as write:
            for path, parts in changes.items():
                key = object_key(path)
                old = self.db.fact(objects, key)
                if old == parts:
                    continue
                if self.stands_in and key not in self.convicted:
                    write.set(stand_ins, key, old)
                self.convicted.pop(key, None)
                write.set(withdrawn, key, None)
                write.set(objects, key, parts)
                self.epochs[key] = self.db.epoch + 1
        return write.epoch.number

    def group(self, pod: str, name: str | None) -> None:
        with self.db.write() as write:
            write.set(groups, pod, name)

    def changed(self, key: ObjectKey) -> int:
        return self.epochs.get(key, 0)

    def withdraw(self, key: ObjectKey, message: str, /) -> None:
        self.withdrawals += 1
        with self.db.write() as write:
            write.set(withdrawn, key, True)

    def restore(self, key: ObjectKey, /) -> None:
        with self.db.write() as write:
            write.set(withdrawn, key, None)

    def convict(self, key: ObjectKey, message: str) -> None:
        self.convicted[key] = message

    def set_aside(self, type: ResourceType, name: str, message: str) -> None:
        self.aside[type, name] = message
