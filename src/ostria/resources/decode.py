"""The fast door: the bytes of a Kubernetes API straight into typed objects, with no dictionary in between.

A list of ten thousand pods and every watch event come this way. What msgspec refuses goes the slow way through
`parse`, object by object, so that one bad object costs the others nothing. Unknown fields are warnings here: the API
that served them knows more than we do.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.resources.fields import decode_duration
from ostria.resources.kinds import Kind
from ostria.resources.parse import located, of_wire, parse, wire_shape
from ostria.resources.shapes import Object
from ostria.resources.store import Change


class Listing(NamedTuple):
    """One page of a list. `continue_token` is "" on the last; a watch goes on from `resource_version`."""

    resource_version: str
    continue_token: str
    changes: tuple[Change, ...]


class Event(NamedTuple):
    """One line of a watch.

    `type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR; only the first three have a change. An ERROR has the
    status code and message instead (410: list anew). A watch goes on from `resource_version`.
    """

    type: str
    resource_version: str
    change: Change | None = None
    code: int = 0
    message: str = ""


class _ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _ObjectMeta(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Head(msgspec.Struct, frozen=True):
    metadata: _ObjectMeta = _ObjectMeta()


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _RawList(msgspec.Struct, frozen=True):
    metadata: _ListMeta = _ListMeta()
    items: list[msgspec.Raw] | None = None


class _RawEvent(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw = msgspec.Raw(b"{}")


class _Decoders(NamedTuple):
    one: msgspec.json.Decoder[Any]
    all: msgspec.json.Decoder[Any]


_event = msgspec.json.Decoder(_RawEvent)
_head = msgspec.json.Decoder(_Head)
_status = msgspec.json.Decoder(_Status)
_list = msgspec.json.Decoder(_RawList)


@cache
def _decoders(kind: Kind) -> _Decoders:
    shape: Any = wire_shape(kind)
    fields = [("metadata", _ListMeta, _ListMeta()), ("items", list[shape] | None, None)]
    whole = msgspec.defstruct(f"{kind.name}List", fields)
    return _Decoders(
        msgspec.json.Decoder(shape, dec_hook=decode_duration), msgspec.json.Decoder(whole, dec_hook=decode_duration)
    )


def decode_list(kind: Kind, body: bytes, *, cluster: str = "", source: str = "") -> Listing:
    """One page of a list of one kind.

    `source` names the API in origins. Raises ValueError if the body is no list at all.
    """
    origin = Origin(source) if source else None
    try:
        page = _decoders(kind).all.decode(body)
        changes = tuple(_changed(kind, of_wire(kind, item), cluster, origin) for item in page.items or ())
    except msgspec.DecodeError:
        page = _list.decode(body)
        changes = tuple(_one(kind, bytes(item), cluster, origin) for item in page.items or ())
    return Listing(page.metadata.resource_version, page.metadata.continue_, changes)


def decode_event(kind: Kind, line: bytes, *, cluster: str = "", source: str = "") -> Event:
    """One line of a watch of one kind. Raises ValueError if it is no watch event at all."""
    event = _event.decode(line)
    if event.type == "ERROR":
        status = _status.decode(event.object)
        return Event(event.type, "", code=status.code, message=status.message)
    head = _head.decode(event.object)
    version = head.metadata.resource_version
    if event.type in ("ADDED", "MODIFIED"):
        return Event(event.type, version, _one(kind, bytes(event.object), cluster, Origin(source) if source else None))
    if event.type == "DELETED":
        return Event(event.type, version, Change(_key(kind, cluster, head.metadata), None))
    return Event(event.type, version)


def _key(kind: Kind, cluster: str, meta: Any) -> ObjectKey:
    return ObjectKey(cluster, kind.name, meta.namespace if kind.namespaced else "", meta.name)


def _changed(kind: Kind, obj: Object, cluster: str, origin: Origin | None) -> Change:
    key = _key(kind, cluster, obj.metadata)
    if kind.validate is None:
        return Change(key, obj, (), origin)
    problems = tuple(located(kind, obj, key, lambda _: origin))
    refused = any(problem.level is Level.ERROR for problem in problems)
    return Change(key, None if refused else obj, problems, origin)


def _one(kind: Kind, body: bytes, cluster: str, origin: Origin | None) -> Change:
    try:
        return _changed(kind, of_wire(kind, _decoders(kind).one.decode(body)), cluster, origin)
    except msgspec.DecodeError:
        key = _key(kind, cluster, _head.decode(body).metadata)
        try:
            value = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            return Change(key, None, (Problem("wrong-type", Level.ERROR, str(error), key, origin=origin),), origin)
        obj, problems = parse(kind, value, key, lambda _: origin, unknown=Level.WARNING)
        return Change(key, obj, problems, origin)
