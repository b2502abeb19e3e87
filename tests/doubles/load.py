"""Steady load on an address of this machine: so many requests a second, whatever the answers take.

What counts is what a caller would see: every request has an answer with its status, or words for why it has none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp


class Seen(NamedTuple):
    """What came of one request, and when it was made, in seconds of the loop's clock."""

    at: float
    status: int
    words: str


class Load:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def failures(self) -> list[Seen]:
        return [each for each in self.seen if each.status != 200]

    def statuses(self) -> Counter[int]:
        return Counter(each.status for each in self.seen)

    async def until(self, count: int) -> None:
        """Wait until so many more requests have been answered."""
        wanted = len(self.seen) + count
        while len(self.seen) < wanted:
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def steady(
    url: str, rate: float, *, host: str = "", bound: float = 15.0, wanted: str = "", fresh: bool = False
) -> AsyncIterator[Load]:
    """Call `url` at `rate` a second for as long as the block; at its end, every request has been answered.

    An answer without the text `wanted` counts as a failure (status 0). `fresh`: each over a connection of its own.
    """
    load = Load()
    loop = asyncio.get_running_loop()
    headers = {"host": host} if host else {}
    timeout = aiohttp.ClientTimeout(total=bound)

    async def call(session: aiohttp.ClientSession) -> None:
        at = loop.time()
        try:
            async with session.get(url, headers=headers) as answer:
                body = await answer.text()
                flags = answer.headers.get("server", "")
                status = answer.status if answer.status != 200 or wanted in body else 0
                load.seen.append(Seen(at, status, "" if status == 200 else f"{flags}: {body[:200]}"))
        except (aiohttp.ClientError, TimeoutError) as error:
            load.seen.append(Seen(at, 0, f"{type(error).__name__}: {error}"))

    async with aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(limit=0, force_close=fresh)
    ) as session:
        stop = asyncio.Event()

        async def pace() -> None:
            due = loop.time()
            async with asyncio.TaskGroup() as group:
                while not stop.is_set():
                    group.create_task(call(session))
                    due += 1 / rate
                    await asyncio.sleep(max(0.0, due - loop.time()))

        async with asyncio.TaskGroup() as group:
            group.create_task(pace())
            try:
                yield load
            finally:
                stop.set()
