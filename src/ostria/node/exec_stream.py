"""kubectl exec: a program in a container, its streams on numbered channels of a WebSocket or on streams of SPDY.

| channel | 0 | 1 | 2 | 3 | 4 |
|---|---|---|---|---|---|
| | stdin, from the client | stdout | stderr | a Status at the end | the terminal's size, from the client |

`v5.channel.k8s.io` can say that stdin has ended; with v4 it ends with the connection. See
https://kubernetes.io/docs/reference/using-api/api-concepts/ and KEP 4006.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from aiohttp import WSMsgType, web

from ostria.base.upgrades import Duplex
from ostria.node import spdy
from ostria.node.kubelet import Execution, Node
from ostria.node.sandbox import Lost

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
WEBSOCKET_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
SPDY_PROTOCOLS = ("v4.channel.k8s.io",)
_CLOSE = 255
_CHUNK = 1 << 15
_DRAIN = 1.0
"""Seconds for the rest of the output after the program's end: something that it has started may hold it open."""


class Wish(NamedTuple):
    """What is to run, where, and with which streams."""

    namespace: str
    pod: str
    container: str
    argv: Sequence[str]
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class Channels(Protocol):
    """Numbered channels to a client."""

    async def receive(self) -> tuple[int, bytes | None] | None:
        """What has come on a channel, None for its end; None instead of both when the client has gone."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send on a channel. Raises ConnectionError."""


class _Size(msgspec.Struct, frozen=True, rename="pascal"):
    width: int = 0
    height: int = 0


class Program:
    """A program that has been started with pipes, or on a terminal. `run` serves it, `end` lets go of everything."""

    def __init__(self, node: Node, wish: Wish) -> None:
        """Raises NoSuchPod, sandbox.Lost, and messages.Refused if the container does not run."""
        self._wish = wish
        self._ours: dict[int, int] = {}
        if wish.tty:
            self._execution: Execution = node.exec(wish.namespace, wish.pod, wish.container, wish.argv)
            assert self._execution.terminal is not None, "no streams were given"
            # Reading and writing end at different times, so each has a descriptor of its own.
            self._ours = {STDOUT: os.dup(self._execution.terminal), STDIN: os.dup(self._execution.terminal)}
        else:
            theirs: dict[int, int] = {}
            try:
                for channel, wanted in ((STDIN, wish.stdin), (STDOUT, wish.stdout), (STDERR, wish.stderr)):
                    if not wanted:
                        theirs[channel] = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                        continue
                    reading, writing = os.pipe2(os.O_CLOEXEC)
                    theirs[channel], self._ours[channel] = (
                        (reading, writing) if channel == STDIN else (writing, reading)
                    )
                stdio = (theirs[STDIN], theirs[STDOUT], theirs[STDERR])
                self._execution = node.exec(wish.namespace, wish.pod, wish.container, wish.argv, stdio)
            except BaseException:
                self.end()
                raise
            finally:
                for descriptor in theirs.values():
                    os.close(descriptor)
        for descriptor in self._ours.values():
            os.set_blocking(descriptor, False)

    def end(self) -> None:
        """Close what is open. The program itself is ended by whoever cancels `run`."""
        for channel in list(self._ours):
            self._close(channel)
        if self._wish.tty:
            self._execution.close()

    async def run(self, channels: Channels) -> None:
        """Serve the program to its end, and tell it; if the client goes first, the program is killed."""
        async with asyncio.TaskGroup() as group:
            outputs = [
                group.create_task(self._output(channel, channels))
                for channel in (STDOUT, STDERR)
                if channel in self._ours
            ]
            serving = group.create_task(self._outcome())
            inputs = group.create_task(self._input(channels, serving))
            await asyncio.wait([serving])
            if not serving.cancelled():
                if outputs:
                    await asyncio.wait(outputs, timeout=_DRAIN)
                with contextlib.suppress(ConnectionError):
                    await channels.send(ERROR, msgspec.json.encode(serving.result()))
            for task in (*outputs, inputs):
                task.cancel()

    async def _outcome(self) -> dict[str, Any]:
        try:
            return status(await self._execution.wait())
        except Lost as error:
            return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": str(error)}

    async def _output(self, channel: int, channels: Channels) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await _read(self._ours[channel]):
                await channels.send(channel, data)
        if not self._wish.tty:
            # Nobody reads any more: whoever writes on is told so by the pipe.
            self._close(channel)

    async def _input(self, channels: Channels, serving: asyncio.Task[dict[str, Any]]) -> None:
        while (message := await channels.receive()) is not None:
            channel, data = message
            if channel == RESIZE and data:
                with contextlib.suppress(msgspec.DecodeError, OSError):
                    size = msgspec.json.decode(data, type=_Size)
                    self._execution.resize(size.height & 0xFFFF, size.width & 0xFFFF)
            elif channel == STDIN and STDIN in self._ours:
                if data is None:
                    if self._wish.tty:
                        # A terminal has no end; the character that means it is what a person would type.
                        await _write(self._ours[STDIN], b"\x04")
                    else:
                        self._close(STDIN)
                elif not await _write(self._ours[STDIN], data):
                    self._close(STDIN)
        serving.cancel()

    def _close(self, channel: int) -> None:
        descriptor = self._ours.pop(channel, None)
        if descriptor is not None:
            os.close(descriptor)


