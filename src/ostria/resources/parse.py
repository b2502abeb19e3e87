"""The door: a decoded document becomes a typed object, or problems that say which field on which line is wrong.

    document -> (kind, key) -> typed object -> semantic validation -> Change

Documents are converted by msgspec in one go; only where that fails are they walked field by field to tell all that
is wrong. Parsing never raises for any input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.base.yaml import Document, Path, field_path, field_steps, read_documents
from ostria.resources.fields import Fault, check, decode_duration, fields_of, name_of, nearest
from ostria.resources.kinds import KINDS, Kind, kind_of
from ostria.resources.shapes import Object
from ostria.resources.store import Change

Locate = Callable[[Path], Origin | None]


class Reading(NamedTuple):
    """What one document, or one stream of them, said.

    `problems` are those of documents in which no object can be made out; all others are in the changes.
    `unread` names the objects of kinds that the mesh does not read, as (apiVersion, kind, namespace, name).
    """

    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    unread: tuple[tuple[str, str, str, str], ...] = ()


def read_text(
    text: str | bytes, source: str, *, cluster: str = "", namespace: str = "default", unknown: Level = Level.ERROR
) -> Reading:
    """All objects of a YAML or JSON stream; `namespace` is for objects that name none, `unknown` as in `parse`."""
    changes: list[Change] = []
    problems: list[Problem] = []
    unread: list[tuple[str, str, str, str]] = []
    for document in read_documents(text, source):
        if isinstance(document, Problem):
            problems.append(document)
            continue
        reading = read(document, cluster=cluster, namespace=namespace, unknown=unknown)
        changes += reading.changes
        problems += reading.problems
        unread += reading.unread
    return Reading(tuple(changes), tuple(problems), tuple(unread))


def read(document: Document, *, cluster: str = "", namespace: str = "default", unknown: Level = Level.ERROR) -> Reading:
    """The objects of one document; a List gives those of its items."""
    changes: list[Change] = []
    problems: list[Problem] = []
    unread: list[tuple[str, str, str, str]] = []
    for value, base in _items(document.value):

        def locate(path: Path, base: Path = base) -> Origin:
            return document.origin(base + path)

        head = _head(value, locate)
        if isinstance(head, Problem):
            problems.append(head)
            continue
        api_version, name, placed = head.api_version, head.name, head.namespace or namespace
        kind = kind_of(api_version, head.kind)
        if kind is None:
            problem = _unserved(head, locate)
            if problem is not None:
                problems.append(problem)
            unread.append((api_version, head.kind, head.namespace, name))
            continue
        key = ObjectKey(cluster, kind.name, placed if kind.namespaced else "", name)
        obj, found = parse(kind, value, key, locate, unknown=unknown)
        changes.append(Change(key, obj, found, locate(())))
    return Reading(tuple(changes), tuple(problems), tuple(unread))


def _nowhere(_: Path) -> Origin | None:
    return None


def parse(
    kind: Kind,
    value: Any,
    key: ObjectKey,
    locate: Locate = _nowhere,
    *,
    unknown: Level = Level.ERROR,
) -> tuple[Object | None, tuple[Problem, ...]]:
    """One decoded object as its kind's type, and everything that is wrong with it.

    The object is None exactly if a problem is an error. Its name and namespace are those of `key`. `unknown` is how
    bad an unknown field is: a mistake where a person wrote it, a warning where a newer API served it.
    """
    obj, faults = _convert(kind, value)
    problems = [_problem(fault, key, locate, unknown) for fault in faults]
    if any(problem.level is Level.ERROR for problem in problems):
        return None, tuple(problems)
    assert obj is not None
    obj = with_key(obj, key)
    problems += located(kind, obj, key, locate)
    return (None if any(problem.level is Level.ERROR for problem in problems) else obj), tuple(problems)


def located(kind: Kind, obj: Object, key: ObjectKey, locate: Locate = _nowhere) -> Iterator[Problem]:
    """What the kind's validation says of an object, with the object and the place filled in."""
    for problem in kind.validate(obj) if kind.validate else ():
        yield problem._replace(object=key, origin=problem.origin or locate(field_steps(problem.field)))


def with_key(obj: Object, key: ObjectKey) -> Object:
    """The object under the name and namespace that its key has."""
    meta = obj.metadata
    if (meta.name, meta.namespace) == (key.name, key.namespace):
        return obj
    meta = msgspec.structs.replace(meta, name=key.name, namespace=key.namespace)
    return msgspec.structs.replace(obj, metadata=meta)


