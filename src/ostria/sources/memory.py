"""Objects in memory, as a source: for tests, for analysis without a cluster, and for users' pytest.

It keeps objects as documents, as an API server would, so that they can be patched; it reads them with the same
parser and gives the same problems as every other source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ostria.base import ObjectKey, Problem
from ostria.resources import KINDS, Change, Object, kind_of_shape
from ostria.resources.parse import Reading, parse
from ostria.resources.refusals import encode_duration
from ostria.sources.manifests import manifests_of
from ostria.sources.source import Apply, Outbox, Statistics


class MemorySource:
    """Objects that are put in by hand. Everything may be called before and while it runs, from the loop's thread."""

    def __init__(self, text: str = "", *, cluster: str = "", namespace: str = "default") -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._changes: dict[ObjectKey, Change] = {}
        self._documents: dict[ObjectKey, Mapping[str, Any]] = {}
        self._problems: tuple[Problem, ...] = ()
        self._outbox = Outbox()
        self._outbox.release()
        if text:
            self.apply(text)

    @property
    def synced(self) -> asyncio.Event:
        """Set once what had been put in before `run` has been applied."""
        return self._outbox.synced

    async def run(self, apply: Apply) -> None:
        """Pass on what is there and what is put in, until cancelled."""
        await self._outbox.run(apply)

    def statistics(self) -> Statistics:
        """What has been put in so far; `problems` are those of the last text."""
        outbox = self._outbox
        return Statistics(
            outbox.synced.is_set(), len(self._changes), outbox.batches, outbox.changes, problems=self._problems
        )

    def changes(self) -> tuple[Change, ...]:
        """Everything that is there, for a Store that is filled once and followed by nobody."""
        return tuple(self._changes.values())

    def __contains__(self, key: ObjectKey) -> bool:
        return key in self._changes

    def apply(self, what: str | Iterable[Object], source: str = "memory") -> Reading:
        """Put in or change objects: the documents of a YAML text, or typed objects.

        `source` names the text in origins. Returns what was read; a document that cannot be understood is one of its
        problems or a change without an object.
        """
        if isinstance(what, str):
            reading = self._read(what, source)
        else:
            reading = Reading(tuple(Change(self._key(obj), obj) for obj in what))
            for change in reading.changes:
                self._documents.pop(change.key, None)
        self._put(reading.changes)
        return reading

    def replace(self, text: str, source: str = "memory") -> Reading:
        """Make the documents of a text everything there is."""
        before = set(self._changes)
        reading = self._read(text, source)
        gone = before.difference(change.key for change in reading.changes)
        self._put((*reading.changes, *(Change(key, None) for key in sorted(gone))))
        return reading

    def delete(self, key: ObjectKey) -> None:
        """Take an object out. Raises KeyError if it is not there."""
        if key not in self._changes:
            raise KeyError(key)
        self._put((Change(key, None),))

    def document(self, key: ObjectKey) -> Mapping[str, Any]:
        """The object as a document. Raises KeyError if it is not there."""
        change = self._changes[key]
        known = self._documents.get(key)
        if known is not None:
            return known
        kind = KINDS[key.kind]
        value: dict[str, Any] = msgspec.to_builtins(change.object, enc_hook=encode_duration)
        return {"apiVersion": kind.api_version, "kind": kind.name.rpartition("/")[2], **value}

    def put_document(self, key: ObjectKey, document: Mapping[str, Any]) -> Change:
        """Put in one object as an API server would take it: under its key, without a place of its own."""
        known = self._changes.get(key)
        origin = known.origin if known else None
        obj, problems = parse(KINDS[key.kind], document, key, lambda _: origin)
        self._documents[key] = document
        change = Change(key, obj, problems, origin)
        self._put((change,))
        return change

    def _read(self, text: str, source: str) -> Reading:
        file = manifests_of(text, source, cluster=self._cluster, namespace=self._namespace)
        changes: dict[ObjectKey, Change] = {}
        unread: list[tuple[str, str, str, str]] = []
        for said in file.manifests.values():
            # Of several documents about one object the last counts, as if they had been applied one by one.
            manifest = said[-1]
            if manifest.change is None:
                unread.append((manifest.value["apiVersion"], *manifest.identity[1:]))
            else:
                changes[manifest.change.key] = manifest.change
                self._documents[manifest.change.key] = manifest.value
        self._problems = file.problems
        return Reading(tuple(changes.values()), file.problems, tuple(unread))

    def _put(self, changes: Iterable[Change]) -> None:
        changes = tuple(changes)
        for change in changes:
            if change.object is None and not change.problems:
                self._changes.pop(change.key, None)
                self._documents.pop(change.key, None)
            else:
                self._changes[change.key] = change
        self._outbox.put(changes)

    def _key(self, obj: Object) -> ObjectKey:
        kind = kind_of_shape(type(obj))
        namespace = (obj.metadata.namespace or self._namespace) if kind.namespaced else ""
        return ObjectKey(self._cluster, kind.name, namespace, obj.metadata.name)
