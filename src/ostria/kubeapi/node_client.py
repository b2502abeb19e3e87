"""The API server's way into pods: logs, exec, port-forward and plain connections, all over the node's Unix socket.

Who may has been decided before; what is said on the way is passed on and not understood here.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
from aiohttp import web

from ostria.base.upgrades import CHUNK, Upgraded, relay
from ostria.kubeapi.calls import Call
from ostria.kubeapi.errors import StatusError, bad_request, internal, not_found, unavailable
from ostria.kubeapi.fields import at, objects
from ostria.kubeapi.kinds import PODS
from ostria.kubeapi.requests import Document, Reader

CONNECT_SECONDS = 10.0
_PASSED_ON = ("upgrade", "x-stream-protocol-version")
_WEBSOCKET = "sec-websocket-"
_REASONS = {400: "BadRequest", 404: "NotFound"}


class _Reached(NamedTuple):
    """A connection on which the node has left HTTP, or has refused to."""

    code: int
    headers: Mapping[str, str]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self) -> bytes:
        return await self.reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class NodeClient:
    """The one node of this machine. Pods are looked up before it is asked."""

    def __init__(self, socket: pathlib.Path, reader: Reader) -> None:
        self._socket = str(socket)
        self._reader = reader

    async def connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to an address in the pods' network. Raises OSError."""
        try:
            found = await self._ask("GET", f"/connect/{quote(host, safe='')}/{port}", [("Upgrade", "tcp")])
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the node has ended the connection") from None
        if found.code != 101:
            found.writer.close()
            raise ConnectionRefusedError(f"{host}:{port} cannot be reached from the node")
        return found.reader, found.writer

    async def respond(self, call: Call, request: web.Request) -> web.StreamResponse:
        """Pass a request for a pod's `log`, `exec` or `portforward` on, and its answer back. Raises StatusError."""
        pod = self._reader.get(PODS, call.namespace, call.name)
        if pod is None:
            raise not_found("pods", call.name)
        if not at(pod, "spec", "nodeName"):
            raise bad_request(f"pod {call.name} does not have a host assigned")
        where = f"{quote(call.namespace, safe='')}/{quote(call.name, safe='')}"
        query = request.rel_url.raw_query_string
        if call.subresource == "portforward":
            return await self._pass_on(request, f"/portForward/{where}?{query}")
        container = _container(pod, request.query.get("container", ""))
        path = f"{where}/{quote(container, safe='')}?{query}"
        if call.subresource == "log":
            _check_started(pod, container)
            return await self._logs(request, f"/containerLogs/{path}")
        return await self._pass_on(request, f"/exec/{path}")

    async def _logs(self, request: web.Request, path: str) -> web.StreamResponse:
        connector = aiohttp.UnixConnector(self._socket)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
                session.get(f"http://node{path}") as answer,
            ):
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.text())
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response
        except aiohttp.ClientConnectorError:
            raise _absent() from None

    async def _pass_on(self, request: web.Request, path: str) -> web.StreamResponse:
        # Clients offer each protocol in a header of its own, all of one name.
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() in _PASSED_ON or name.lower().startswith(_WEBSOCKET)
        ]
        if "Upgrade" not in request.headers:
            raise bad_request("Upgrade request required")
        try:
            found = await self._ask(request.method, path, headers)
        except (OSError, asyncio.IncompleteReadError):
            raise _absent() from None
        try:
            if found.code != 101:
                said = await found.reader.read(CHUNK)
                raise _refusal(found.code, said.decode(errors="replace"))
            duplex = await Upgraded.accept(request, found.headers)
            await relay(duplex, found)
            return duplex.response
        finally:
            found.writer.close()

    async def _ask(self, method: str, path: str, headers: Sequence[tuple[str, str]]) -> _Reached:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n{lines}\r\n".encode())
                first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            except BaseException:
                writer.close()
                raise
        pairs = (line.partition(":") for line in rest)
        return _Reached(int(first.split()[1]), {name: value.strip() for name, _, value in pairs}, reader, writer)


def _container(pod: Document, name: str) -> str:
    spec, wanted = pod["spec"], name
    names = [each["name"] for each in objects(spec, "containers")]
    if not wanted:
        if len(names) != 1:
            raise bad_request(
                f"a container name must be specified for pod {pod['metadata']['name']}, choose one of: "
                f"[{' '.join(names)}]"
            )
        return str(names[0])
    if wanted not in names and all(each["name"] != wanted for each in objects(spec, "initContainers")):
        raise bad_request(f"container {wanted} is not valid for pod {pod['metadata']['name']}")
    return wanted


def _check_started(pod: Document, container: str) -> None:
    """A container that has not run yet has no log, which is told with what it waits for."""
    for part in ("containerStatuses", "initContainerStatuses"):
        for status in objects(pod, "status", part):
            waiting = at(status, "state", "waiting")
            if status.get("name") == container and waiting and not status.get("restartCount"):
                name, reason = pod["metadata"]["name"], waiting.get("reason", "")
                raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')


def _refusal(code: int, said: str) -> StatusError:
    words = said.strip()
    return StatusError(code, _REASONS[code], words) if code in _REASONS else internal(words)


def _absent() -> StatusError:
    return unavailable("the node does not answer now: it is being started, or has ended")
