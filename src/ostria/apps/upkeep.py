"""Things from elsewhere that the mesh needs, each kept by a task of its own for as long as it is wanted.

    what is wanted -> a task for each -> what it finds, written into the engine

WebAssembly modules (`modules`) and issuers' keys (`key_sets`) are kept so: each is fetched once for the whole mesh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Generic, TypeVar

Source = TypeVar("Source", bound=tuple[Any, ...])

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""What cannot be fetched is tried again after so many seconds, each time after twice the time, but no longer."""
START_BOUND = 20.0
"""How long (seconds) a control plane that starts waits for things, so that proxies which have them keep them."""


class Upkeep(Generic[Source]):
    """`run` until cancelled; `wake` after each change.

    `keep` looks after one thing until it is cancelled, and calls `tried` whenever it has tried to get it. `restart`
    says of a thing whether it is worth another beginning at once.
    """

    def __init__(
        self,
        wanted: Callable[[], Collection[Source]],
        keep: Callable[[Source], Coroutine[Any, Any, None]],
        restart: Callable[[Source], bool] = lambda _: False,
    ) -> None:
        self._wanted = wanted
        self._keep = keep
        self._restart = restart
        self._woken = asyncio.Event()
        self._running: dict[Source, asyncio.Task[None]] = {}
        self._untried: set[Source] = set()
        self._tried = asyncio.Event()

    def wake(self) -> None:
        """Something may be wanted, or no longer."""
        self._woken.set()

    def tried(self, source: Source) -> None:
        """One thing has been tried, with or without success."""
        self._untried.discard(source)
        if not self._untried:
            self._tried.set()

    async def first_tried(self) -> tuple[Source, ...]:
        """Wait until all that was wanted at the start has been tried, or as long as a start may take; what has not."""
        try:
            async with asyncio.timeout(START_BOUND):
                await self._tried.wait()
        except TimeoutError:
            return tuple(sorted(self._untried))
        return ()

    async def run(self) -> None:
        """Keep what is wanted, for ever."""
        self._untried = set(self._wanted())
        if not self._untried:
            self._tried.set()
        self.wake()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._woken.wait()
                self._woken.clear()
                wanted = set(self._wanted())
                for source in self._untried - wanted:
                    self.tried(source)
                for source in [source for source in self._running if source not in wanted or self._restart(source)]:
                    self._running.pop(source).cancel()
                for source in sorted(wanted - self._running.keys()):
                    self._running[source] = group.create_task(self._keep(source))
