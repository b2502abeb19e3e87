"""HTTPS to webhooks: to Services through the node, as the pods' network is not the server's own; to URLs directly.

Connections are kept and used again, one pool for each way.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import SERVICES
from ostria.kubeapi.requests import Document, Reader

Connect = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Makes a connection to an address in the pods' network. Raises OSError."""

_MOST = 8 * 1024 * 1024
_KEEP = 30.0
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


class WebhookClient:
    """Asks webhooks. Use it as a context, for its pools."""

    def __init__(self, connect: Connect, reader: Reader) -> None:
        self._connect = connect
        self._reader = reader
        self._within: aiohttp.ClientSession
        self._outside: aiohttp.ClientSession

    async def __aenter__(self) -> WebhookClient:
        # The caller bounds each request.
        forever = aiohttp.ClientTimeout(total=None)
        way = _ThroughNode(self._reach, keepalive_timeout=_KEEP)
        self._within = aiohttp.ClientSession(connector=way, timeout=forever)
        direct = aiohttp.TCPConnector(keepalive_timeout=_KEEP)
        self._outside = aiohttp.ClientSession(connector=direct, timeout=forever)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._within.close()
        await self._outside.close()

    async def post(self, client: Document, body: bytes) -> bytes:
        """POST to where a `clientConfig` says. Raises OSError with words for people."""
        service = mapping(client, "service")
        if service:
            port, path = service.get("port") or 443, service.get("path") or "/"
            url = f"https://{service.get('name')}.{service.get('namespace')}.svc:{port}/{path.removeprefix('/')}"
        else:
            url = str(client.get("url") or "")
        session = self._within if service else self._outside
        try:
            context = _context(client.get("caBundle") or "")
            try:
                return await self._send(session, url, body, context)
            except aiohttp.ServerDisconnectedError:
                # A kept connection may end as it is used again; a webhook may be asked twice about one thing.
                return await self._send(session, url, body, context)
        except (aiohttp.ClientError, ValueError, OSError) as error:
            raise OSError(f'Post "{url}": {str(error) or type(error).__name__}') from None

    async def _send(self, session: aiohttp.ClientSession, url: str, body: bytes, context: ssl.SSLContext) -> bytes:
        request = session.post(url, data=body, headers=_HEADERS, ssl=context, allow_redirects=False)
        async with request as answer:
            data = await answer.content.read(_MOST)
            while len(data) < _MOST and (more := await answer.content.read(_MOST - len(data))):
                data += more
            if answer.status != 200:
                raise OSError(f"it answers {answer.status}: {data[:200].decode(errors='replace').strip()}")
            return data

    async def _reach(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name, namespace, _ = host.split(".", 2)
        service = self._reader.get(SERVICES, namespace, name)
        if service is None:
            raise OSError(f'service "{name}" not found')
        address = at(service, "spec", "clusterIP")
        if not address or address == "None":
            raise OSError(f'service "{name}" has no address')
        if all(each.get("port") != port for each in objects(service, "spec", "ports")):
            raise OSError(f'service "{name}" has no port {port}')
        return await self._connect(address, port)


class _ThroughNode(aiohttp.BaseConnector):
    """aiohttp's pool of connections over another way than TCP."""

    def __init__(self, reach: Connect, *, keepalive_timeout: float) -> None:
        super().__init__(keepalive_timeout=keepalive_timeout)
        self._reach = reach

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:  # noqa: ASYNC109 - aiohttp's own signature.
        host, port = req.url.host, req.url.port
        loop = asyncio.get_running_loop()
        _, writer = await self._reach(host, port)
        handler = _Handler(loop)
        handler.way = writer
        # A client speaks first in TLS, so nothing has been read from the connection that would be lost.
        transport = await loop.start_tls(writer.transport, handler, req.ssl, server_hostname=host)
        assert transport is not None
        handler.connection_made(transport)
        return handler


class _Handler(ResponseHandler):
    """aiohttp's side of a connection. It keeps the writer, which would close the connection on its own end."""

    way: asyncio.StreamWriter


@functools.lru_cache(maxsize=64)
def _context(bundle: str) -> ssl.SSLContext:
    """Trust in a `caBundle` (PEM in base64), or in the machine's authorities if there is none. Raises ValueError."""
    if not bundle:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    except (binascii.Error, UnicodeDecodeError, ssl.SSLError) as error:
        raise ValueError(f"its caBundle cannot be read: {error}") from None
