"""Relays between two connections: bytes both ways, with back-pressure, half-closes and resets passed on. Bounded."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from ostria.node.network.broker import reset

CHUNK = 1 << 17
MOST = 4096
"""Relays at a time; one more is refused."""
_KEEP_ALIVE_SECONDS = 60


class Relays:
    """All relays of a process. Each owns its two sockets and closes them."""

    def __init__(self) -> None:
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether a new connection has to be refused."""
        return self.count >= MOST

    async def run(self, one: socket.socket, other: socket.socket) -> None:
        """Relay until both sides have ended, or either failed: then both are reset."""
        self.count += 1
        try:
            for sock in (one, other):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_SECONDS)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(one, other))
                tasks.create_task(_pump(other, one))
        except* OSError:
            reset(one)
            reset(other)
        finally:
            one.close()
            other.close()
            self.count -= 1


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # Most relays are silent for long (a watch): a buffer is there for as long as there is something in it.
    while data := await loop.sock_recv(source, CHUNK):
        # The sink's pace is ours: nothing more is read before it has taken this.
        await loop.sock_sendall(sink, data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
