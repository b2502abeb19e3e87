"""When what has failed is tried again: a second later, then twice as late each time, up to a minute. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

FIRST = 1.0
LONGEST = 60.0
"""Seconds until the first of many tries, and until each of the last."""


T = TypeVar("T", bound=Hashable)


class _Pause(NamedTuple):
    length: float
    until: float


class Retries(Generic[T]):
    """What has failed, and how long it is left alone. `now` is in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._pauses: dict[T, _Pause] = {}

    def failed(self, what: T, now: float) -> None:
        """It has failed, perhaps once more."""
        before = self._pauses.get(what)
        length = min(before.length * 2, LONGEST) if before else FIRST
        self._pauses[what] = _Pause(length, now + length)

    def done(self, what: T) -> None:
        """It has gone well, or is no more: a failure to come would be its first."""
        self._pauses.pop(what, None)

    def rests(self, what: T, now: float) -> bool:
        """Whether it has failed, and is to be left alone still."""
        pause = self._pauses.get(what)
        return pause is not None and pause.until > now

    def due(self, now: float) -> list[T]:
        """What has failed and is to be tried again, in the order of its first failures."""
        return [what for what, pause in self._pauses.items() if pause.until <= now]

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None if nothing has failed."""
        return max(min(pause.until for pause in self._pauses.values()) - now, 0.0) if self._pauses else None
