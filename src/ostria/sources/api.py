"""Requests to a Kubernetes API: credentials shown, refusals told apart, dead connections noticed.

It knows the API's manners (Status objects, 401 and rotated credentials, Retry-After, streams of lines) and no kinds.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

from ostria.sources.access import Access, Credential

REQUEST_TIMEOUT = 60.0
CONNECT_TIMEOUT = 10.0
# A peer that has vanished without a word is given up after about half a minute.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}

FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
"""What a request may raise beside ApiError when the API cannot be reached or does not speak HTTP."""

# A warning as Kubernetes sends it: 299 - "the words".
_WARNING = re.compile(r'299 \S+ "(?P<text>(?:[^"\\]|\\.)*)"(?: "[^"]*")?')


class Cause(NamedTuple):
    """One reason for a refusal: the field that it is about, as a path ("" if none), and the words."""

    field: str
    message: str


class ApiError(Exception):
    """The API's refusal: the HTTP status, its machine-readable reason, its words, when to come back, which fields."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        retry_after: float = 0.0,
        causes: tuple[Cause, ...] = (),
    ) -> None:
        super().__init__(f"{status} {reason or 'error'}: {message}" if message else f"{status} {reason or 'error'}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.causes = causes


class _Cause(msgspec.Struct):
    field: str | None = None
    message: str | None = None


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


class Api:
    """One API, for the time of an `async with`. `warned` is told of each warning that comes with an answer.

    `connections` is how many may be open at a time, 0 for no limit: each costs a quarter of a megabyte under TLS.
    """

    def __init__(self, access: Access, warned: Callable[[str], object] | None = None, *, connections: int = 0) -> None:
        self.access = access
        self._connections = connections
        self._warned = warned
        self._session: aiohttp.ClientSession | None = None
        self._trusted: tuple[tuple[bytes | None, tuple[bytes, bytes] | None], ssl.SSLContext] | None = None

    async def __aenter__(self) -> Self:
        # Watches hold a connection each for minutes: where there are some the number must not be a limit.
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30, socket_factory=_socket)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True, read_bufsize=2**20)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """The body of an answer. Raises ApiError and FAILURES."""
        return await self.send("GET", path, params=params)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        """Make one request and read the answer whole. Raises ApiError and FAILURES."""
        headers = {"Accept": accept, **({"Content-Type": content_type} if body is not None else {})}
        limits = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        async with self._request(method, path, params, headers, limits, body) as response:
            return await response.read()

    @asynccontextmanager
    async def lines(
        self, path: str, params: Mapping[str, str], *, idle: float
    ) -> AsyncIterator[AsyncIterator[list[bytes]]]:
        """An answer that is a stream of lines, as lists of the lines that have arrived together.

        `idle` is for how many seconds nothing may arrive. A line that is cut off at the end is left out. Raises
        ApiError and FAILURES.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=idle)
        async with self._request("GET", path, params, {}, limits, None) as response:
            yield _lines(response.content)

    @asynccontextmanager
    async def stream(self, path: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer as its bytes arrive, for as long as they do. Raises ApiError and FAILURES."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        async with self._request("GET", path, params, {"Accept": "*/*"}, limits, None) as response:
            yield response.content.iter_any()

    @asynccontextmanager
    async def websocket(
        self, path: str, params: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket in one of the protocols. Raises ApiError and FAILURES."""
        assert self._session is not None, "use it in `async with`"
        try:
            async with self._session.ws_connect(
                self.access.server + path,
                params=list(params),
                protocols=protocols,
                proxy=self.access.proxy or None,
                max_msg_size=0,
                **await self._shown({}),
            ) as socket_:
                yield socket_
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(error.status, message=f"the API did not open the stream: {error.message}") from None

    async def _shown(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """The arguments of a request that show who we are, and say whom we trust."""
        access = self.access
        credential = await access.credentials.get()
        shown: dict[str, Any] = {"headers": {"User-Agent": "ostria", **headers, **credential.headers}}
        if access.server_name:
            shown["server_hostname"] = access.server_name
        if access.server.startswith("https:"):
            shown["ssl"] = self._context(credential)
        return shown

    def _warn(self, response: aiohttp.ClientResponse) -> None:
        for header in response.headers.getall("Warning", ()) if self._warned is not None else ():
            match = _WARNING.fullmatch(header)
            if match is not None and self._warned is not None:
                self._warned(re.sub(r"\\(.)", r"\1", match["text"]))

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: bytes | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "use it in `async with`"
        access = self.access
        for attempt in (1, 2):
            async with self._session.request(
                method,
                access.server + path,
                params=params,
                data=body,
                timeout=limits,
                proxy=access.proxy or None,
                allow_redirects=False,
                **await self._shown({"Accept": "application/json", **headers}),
            ) as response:
                if response.status == 401 and attempt == 1:
                    access.credentials.refused()
                    continue
                self._warn(response)
                if response.status >= 300:
                    raise _error(response, await response.content.read(64 * 1024))
                yield response
                return

    def _context(self, credential: Credential) -> ssl.SSLContext:
        """What is trusted and shown, made anew only when a file behind it has changed."""
        basis = (self.access.authority.read(), credential.certificate)
        if self._trusted is None or self._trusted[0] != basis:
            self._trusted = (basis, _make_context(*basis, insecure=self.access.insecure))
        return self._trusted[1]


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        # Not every system has every one of them.
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def _make_context(
    authority: bytes | None, certificate: tuple[bytes, bytes] | None, *, insecure: bool
) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    # From 3.13 on Python refuses certificates that many clusters have and kubectl takes (no key identifiers).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        _load_chain(context, *certificate)
    return context


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    rest = b""
    async for chunk in content.iter_any():
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        lines = [line for line in lines if line]
        if lines:
            yield lines


def _error(response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(body, type=_Status)
    except ValueError:
        status = _Status(response.reason, body[:200].decode(errors="replace"))
    try:
        retry_after = float(response.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    causes = (status.details.causes if status.details else None) or ()
    named = tuple(Cause(cause.field or "", cause.message or "") for cause in causes)
    return ApiError(response.status, status.reason or "", status.message or "", retry_after, named)


def _load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The ssl module takes certificates from files only: one that exists for this moment and for us alone."""
    descriptor, path = tempfile.mkstemp(prefix="ostria-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
