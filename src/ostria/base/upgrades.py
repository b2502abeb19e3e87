"""A connection of the web server's that has left HTTP (RFC 9110, section 7.8): bytes both ways, with back-pressure.

aiohttp knows this of WebSocket only; here it is for any protocol. The two sides end together: no half is closed alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web

CHUNK = 1 << 16


class Duplex(Protocol):
    """Bytes both ways."""

    async def read(self) -> bytes:
        """What has come, b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionError if the other side is gone."""


class Upgraded:
    """The other side of a request that was answered with 101. Use `accept`; return `response` from the handler."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        assert request.transport is not None, "the request has just come over it"
        self.response = response
        self._transport = request.transport
        self._reader = asyncio.StreamReader(limit=CHUNK)
        self._reader.set_transport(request.transport)

    @classmethod
    async def accept(cls, request: web.Request, headers: Mapping[str, str]) -> Upgraded:
        """Answer 101 with these headers; from then on nothing is HTTP any more."""
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        made = cls(request, response)
        parser: Any = made
        # What the client sends comes here now. It must wait for the 101, as RFC 9110 demands: aiohttp keeps nothing
        # that comes before.
        request.protocol.set_parser(parser)
        await response.prepare(request)
        return made

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """What aiohttp calls with each piece; the protocol does not end by itself."""
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        """What aiohttp calls when the connection is gone."""
        self._reader.feed_eof()

    async def read(self) -> bytes:
        """What has come, b"" at the end."""
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Send. Raises ConnectionError if the other side is gone."""
        await self.response.write(data)

    def close(self) -> None:
        """End the connection, after what was written."""
        self._transport.close()


async def relay(one: Duplex, other: Duplex) -> None:
    """Pass bytes on both ways until either side ends."""

    async def pump(source: Duplex, sink: Duplex) -> None:
        try:
            while data := await source.read():
                await sink.write(data)
        except OSError:
            pass
        both.cancel_other()

    both = _Pair()
    async with asyncio.TaskGroup() as group:
        both.tasks = [group.create_task(pump(one, other)), group.create_task(pump(other, one))]


class _Pair:
    """Two tasks of which the first to end ends the other."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def cancel_other(self) -> None:
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()
