"""An issuer's HTTP server: what it answers by path, and what it has been asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class KeyServer:
    """`by_path` holds whole answers, or functions that give one; `/slow` is not ended for half a minute."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.by_path: dict[str, bytes | Callable[[], bytes]] = {}

    def url(self, path: str = "/keys", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
            self.asked.append(path)
            found = self.by_path.get(path.partition("?")[0], answer("", 404))
            writer.write(found() if callable(found) else found)
            if path == "/slow":
                await asyncio.sleep(30)
            await writer.drain()
        writer.close()


def answer(body: str, status: int = 200, *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body.encode())}", "connection: close", *headers]
    return "\r\n".join([*lines, "", body]).encode()


def leads_to(url: str, status: int = 302) -> bytes:
    """An answer that leads elsewhere."""
    return answer("", status, f"location: {url}")


@contextlib.asynccontextmanager
async def key_server(keys: str) -> AsyncIterator[KeyServer]:
    """A server on loopback that hands out these keys at `/keys`."""
    found = KeyServer()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    found.by_path["/keys"] = answer(keys)
    try:
        yield found
    finally:
        server.close()
