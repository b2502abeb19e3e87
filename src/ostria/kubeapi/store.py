"""Where objects are kept: in memory for reads, in SQLite (WAL) for the next start, and as a history for watches.

    write -> one transaction (object, revision) -> memory -> history of its resource -> watchers wake

A write is on the database's log before it is answered, so that a killed process loses nothing that it acknowledged
(`synchronous=NORMAL`: a machine that loses power may lose the last moments). The whole store has one revision, the
`resourceVersion` of what was written last; it never goes back. History is kept for each resource, up to a number of
events, and not across a start: what asks for older gets `Expired` and lists again.

It belongs to one event loop: nothing here awaits, so that a check and the write after it are one step.
"""

from __future__ import annotations

import asyncio
import bisect
import operator
import pathlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from ostria.kubeapi.errors import StatusError, gone
from ostria.kubeapi.requests import Document, ResourceKey

HISTORY = 1_000
"""How many events of one resource a watch can go back."""

_SCHEMA = 1
_encoder = msgspec.json.Encoder()


class StoreError(Exception):
    """What the file holds cannot be used; the message says why, for people."""


class Stale(Exception):
    """The object is not in the state that the write was made from: changed, gone, or there already."""


class Event(NamedTuple):
    """One change: `type` is ADDED, MODIFIED or DELETED; `before` is what it replaced, None for ADDED.

    The document of DELETED is the last state, with the revision of the deletion.
    """

    revision: int
    type: str
    namespace: str
    name: str
    document: Document
    before: Document | None


Follower = Callable[[ResourceKey, Event], None]
"""Is told of every event of every resource, as it happens; it only takes note."""


class _Topic:
    """One resource: its objects, their order, what happened to them, and who wants to know."""

    def __init__(self, floor: int, history: int) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.order: list[tuple[str, str]] = []
        self.events: deque[Event] = deque(maxlen=history)
        self.dropped = 0
        self.floor = floor
        self.watchers: set[Watcher] = set()

    def add(self, at: tuple[str, str], document: Document) -> None:
        if at not in self.objects:
            bisect.insort(self.order, at)
        self.objects[at] = document

    def remove(self, at: tuple[str, str]) -> None:
        del self.objects[at]
        del self.order[bisect.bisect_left(self.order, at)]

    def tell(self, event: Event) -> None:
        if len(self.events) == self.events.maxlen:
            self.floor = self.events[0].revision
            self.dropped += 1
        self.events.append(event)
        for watcher in self.watchers:
            watcher.wake()


class Watcher:
    """One reader of a resource's history, from a revision on. It holds no queue: one that is too slow is `gone`."""

    def __init__(self, topic: _Topic, after: int) -> None:
        self._topic = topic
        self._woken = asyncio.Event()
        self._ended = False
        # Counted from the right, because a watch nearly always begins near the end.
        missed = 0
        for event in reversed(topic.events):
            if event.revision <= after:
                break
            missed += 1
        self._next = topic.dropped + len(topic.events) - missed
        if missed:
            self._woken.set()

    def wake(self) -> None:
        """There is something to read."""
        self._woken.set()

    def end(self) -> None:
        """The resource is no longer served, or the server goes."""
        self._ended = True
        self._woken.set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    async def ready(self) -> None:
        """Wait until there may be something to read, or the watch has ended."""
        await self._woken.wait()

    def take(self) -> Sequence[Event]:
        """What has happened since the last call. Raises StatusError (410) where history has been lost."""
        self._woken.clear()
        if self._ended:
            self._woken.set()
        events, start = self._topic.events, self._next - self._topic.dropped
        if start < 0:
            raise gone("the watch was too slow: history has been dropped")
        fresh = [events[index] for index in range(start, len(events))]
        self._next += len(fresh)
        return fresh


