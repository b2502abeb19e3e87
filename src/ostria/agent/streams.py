"""Connections on the loop, and as much HTTP/1.1 (RFC 9112) as an agent speaks: one request a connection.

Heads are bounded, bodies are passed on piece by piece and never kept. Nothing here knows what is asked or answered.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from ostria.agent.loop import readable, writable

HEAD_LIMIT = 32 * 1024
PIECE = 16 * 1024
SO_MARK = 36  # Linux; the standard library has a name for it only where it was built with one.

Place = tuple[str, int] | str
"""Where to connect to: an IP address with a port, or the path of a Unix socket."""

Sink = Callable[[bytes], Awaitable[None]]


class HttpError(Exception):
    """What came is no HTTP that we understand, or it broke off."""


class Stream:
    """One connection; every wait ends at the deadline with TimeoutError."""

    def __init__(self, sock: socket.socket, deadline: float, peer: str = "") -> None:
        sock.setblocking(False)  # noqa: FBT003 - The standard library's own.
        self._sock = sock
        self._kept = b""
        self.deadline = deadline
        # Who is at the other end, taken when it was accepted: one that is gone can no longer be asked about.
        self.peer = peer

    async def read(self) -> bytes:
        """Some bytes, b"" at the end."""
        if self._kept:
            kept, self._kept = self._kept, b""
            return kept
        while True:
            try:
                return self._sock.recv(PIECE)
            except BlockingIOError:
                await readable(self._sock, self.deadline)

    async def write(self, data: bytes) -> None:
        """Send all of this."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await writable(self._sock, self.deadline)

    async def read_head(self) -> list[str]:
        """The lines of a head, without the empty one; [] at the end. Raises HttpError."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_LIMIT:
                raise HttpError("the head is too long")
            piece = await self.read()
            if not piece:
                if data:
                    raise HttpError("the head broke off")
                return []
            data += piece
        self.keep(data[end + 4 :])
        return data[:end].decode("latin-1").split("\r\n")

    async def read_line(self) -> bytes:
        """A line without its end. Raises HttpError."""
        data = b""
        while (end := data.find(b"\r\n")) < 0:
            piece = await self.read()
            if not piece or len(data) > HEAD_LIMIT:
                raise HttpError("a line broke off")
            data += piece
        self.keep(data[end + 2 :])
        return data[:end]

    def keep(self, data: bytes) -> None:
        """Give back what was read too much."""
        self._kept = data + self._kept

    def close(self) -> None:
        """End the connection."""
        self._sock.close()


async def connect(place: Place, deadline: float, *, sources: tuple[str, ...] = (), mark: int | None = None) -> Stream:
    """A new connection; raises OSError. It comes from one of `sources`, if that is an address of ours.

    `mark` is that of the proxy's own packets, where capture goes by one.
    """
    if isinstance(place, str):
        sock = socket.socket(socket.AF_UNIX)
        address: object = place
    else:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        sock = socket.socket(family)
        address = place
        for source in sources:
            if (":" in source) == (family == socket.AF_INET6):
                try:
                    sock.bind((source, 0))
                except OSError:
                    continue  # ::6 exists only where the init step has added it; the route then finds another.
    stream = Stream(sock, deadline)
    try:
        if mark is not None:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        error = sock.connect_ex(address)  # type: ignore[arg-type]
        if error in _PENDING:
            await writable(sock, deadline)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return stream


_PENDING = (115, 11)  # EINPROGRESS, EAGAIN (Linux); the module errno is not loaded for two numbers.


class Response(NamedTuple):
    """The head of an answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    stream: Stream

    async def copy(self, sink: Sink) -> None:
        """Pass the body on, piece by piece. Raises HttpError if it breaks off."""
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := _size(await self.stream.read_line(), 16):
                await _copy(self.stream, size, sink)
                await self.stream.read_line()
        elif "content-length" in self.headers:
            await _copy(self.stream, _size(self.headers["content-length"].encode(), 10), sink)
        else:
            while piece := await self.stream.read():
                await sink(piece)

    async def text(self, limit: int = 1 << 20) -> str:
        """The body of a short answer."""
        parts: list[bytes] = []

        async def take(piece: bytes) -> None:
            parts.append(piece)
            if sum(map(len, parts)) > limit:
                raise HttpError("the answer is too long")

        await self.copy(take)
        return b"".join(parts).decode("utf-8", "replace")


async def request(
    stream: Stream, method: str, path: str, headers: Mapping[str, str] = {}, *, host: str = "localhost"
) -> Response:
    """Send a request without a body and read the head of its answer. Raises HttpError."""
    lines = [f"{method} {path} HTTP/1.1"]
    for name, value in {"host": host, "connection": "close", **headers}.items():
        lines.append(f"{name}: {value}")
    if method in ("POST", "PUT"):
        lines.append("content-length: 0")
    await stream.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
    while True:
        head = await stream.read_head()
        if not head:
            raise HttpError("no answer")
        status = head[0].split(" ", 2)[1:2]
        if not status or not status[0].isdecimal():
            raise HttpError(f"no HTTP: {head[0][:60]}")
        if not status[0].startswith("1"):
            return Response(int(status[0]), fields(head[1:]), stream)


async def fetch(place: Place, method: str, path: str, deadline: float) -> tuple[int, str]:
    """Status and text of a short answer; raises OSError (TimeoutError is one) and HttpError."""
    stream = await connect(place, deadline)
    try:
        response = await request(stream, method, path)
        return response.status, await response.text()
    finally:
        stream.close()


def fields(lines: list[str]) -> dict[str, str]:
    """Header lines by name, in lower case."""
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def answer(status: int, text: str = "", content_type: str = "text/plain; charset=utf-8") -> bytes:
    """A whole response, after which the connection ends."""
    body = text.encode()
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\ncontent-type: {content_type}\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _size(text: bytes, base: int) -> int:
    try:
        size = int(text.partition(b";")[0], base)
    except ValueError:
        size = -1
    if size < 0:
        raise HttpError("a body has no size")
    return size


async def _copy(stream: Stream, size: int, sink: Sink) -> None:
    while size:
        piece = await stream.read()
        if not piece:
            raise HttpError("the body broke off")
        if len(piece) > size:
            stream.keep(piece[size:])
            piece = piece[:size]
        size -= len(piece)
        await sink(piece)
