"""Connections on which nobody says anything: they are ended, so that they are no way to use a server up.

aiohttp bounds how long a connection may rest between two requests, and not how long the first one may take to come.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.typedefs import Handler

BOUND = 15.0
"""How long (seconds) a connection may be open on which no request is being answered."""


class Silence:
    """Put `heed` first among an application's middlewares, and run `end` beside its server."""

    def __init__(self, bound: float = BOUND) -> None:
        self._bound = bound
        self._answering: set[object] = set()
        self._since: dict[object, float] = {}

    @web.middleware
    async def heed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Know which connections are being answered."""
        self._answering.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._answering.discard(request.protocol)
            self._since.pop(request.protocol, None)

    async def end(self, server: web.Server) -> None:
        """End what is silent for too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._bound / 3)
            now, open_now = loop.time(), server.connections
            self._since = {each: self._since.get(each, now) for each in open_now}
            for each in open_now:
                if each not in self._answering and now - self._since[each] > self._bound:
                    each.force_close()