def status(code: int) -> dict[str, Any]:
    """A program's end as kubectl reads it."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


class WebSocketChannels:
    """Channels as the first byte of each message."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> tuple[int, bytes | None] | None:
        """The next message."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            data: bytes = message.data if message.type is WSMsgType.BINARY else message.data.encode()
            if not data:
                continue
            if data[0] != _CLOSE:
                return data[0], data[1:]
            if len(data) > 1:
                return data[1], None

    async def send(self, channel: int, data: bytes) -> None:
        """One message."""
        await self._socket.send_bytes(bytes((channel,)) + data)


_STREAMS = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}


class SpdyChannels:
    """Channels as streams that the client opens. `ready` waits for those that a wish needs."""

    def __init__(self, duplex: Duplex) -> None:
        self._duplex = duplex
        self._spdy = spdy.Connection()
        self._streams: dict[int, int] = {}
        self._channels: dict[int, int] = {}
        self._waiting: list[tuple[int, bytes | None]] = []

    async def ready(self, wish: Wish) -> bool:
        """Whether all streams have come that the client is to open; False if it has gone before."""
        wanted = {ERROR}
        wanted |= {
            channel
            for channel, asked in (
                (STDIN, wish.stdin),
                (STDOUT, wish.stdout),
                (STDERR, wish.stderr and not wish.tty),
                (RESIZE, wish.tty),
            )
            if asked
        }
        while not wanted <= self._streams.keys():
            if not await self._read():
                return False
        return True

    async def receive(self) -> tuple[int, bytes | None] | None:
        """The next piece of any stream."""
        while not self._waiting:
            if not await self._read():
                return None
        return self._waiting.pop(0)

    async def send(self, channel: int, data: bytes) -> None:
        """A piece of a stream. The Status is the last of all."""
        last = channel == ERROR
        if last:
            for other in (STDOUT, STDERR):
                self._spdy.send(self._streams.get(other, 0), b"", end=True)
        self._spdy.send(self._streams.get(channel, 0), data, end=last)
        await self._duplex.write(self._spdy.take())

    async def _read(self) -> bool:
        data = await self._duplex.read()
        for event in self._spdy.receive(data):
            match event:
                case spdy.Opened(stream, headers):
                    channel = _STREAMS.get(headers.get("streamtype", ""))
                    if channel is not None:
                        self._streams[channel] = stream
                        self._channels[stream] = channel
                case spdy.Data(stream, piece, ended) if stream in self._channels:
                    if piece:
                        self._waiting.append((self._channels[stream], piece))
                    if ended:
                        self._waiting.append((self._channels[stream], None))
        answer = self._spdy.take()
        if answer:
            await self._duplex.write(answer)
        return bool(data)


async def _read(descriptor: int) -> bytes:
    """What can be read; b"" at the end, which a terminal tells as an error."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            await _ready(descriptor, loop.add_reader, loop.remove_reader)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""


async def _write(descriptor: int, data: bytes) -> bool:
    """Write all of it; False if nobody reads any more."""
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            await _ready(descriptor, loop.add_writer, loop.remove_writer)
        except OSError:
            return False
    return True


async def _ready(descriptor: int, add: Callable[..., object], remove: Callable[[int], object]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add(descriptor, wake)
    try:
        await future
    finally:
        remove(descriptor)
