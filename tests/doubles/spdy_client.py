"""The client's side of SPDY, as kubectl has it: opens streams, sends, and collects what comes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping

from ostria.node.spdy import DICTIONARY


class SpdyClient:
    """`received` and `ended` by stream. `send` and `read` carry the bytes."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], read: Callable[[], Awaitable[bytes]]) -> None:
        self._send = send
        self._read = read
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._next = 1
        self._buffer = b""
        self.received: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.pongs: list[bytes] = []

    async def open(self, headers: Mapping[str, str], *, end: bool = False) -> int:
        stream, self._next = self._next, self._next + 2
        block = struct.pack(">I", len(headers))
        for key, value in headers.items():
            for word in (key.encode(), value.encode()):
                block += struct.pack(">I", len(word)) + word
        packed = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIH", stream, 0, 0) + packed
        await self._send(struct.pack(">HHB", 0x8003, 1, int(end)) + len(body).to_bytes(3, "big") + body)
        self.received[stream] = b""
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        await self._send(struct.pack(">IB", stream, int(end)) + len(data).to_bytes(3, "big") + data)

    async def ping(self) -> None:
        await self._send(struct.pack(">HHB", 0x8003, 6, 0) + (4).to_bytes(3, "big") + b"\0\0\0\1")

    async def reset(self, stream: int) -> None:
        body = struct.pack(">II", stream, 5)
        await self._send(struct.pack(">HHB", 0x8003, 3, 0) + len(body).to_bytes(3, "big") + body)

    async def until(self, done: Callable[[], bool]) -> None:
        """Read until that holds; fails if the other side ends before."""
        while not done():
            data = await self._read()
            assert data, "the connection has ended"
            self._buffer += data
            while len(self._buffer) >= 8 + int.from_bytes(self._buffer[5:8], "big"):
                size = int.from_bytes(self._buffer[5:8], "big")
                head, body, self._buffer = self._buffer[:8], self._buffer[8 : 8 + size], self._buffer[8 + size :]
                if head[0] & 0x80:
                    if head[2:4] == b"\0\6":
                        self.pongs.append(body)
                    continue
                stream = int.from_bytes(head[:4], "big")
                self.received[stream] += body
                if head[4] & 1:
                    self.ended.add(stream)
