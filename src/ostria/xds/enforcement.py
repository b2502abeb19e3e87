"""How far an epoch has come: how many streams it concerned, and how many have accepted everything up to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

C = TypeVar("C")

_KEPT = 1_000
"""So many epochs are remembered, overall and for each stream that does not answer."""


class Enforcement(NamedTuple):
    """`concerned` streams were owed something by the epoch, `accepted` of them have accepted it all.

    `settled` when no stream that is still there has anything to accept of it or of an earlier epoch.
    """

    epoch: int
    concerned: int
    accepted: int
    settled: bool


class _Count:
    __slots__ = ("accepted", "concerned", "waiting")

    def __init__(self) -> None:
        self.concerned = self.accepted = self.waiting = 0


class Enforcements(Generic[C]):
    """`accepted(stream, epoch)` is called when a stream has accepted all of an epoch that concerned it."""

    def __init__(self, accepted: Callable[[C, int], None]) -> None:
        self._accepted = accepted
        self._counts: dict[int, _Count] = {}
        self._unsettled: dict[int, None] = {}
        self._waiting: dict[C, deque[int]] = {}

    def concern(self, epoch: int, stream: C) -> None:
        """The stream is owed something by this epoch, which is no older than any before it."""
        epochs = self._waiting.setdefault(stream, deque())
        if epochs and epochs[-1] == epoch:
            return
        if len(epochs) == _KEPT:
            self._leave(epochs.popleft())
        epochs.append(epoch)
        count = self._counts.get(epoch)
        if count is None:
            count = self._counts[epoch] = _Count()
            if len(self._counts) > _KEPT:
                oldest = next(iter(self._counts))
                if oldest not in self._unsettled:
                    del self._counts[oldest]
        count.concerned += 1
        count.waiting += 1
        self._unsettled[epoch] = None

    def settle(self, stream: C, since: int | None) -> None:
        """The stream has accepted everything older than `since` (None: everything)."""
        epochs = self._waiting.get(stream)
        done: int | None = None
        while epochs and (since is None or epochs[0] < since):
            done = epochs.popleft()
            self._counts[done].accepted += 1
            self._leave(done)
        if not epochs:
            self._waiting.pop(stream, None)
        if done is not None:
            self._accepted(stream, done)

    def forget(self, stream: C) -> None:
        """The stream has ended; nobody waits for it."""
        for epoch in self._waiting.pop(stream, ()):
            self._leave(epoch)

    def state(self, epoch: int) -> Enforcement:
        """How far it has come."""
        count = self._counts.get(epoch) or _Count()
        settled = not any(other <= epoch for other in self._unsettled)
        return Enforcement(epoch, count.concerned, count.accepted, settled)

    def _leave(self, epoch: int) -> None:
        count = self._counts[epoch]
        count.waiting -= 1
        if not count.waiting:
            del self._unsettled[epoch]
