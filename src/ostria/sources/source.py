"""The contract of every source, and the queue that keeps its promises.

What a source promises:

* the first batch holds everything that was there at the start, so that a restart never shows a part of a mesh;
* afterwards a batch is whatever has arrived while the one before was applied: nothing waits for a timer, and a
  burst is one batch;
* of one object only the last version counts, except that a version that can be understood is never hidden by a later
  one that cannot: each Store must have seen it, to keep it as the last good one;
* what is wrong with the place itself (a file that is no YAML, a kind that must not be read) is told in `statistics`.

It must never know what an object means, nor what `apply` does with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from ostria.base import Level, ObjectKey, Problem
from ostria.resources import Change

Apply = Callable[[Sequence[Change]], object]
"""Takes one batch at once: `Store.apply`, or something around it. It does not wait; what it raises ends the source."""


class Part(NamedTuple):
    """What is read on its own within a source, such as one kind of a Kubernetes API.

    `state` is one word (waiting, listing, watching, absent, forbidden); `error` is the last failure, "" after success.
    """

    name: str
    state: str
    objects: int = 0
    lists: int = 0
    watches: int = 0
    events: int = 0
    failures: int = 0
    error: str = ""


class Statistics(NamedTuple):
    """A snapshot of a source. `problems` are those that belong to no object; the others travel with their change."""

    synced: bool
    objects: int
    batches: int
    changes: int
    problems: tuple[Problem, ...] = ()
    parts: tuple[Part, ...] = ()


class Source(Protocol):
    """A place where objects live. An instance is run once."""

    @property
    def synced(self) -> asyncio.Event:
        """Set once the first batch, everything that was there at the start, has been applied."""

    async def run(self, apply: Apply) -> None:
        """Pass on what is there and what changes, until cancelled."""

    def statistics(self) -> Statistics:
        """What has been read so far."""


def is_unreadable(change: Change) -> bool:
    """Whether the object is there but cannot be understood, so that its last good version stands."""
    return change.object is None and any(problem.level is Level.ERROR for problem in change.problems)


class Outbox:
    """Changes on their way to `apply`: held until the start is complete, then passed on as fast as they are taken."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.batches = 0
        self.changes = 0
        self._pending: list[dict[ObjectKey, Change]] = [{}]
        self._released = False
        self._wake = asyncio.Event()

    def put(self, changes: Iterable[Change]) -> None:
        """Queue changes, in the order in which they happened."""
        for change in changes:
            known = self._pending[-1].get(change.key)
            if known is not None and known.object is not None and is_unreadable(change):
                # The good version must be seen before the bad one: it is the one that will stand.
                self._pending.append({})
            self._pending[-1][change.key] = change
        if self._released:
            self._wake.set()

    def release(self) -> None:
        """Everything that was there at the start has been put."""
        self._released = True
        self._wake.set()

    async def run(self, apply: Apply) -> None:
        """Pass on what is put, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batches, self._pending = self._pending, [{}]
            for batch in batches:
                if batch or not self.synced.is_set():
                    apply(tuple(batch.values()))
                    self.batches += 1
                    self.changes += len(batch)
                    self.synced.set()
