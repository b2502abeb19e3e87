"""The time, as something that is handed in: whoever waits or stamps asks a clock, and a test moves it by hand."""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count
from typing import Protocol


class Clock(Protocol):
    """What shells may ask of time. Pure rooms take a plain `now` instead."""

    def now(self) -> float:
        """Seconds since 1970, UTC: for what is written down."""

    def monotonic(self) -> float:
        """Seconds since some moment, never going back: for what is measured."""

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds of the machine's steady clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the event loop."""
        await asyncio.sleep(seconds)


class ManualClock:
    """Time that stands still until `advance`; sleepers wake in the order of their deadlines."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """The moment that the clock was moved to."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that the clock was moved by."""
        return self._now - self._start

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved past the deadline."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), waiting))
        await waiting

    @property
    def sleepers(self) -> int:
        """How many wait: what a test looks at before it moves the clock."""
        return sum(not waiting.done() for _, _, waiting in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Move the clock forward and wake who is due; they run once the caller awaits."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            waiting = heapq.heappop(self._sleepers)[2]
            if not waiting.done():
                waiting.set_result(None)