@cache
def wire_shape(kind: Kind) -> type[msgspec.Struct]:
    """The kind's type with the fields around it that a document has and an object does not."""
    if not kind.ours:
        return kind.shape
    around: list[tuple[str, Any, Any]] = [("api_version", str, ""), ("kind", str, "")]
    if "status" not in fields_of(kind.shape):
        around.append(("status", Any, None))
    name = f"Wire{kind.shape.__name__}"
    return msgspec.defstruct(name, around, bases=(kind.shape,), forbid_unknown_fields=True, frozen=True, kw_only=True)


def of_wire(kind: Kind, wire: Any) -> Object:
    """The object that was decoded as its kind's wire shape."""
    if not kind.ours:
        assert isinstance(wire, Object)
        return wire
    return kind.shape(**{name: getattr(wire, name) for name in kind.shape.__struct_fields__})


def _convert(kind: Kind, value: Any) -> tuple[Object | None, list[Fault]]:
    shape = wire_shape(kind)
    try:
        return of_wire(kind, msgspec.convert(value, shape, dec_hook=decode_duration)), []
    except msgspec.ValidationError:
        checked, faults = check(shape, value)
    if any(not fault.unknown for fault in faults):
        return None, faults
    return of_wire(kind, msgspec.convert(checked, shape, dec_hook=decode_duration)), faults


def _problem(fault: Fault, key: ObjectKey, locate: Locate, unknown: Level) -> Problem:
    level = unknown if fault.unknown else Level.ERROR
    return Problem(fault.code, level, fault.message, key, field_path(fault.path), locate(fault.path), fault.hint)


class _Head(NamedTuple):
    """What a document says it is."""

    api_version: str
    kind: str
    namespace: str
    name: str


def _items(value: Any) -> Iterator[tuple[Any, Path]]:
    if isinstance(value, Mapping) and value.get("kind") == "List" and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield item, ("items", index)
    else:
        yield value, ()


def _head(value: Any, locate: Locate) -> _Head | Problem:
    if not isinstance(value, Mapping):
        message = f"expected a Kubernetes object, got {name_of(value)}"
        return Problem("not-an-object", Level.ERROR, message, origin=locate(()))
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field), str) or not value[field]:
            message = f'not a Kubernetes object: it has no "{field}"'
            hint = nearest(field, (name for name in value if isinstance(name, str)))
            return Problem("not-an-object", Level.ERROR, message, field=field, origin=locate((field,)), hint=hint)
    meta = value.get("metadata")
    if kind_of(value["apiVersion"], value["kind"]) is None:
        # Somebody else's object may do without a name (an IstioOperator does).
        meta = meta if isinstance(meta, Mapping) else {}
        return _Head(value["apiVersion"], value["kind"], str(meta.get("namespace") or ""), str(meta.get("name") or ""))
    if not isinstance(meta, Mapping) or not isinstance(meta.get("name"), str) or not meta["name"]:
        message = f"this {value['kind'][:60]} has no metadata.name"
        place = ("metadata", "name")
        return Problem("required-field", Level.ERROR, message, field="metadata.name", origin=locate(place))
    namespace = meta.get("namespace")
    if not isinstance(namespace, str | None):
        message = f"expected a text, got {name_of(namespace)}"
        place = ("metadata", "namespace")
        return Problem("wrong-type", Level.ERROR, message, field="metadata.namespace", origin=locate(place))
    return _Head(value["apiVersion"], value["kind"], namespace or "", meta["name"])


def _unserved(head: _Head, locate: Locate) -> Problem | None:
    """What to say of a kind that is not read: nothing, unless it looks like one of the mesh's own."""
    group, _, version = head.api_version.rpartition("/")
    ours = [kind for kind in KINDS.values() if kind.ours and kind.group == group]
    if not ours:
        return None
    versions = next((kind.versions for kind in ours if kind.name == head.kind), None)
    if versions is not None:
        message = f'{head.kind} is not served in version "{version[:60]}"'
        hint = f"use apiVersion: {group}/{versions[0]}"
        return Problem(
            "unknown-kind", Level.ERROR, message, field="apiVersion", origin=locate(("apiVersion",)), hint=hint
        )
    message = f'the kind "{head.kind[:60]}" of {group} is not acted on'
    hint = nearest(head.kind, (kind.name for kind in ours))
    return Problem("unknown-kind", Level.WARNING, message, field="kind", origin=locate(("kind",)), hint=hint)
