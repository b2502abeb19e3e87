"""The objects that controllers look at: what the list-watch has told, and over it what has been written since.

A write is seen at once, before its echo has come, so that nobody makes a second pod for want of news of the first. It
is forgotten when the echo or something later has come, or after a while, should it never come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.node.controllers.objects import WATCHED, Document, key_of, uid_of
from ostria.node.controllers.writes import Changed
from ostria.resources import Change, Kind
from ostria.sources.documents import Document as Whole

PATIENCE = 30.0
"""Seconds that a write is believed in without an echo."""


class _Written(NamedTuple):
    """What has been written, and until when it is believed."""

    document: Document
    until: float


class Mirror:
    """See the module. It is a `View`."""

    def __init__(self) -> None:
        self._read: dict[str, dict[str, dict[str, Document]]] = {kind.name: {} for kind in WATCHED}
        self._written: dict[ObjectKey, _Written] = {}
        # Uids of what is gone, whose earlier versions the watch may still be telling of; until when.
        self._dead: dict[str, float] = {}
        self._kinds = {kind.name: kind for kind in WATCHED}

    def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """One object."""
        written = self._written.get(ObjectKey("", kind.name, namespace, name))
        if written is not None:
            return written.document
        return self._read[kind.name].get(namespace, {}).get(name)

    def list(self, kind: Kind, namespace: str | None = None) -> Iterable[Document]:
        """All objects of a kind, or those of one namespace."""
        held = self._read[kind.name]
        of = list(held) if namespace is None else [namespace]
        over = {
            key: written
            for key, written in self._written.items()
            if key.kind == kind.name and (namespace is None or key.namespace == namespace)
        }
        for each in of:
            for name, document in held.get(each, {}).items():
                if not over or ObjectKey("", kind.name, each, name) not in over:
                    yield document
        yield from (written.document for written in over.values())

    def apply(self, changes: Sequence[Change]) -> Iterator[Changed]:
        """Take what has been read; yields what is different for those who look."""
        for change in changes:
            key = change.key
            kind = self._kinds.get(key.kind)
            if kind is None or (change.object is not None and not isinstance(change.object, Whole)):
                continue
            before = self.get(kind, key.namespace, key.name)
            names = self._read[key.kind].setdefault(key.namespace, {})
            known = names.pop(key.name, None)
            if isinstance(change.object, Whole) and uid_of(change.object.value) not in self._dead:
                names[key.name] = change.object.value
            self._settle(key, known, names.get(key.name))
            yield Changed(kind, before, self.get(kind, key.namespace, key.name))

    def _settle(self, key: ObjectKey, known: Document | None, read: Document | None) -> None:
        """Forget what has been written if what has been read is as new."""
        written = self._written.get(key)
        if written is None:
            return
        if read is None:
            # What was made anew under the name of one that has ended is not gone with it.
            is_new = known is not None and uid_of(known) == uid_of(written.document)
        else:
            is_new = version_of(read) >= version_of(written.document)
        if is_new:
            del self._written[key]

    def note(self, kind: Kind, document: Document, now: float) -> Changed | None:
        """This has been written, and this is what the API has made of it."""
        if kind.name not in self._kinds or uid_of(document) in self._dead:
            return None
        namespace, name = key_of(document)
        before = self.get(kind, namespace, name)
        if before is not None and version_of(before) >= version_of(document):
            return None
        self._written[ObjectKey("", kind.name, namespace, name)] = _Written(document, now + PATIENCE)
        return Changed(kind, before, document)

    def note_gone(self, kind: Kind, namespace: str, name: str, uid: str, now: float) -> Changed | None:
        """The object of this uid is not there any more."""
        self._dead[uid] = now + PATIENCE
        before = self.get(kind, namespace, name)
        if before is None or uid_of(before) != uid:
            return None
        self._written.pop(ObjectKey("", kind.name, namespace, name), None)
        names = self._read[kind.name].get(namespace, {})
        if name in names and uid_of(names[name]) == uid:
            del names[name]
        return Changed(kind, before, self.get(kind, namespace, name))

    def expire(self, now: float) -> Iterator[Changed]:
        """Forget writes whose echo has never come."""
        self._dead = {uid: until for uid, until in self._dead.items() if until > now}
        for key, written in list(self._written.items()):
            if written.until <= now:
                del self._written[key]
                kind = self._kinds[key.kind]
                yield Changed(kind, written.document, self.get(kind, key.namespace, key.name))


def version_of(document: Document) -> int:
    """An object's version as a number that grows with each write; 0 if it says nothing."""
    text = str(document["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0
