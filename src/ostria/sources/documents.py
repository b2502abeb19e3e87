"""Objects read whole, as the API wrote them: for those who write them back and must lose no field.

`Documents` is a `Reading` for `reflector`. Some objects may be kept as heads only, where it is enough to know that
something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ostria.base import ObjectKey
from ostria.resources import Change, Kind
from ostria.resources.decode import Event, Listing
from ostria.resources.shapes import Meta, Object


class Document(Object, frozen=True):
    """One object as JSON. It is shared: who wants another one makes a copy of what differs."""

    value: Mapping[str, Any]


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[dict[str, Any]] | None = None


class _Event(msgspec.Struct):
    type: str
    object: dict[str, Any]


_lists = msgspec.json.Decoder(_List)
_events = msgspec.json.Decoder(_Event)


class Documents:
    """Reads whole documents; of those that `is_head` says so for, the metadata alone."""

    def __init__(self, is_head: Callable[[Kind, ObjectKey], bool] = lambda kind, key: False) -> None:
        self._is_head = is_head

    def list(self, kind: Kind, body: bytes, *, cluster: str, source: str) -> Listing:
        """One page of a list. Raises ValueError if it is none."""
        page = _lists.decode(body)
        changes = tuple(self._change(kind, item, cluster) for item in page.items or ())
        return Listing(page.metadata.resource_version, page.metadata.continue_, changes)

    def event(self, kind: Kind, line: bytes, *, cluster: str, source: str) -> Event:
        """One line of a watch. Raises ValueError if it is none."""
        event = _events.decode(line)
        version = str((event.object.get("metadata") or {}).get("resourceVersion", ""))
        if event.type in ("ADDED", "MODIFIED"):
            return Event(event.type, version, self._change(kind, event.object, cluster))
        if event.type == "DELETED":
            return Event(event.type, version, Change(_key(kind, event.object, cluster), None))
        code, message = event.object.get("code", 0), event.object.get("message", "")
        return Event(event.type, version, code=int(code), message=str(message))

    def _change(self, kind: Kind, value: dict[str, Any], cluster: str) -> Change:
        key = _key(kind, value, cluster)
        whole = {"metadata": value["metadata"]} if self._is_head(kind, key) else value
        # What lists leave out, because the list itself says it.
        whole.setdefault("apiVersion", kind.api_version)
        whole.setdefault("kind", kind.name)
        return Change(key, Document(Meta(key.name, key.namespace), whole))


def _key(kind: Kind, value: Mapping[str, Any], cluster: str) -> ObjectKey:
    try:
        meta = value["metadata"]
        return ObjectKey(cluster, kind.name, meta.get("namespace", "") if kind.namespaced else "", meta["name"])
    except (KeyError, AttributeError) as error:
        raise ValueError(f"an object of kind {kind.name} has no {error}") from None
