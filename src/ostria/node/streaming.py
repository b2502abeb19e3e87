"""What an API server asks of the node on a Unix socket, in HTTP: logs, exec, port-forward, connections to pods.

    GET /containerLogs/NS/POD/CONTAINER     exec and portForward: WebSocket, or SPDY/3.1 as kubectl 1.30 has it
    GET /connect/HOST/PORT                  Upgrade: tcp; then the bytes of a connection in the pods' network

Whoever can open the socket may do all of it: the API server authorizes, the file's permissions keep others out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
from collections.abc import AsyncIterator
from datetime import datetime

from aiohttp import WSMsgType, web

from ostria.base.clock import Clock
from ostria.base.upgrades import CHUNK, Upgraded, relay
from ostria.node import exec_stream, spdy
from ostria.node.exec_stream import Program, SpdyChannels, WebSocketChannels, Wish
from ostria.node.kubelet import Node, NoSuchPod
from ostria.node.messages import Refused
from ostria.node.network.network import Network
from ostria.node.port_forward import PortForward
from ostria.node.sandbox import Lost

log = logging.getLogger(__name__)

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PORT_FORWARD = "portforward.k8s.io"
SPDY = "SPDY/3.1"
CONNECT_SECONDS = 10.0
_STREAM_PROTOCOL = "X-Stream-Protocol-Version"


class Streaming:
    """The routes over one node and its network; `app` is for aiohttp. Use `serving`."""

    def __init__(self, node: Node, network: Network, clock: Clock) -> None:
        self._node = node
        self._network = network
        self._clock = clock
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                web.route("*", "/exec/{namespace}/{pod}/{container}", self._exec),
                web.route("*", "/portForward/{namespace}/{pod}", self._port_forward),
                web.get("/connect/{host}/{port}", self._connect),
            ]
        )

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        query, where = request.query, request.match_info
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        left = _number(query.get("limitBytes"))
        pieces = self._node.read_logs(
            where["namespace"],
            where["pod"],
            where["container"],
            follow=_is_true(query.get("follow")),
            previous=_is_true(query.get("previous")),
            timestamps=_is_true(query.get("timestamps")),
            tail=_number(query.get("tailLines")),
            since=self._since(query.get("sinceSeconds"), query.get("sinceTime")),
        )
        try:
            async with contextlib.aclosing(pieces):
                # The first piece tells whether there is such a container: the answer's head waits for it.
                async for piece in pieces:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(piece if left is None else piece[:left])
                    if left is not None:
                        left -= min(len(piece), left)
                        if not left:
                            break
        except NoSuchPod as error:
            return _refused(404, error)
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    def _since(self, seconds: str | None, time: str | None) -> float | None:
        if seconds:
            return self._clock.now() - (_number(seconds) or 0)
        try:
            return datetime.fromisoformat(time).timestamp() if time else None
        except ValueError:
            raise web.HTTPBadRequest(text=f"sinceTime: {time!r} is not a time\n") from None

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        query, where = request.query, request.match_info
        asked = {name: _is_true(query.get(name)) for name in ("stdin", "stdout", "stderr", "tty")}
        wish = Wish(where["namespace"], where["pod"], where["container"], query.getall("command", []), **asked)
        if not wish.argv:
            raise web.HTTPBadRequest(text="you must specify at least 1 command\n")
        upgrade = request.headers.get("Upgrade", "").lower()
        if upgrade not in ("websocket", SPDY.lower()):
            raise web.HTTPBadRequest(text="Upgrade request required\n")
        if upgrade != "websocket":
            return await self._exec_spdy(request, wish)
        try:
            program = Program(self._node, wish)
        except (NoSuchPod, Lost, Refused) as error:
            return _refused(500, error)
        try:
            answer = web.WebSocketResponse(protocols=exec_stream.WEBSOCKET_PROTOCOLS, compress=False, max_msg_size=0)
            await answer.prepare(request)
            await program.run(WebSocketChannels(answer))
            await answer.close()
            return answer
        finally:
            program.end()

    async def _exec_spdy(self, request: web.Request, wish: Wish) -> web.StreamResponse:
        offered = [each.strip() for line in request.headers.getall(_STREAM_PROTOCOL, []) for each in line.split(",")]
        protocol = next((each for each in exec_stream.SPDY_PROTOCOLS if each in offered), None)
        if protocol is None:
            raise web.HTTPForbidden(text=f"unable to upgrade: protocols {offered} are not known\n")
        headers = {"Connection": "Upgrade", "Upgrade": SPDY, _STREAM_PROTOCOL: protocol}
        try:
            program = Program(self._node, wish)
        except (NoSuchPod, Lost, Refused) as error:
            return _refused(500, error)
        try:
            duplex = await Upgraded.accept(request, headers)
            channels = SpdyChannels(duplex)
            try:
                if await channels.ready(wish):
                    await program.run(channels)
            except spdy.ProtocolError as error:
                log.info("an exec's client is not understood: %s", error)
            return duplex.response
        finally:
            program.end()

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]

        async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._node.port_forward(namespace, pod, port)

        upgrade = request.headers.get("Upgrade", "").lower()
        if upgrade == "websocket":
            answer = web.WebSocketResponse(protocols=(TUNNEL,), compress=False, max_msg_size=0)
            await answer.prepare(request)
            if answer.ws_protocol == TUNNEL:
                await PortForward(_Tunnel(answer), dial).run()
                await answer.close()
            else:
                await answer.close(code=1002, message=b"the protocol must be " + TUNNEL.encode())
            return answer
        if upgrade == SPDY.lower():
            headers = {"Connection": "Upgrade", "Upgrade": SPDY, _STREAM_PROTOCOL: PORT_FORWARD}
            duplex = await Upgraded.accept(request, headers)
            await PortForward(duplex, dial).run()
            return duplex.response
        raise web.HTTPBadRequest(text="Upgrade request required\n")

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "tcp":
            raise web.HTTPBadRequest(text="Upgrade request required\n")
        host, port = request.match_info["host"], _number(request.match_info["port"])
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                there = await self._network.connect(host, port or 0)
        except (OSError, Refused) as error:
            return _refused(502, error)
        reached = _Socket(there)
        try:
            duplex = await Upgraded.accept(request, {"Connection": "Upgrade", "Upgrade": "tcp"})
            await relay(duplex, reached)
        finally:
            there.close()
        return duplex.response


@contextlib.asynccontextmanager
async def serving(streaming: Streaming, path: pathlib.Path) -> AsyncIterator[None]:
    """Serve on a Unix socket that only its owner may open, for the time of the block. Raises OSError."""
    listening = _listening(path)
    runner = web.AppRunner(streaming.app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()


def _listening(path: pathlib.Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One that was killed has left its socket; who works on the folder is settled by the node's lock.
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
    finally:
        os.umask(before)
    return made


class _Tunnel:
    """The bytes in the messages of a WebSocket."""

    def __init__(self, socket_: web.WebSocketResponse) -> None:
        self._socket = socket_

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                return b""
            if message.data:
                data: bytes = message.data
                return data

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(data)


class _Socket:
    """The bytes of a connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def read(self) -> bytes:
        return await self._loop.sock_recv(self._socket, CHUNK)

    async def write(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)


def _refused(code: int, error: Exception) -> web.Response:
    return web.Response(status=code, text=f"{error.args[0] if error.args else error}\n")


def _is_true(text: str | None) -> bool:
    return text in ("true", "1")


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isdecimal():
        raise web.HTTPBadRequest(text=f"{text!r} is not a number\n")
    return int(text)
