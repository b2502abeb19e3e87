"""kubectl port-forward: connections to a pod's ports, many over one connection of SPDY.

Each connection is two streams with one `requestid`: `error`, on which the node says what went wrong, and `data`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ostria.base.upgrades import Duplex
from ostria.node import spdy

log = logging.getLogger(__name__)

Dial = Callable[[int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Makes a connection to a port of the pod. Raises OSError or LookupError."""

_QUEUED = 16
_CHUNK = 1 << 16


class PortForward:
    """All connections of one kubectl; `run` until it goes."""

    def __init__(self, duplex: Duplex, dial: Dial) -> None:
        self._duplex = duplex
        self._dial = dial
        self._spdy = spdy.Connection()
        self._errors: dict[str, int] = {}
        self._queues: dict[int, asyncio.Queue[spdy.Data | None]] = {}

    async def run(self) -> None:
        """Serve until the client has gone, or says what cannot be understood."""
        tasks: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            try:
                await self._serve(group, tasks)
            except spdy.ProtocolError as error:
                log.info("a port-forward's client is not understood: %s", error)
            except ConnectionError:
                pass
            finally:
                for task in tuple(tasks):
                    task.cancel()

    async def _serve(self, group: asyncio.TaskGroup, tasks: set[asyncio.Task[None]]) -> None:
        while data := await self._duplex.read():
            for event in self._spdy.receive(data):
                if isinstance(event, spdy.Opened):
                    task = self._opened(event, group)
                    if task is not None:
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                else:
                    await self._pass_on(event)
            await self._flush()

    def _opened(self, event: spdy.Opened, group: asyncio.TaskGroup) -> asyncio.Task[None] | None:
        identifier = event.headers.get("requestid", "")
        if event.headers.get("streamtype") == "error":
            self._errors[identifier] = event.stream
            return None
        port = event.headers.get("port", "")
        if event.headers.get("streamtype") != "data" or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            self._spdy.reset(event.stream)
            return None
        queue: asyncio.Queue[spdy.Data | None] = asyncio.Queue(_QUEUED)
        self._queues[event.stream] = queue
        return group.create_task(self._connect(event.stream, self._errors.pop(identifier, 0), int(port), queue))

    async def _pass_on(self, event: spdy.Data | spdy.Reset) -> None:
        queue = self._queues.get(event.stream)
        if queue is not None:
            # The slowest connection is the pace of all: SPDY as kubectl speaks it has no other.
            await queue.put(event if isinstance(event, spdy.Data) else None)

    async def _connect(self, stream: int, errors: int, port: int, queue: asyncio.Queue[spdy.Data | None]) -> None:
        said = b""
        try:
            reader, writer = await self._dial(port)
        except (OSError, LookupError) as error:
            said = f"an error occurred forwarding {port}: {error}".encode()
        else:
            with contextlib.closing(writer), contextlib.suppress(ConnectionError):
                await self._converse(stream, reader, writer, queue)
        finally:
            del self._queues[stream]
            # Whoever waits for room here need not: nobody reads any more.
            while not queue.empty():
                queue.get_nowait()
        self._spdy.send(errors, said, end=True)
        self._spdy.send(stream, b"", end=True)
        with contextlib.suppress(ConnectionError):
            await self._flush()

    async def _converse(
        self,
        stream: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        queue: asyncio.Queue[spdy.Data | None],
    ) -> None:
        async def outward() -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_CHUNK):
                    self._spdy.send(stream, data)
                    await self._flush()
            inward_task.cancel()

        async def inward() -> None:
            with contextlib.suppress(ConnectionError):
                while (event := await queue.get()) is not None:
                    writer.write(event.data)
                    await writer.drain()
                    if event.ended and writer.can_write_eof():
                        writer.write_eof()
                # The client has given the connection up.
                writer.transport.abort()

        async with asyncio.TaskGroup() as group:
            inward_task = group.create_task(inward())
            group.create_task(outward())

    async def _flush(self) -> None:
        data = self._spdy.take()
        if data:
            await self._duplex.write(data)