class Store:
    """All objects of one API. What it returns is shared: nobody changes a document that came out of here."""

    def __init__(self, path: pathlib.Path | str, history: int = HISTORY) -> None:
        """Open or make the database at `path` (":memory:" keeps nothing). Raises StoreError."""
        self._history = history
        self._topics: dict[ResourceKey, _Topic] = {}
        self._followers: list[Follower] = []
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self.revision = self._open()
            self._load()
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} cannot be read: {error}") from error

    def _open(self) -> int:
        db = self._db
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        if schema > _SCHEMA:
            raise StoreError(f"objects are kept in form {schema}, which this version does not know: it is older")
        db.execute(
            "CREATE TABLE IF NOT EXISTS objects (grp TEXT, plural TEXT, namespace TEXT, name TEXT, document BLOB,"
            " PRIMARY KEY (grp, plural, namespace, name)) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE IF NOT EXISTS revision (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER)")
        db.execute("INSERT OR IGNORE INTO revision VALUES (1, 1)")
        db.execute(f"PRAGMA user_version={_SCHEMA}")
        (revision,) = db.execute("SELECT value FROM revision").fetchone()
        return int(revision)

    def _load(self) -> None:
        decoder = msgspec.json.Decoder(dict)
        rows = self._db.execute(
            "SELECT grp, plural, namespace, name, document FROM objects ORDER BY grp, plural, namespace, name"
        )
        for group, plural, namespace, name, document in rows:
            self._topic(ResourceKey(group, plural)).add((namespace, name), decoder.decode(document))

    def end_watches(self) -> None:
        """Nothing more will be told."""
        for topic in self._topics.values():
            for watcher in topic.watchers:
                watcher.end()

    def close(self) -> None:
        """End every watch and close the file."""
        self.end_watches()
        self._db.close()

    def _topic(self, key: ResourceKey) -> _Topic:
        found = self._topics.get(key)
        if found is None:
            found = self._topics[key] = _Topic(self.revision, self._history)
        return found

    def get(self, key: ResourceKey, namespace: str, name: str) -> Document | None:
        """One object; namespace "" for those of the cluster."""
        topic = self._topics.get(key)
        return topic.objects.get((namespace, name)) if topic else None

    def list(self, key: ResourceKey, namespace: str = "") -> list[Document]:
        """All objects of a resource, or those of one namespace, in the order of their names."""
        topic = self._topics.get(key)
        if topic is None:
            return []
        if not namespace:
            return [topic.objects[at] for at in topic.order]
        start = bisect.bisect_left(topic.order, (namespace, ""))
        end = bisect.bisect_left(topic.order, (namespace + "\0", ""))
        return [topic.objects[at] for at in topic.order[start:end]]

    def list_at(self, key: ResourceKey, namespace: str, revision: int) -> Sequence[Document]:
        """The list as it was at a revision. Raises StatusError: 410 where forgotten, 504 where still to come."""
        self.known(revision)
        topic = self._topic(key)
        if revision < topic.floor:
            raise gone(f"The provided continue parameter or resource version is too old: {revision} ({topic.floor})")
        undone: dict[tuple[str, str], Document | None] = {}
        for event in reversed(topic.events):
            if event.revision <= revision:
                break
            undone[event.namespace, event.name] = event.before
        if not undone:
            return self.list(key, namespace)
        then = {**topic.objects, **undone}
        return [
            document
            for at, document in sorted(then.items(), key=lambda item: item[0])
            if document is not None and namespace in ("", at[0])
        ]

    def resources(self) -> Iterator[ResourceKey]:
        """Every resource of which something is kept."""
        yield from [key for key, topic in self._topics.items() if topic.objects]

    def known(self, revision: int) -> None:
        """Raises StatusError (504) for a revision that is still to come."""
        if revision > self.revision:
            words = f"Too large resource version: {revision}, current: {self.revision}"
            causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            raise StatusError(504, "Timeout", words, {"causes": causes, "retryAfterSeconds": 1})

    def watch(self, key: ResourceKey, after: int) -> Watcher:
        """What happens after a revision. Raises StatusError (410) if that is forgotten. To be given to `leave`."""
        topic = self._topic(key)
        if after < topic.floor:
            raise gone(f"too old resource version: {after} ({topic.floor})")
        watcher = Watcher(topic, after)
        topic.watchers.add(watcher)
        return watcher

    def leave(self, key: ResourceKey, watcher: Watcher) -> None:
        """The reader goes."""
        self._topic(key).watchers.discard(watcher)

    def follow(self, follower: Follower) -> None:
        """Tell `follower` of everything from now on, for as long as the store is open."""
        self._followers.append(follower)

    def create(self, key: ResourceKey, document: Document) -> Document:
        """Keep a new object. Returns it with its resourceVersion. Raises Stale if there is one of its name."""
        at = _at(document)
        topic = self._topic(key)
        if at in topic.objects:
            raise Stale
        kept = self._write(key, at, document)
        topic.add(at, kept)
        self._tell(key, topic, Event(self.revision, "ADDED", *at, kept, None))
        return kept

    def update(self, key: ResourceKey, document: Document, read: Document) -> Document:
        """Replace the object that was `read`. Returns it with its resourceVersion. Raises Stale if it has changed."""
        at = _at(document)
        topic = self._topic(key)
        if topic.objects.get(at) is not read:
            raise Stale
        # History keeps many versions of an object, which mostly differ in little.
        kept: Document = _sharing(self._write(key, at, document), read)
        topic.add(at, kept)
        self._tell(key, topic, Event(self.revision, "MODIFIED", *at, kept, read))
        return kept

    def delete(self, key: ResourceKey, read: Document) -> Document:
        """Remove the object that was `read`. Returns its last state. Raises Stale if it has changed."""
        at = _at(read)
        topic = self._topic(key)
        if topic.objects.get(at) is not read:
            raise Stale
        revision = self.revision + 1
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute("UPDATE revision SET value=?", (revision,))
            self._db.execute("DELETE FROM objects WHERE grp=? AND plural=? AND namespace=? AND name=?", (*key, *at))
        self.revision = revision
        last = _stamped(read, revision)
        topic.remove(at)
        self._tell(key, topic, Event(revision, "DELETED", *at, last, read))
        return last

    def forget(self, key: ResourceKey) -> None:
        """The resource is no longer served: its watches end. Its objects have been deleted before."""
        topic = self._topics.pop(key, None)
        for watcher in topic.watchers if topic else ():
            watcher.end()

    def _tell(self, key: ResourceKey, topic: _Topic, event: Event) -> None:
        topic.tell(event)
        for follower in self._followers:
            follower(key, event)

    def _write(self, key: ResourceKey, at: tuple[str, str], document: Document) -> Document:
        revision = self.revision + 1
        kept = _stamped(document, revision)
        with self._db:
            self._db.execute("BEGIN")
            self._db.execute("UPDATE revision SET value=?", (revision,))
            self._db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, *at, _encoder.encode(kept))
            )
        self.revision = revision
        return kept


def _at(document: Document) -> tuple[str, str]:
    metadata = document["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _stamped(document: Document, revision: int) -> Document:
    return {**document, "metadata": {**document["metadata"], "resourceVersion": str(revision)}}


def _sharing(new: Any, old: Any) -> Any:
    """The new value, made of the old one's parts wherever they are equal; the old one itself if nothing differs."""
    if isinstance(new, dict) and isinstance(old, dict):
        made = {key: _sharing(value, old[key]) if key in old else value for key, value in new.items()}
        return old if len(made) == len(old) and all(made.get(key) is value for key, value in old.items()) else made
    if isinstance(new, list) and isinstance(old, list):
        listed = [_sharing(*pair) for pair in zip(new, old, strict=False)] + new[len(old) :]
        return old if len(listed) == len(old) and all(map(operator.is_, listed, old)) else listed
    # What JSON tells apart, Python's equality does not: 1, 1.0 and true.
    return old if type(new) is type(old) and new == old else new
