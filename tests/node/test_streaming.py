"""The node's socket: what an API server passes on for kubectl, over a real node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, ClientWebSocketResponse, UnixConnector, WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from doubles.node_world import RunningNode
from doubles.spdy_client import SpdyClient
from ostria.base.clock import SystemClock
from ostria.node import spdy
from ostria.node.streaming import Streaming, serving

SLEEPER = """
metadata: {name: a}
spec: {containers: [{name: app, image: x, command: [sh, -c, "echo one; echo two; sleep 1000"]}]}
"""
ECHO = """
import socket, threading
def serve(c):
    while data := c.recv(99): c.sendall(data.upper())
    c.sendall(b"bye"); c.close()
s = socket.create_server(("127.0.0.1", 7))
print("up", flush=True)
while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()
"""


class OfLoopback:
    """A pods' network in which every address is the loopback."""

    async def connect(self, host: str, port: int) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return sock


class Asker:
    """An API server's side of the socket."""

    def __init__(self, session: ClientSession, path: pathlib.Path, node: RunningNode) -> None:
        self.session = session
        self.path = path
        self.node = node

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://node{path}") as answer:
            return answer.status, await answer.text()

    async def exec(self, query: str, *, protocol: str = "v5.channel.k8s.io") -> ClientWebSocketResponse:
        return await self.session.ws_connect(f"http://node/exec/default/a/app?{query}", protocols=[protocol])

    async def raw(
        self, path: str, headers: Mapping[str, str]
    ) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        writer.write(f"POST {path} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n{lines}\r\n".encode())
        return (await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer


@pytest.fixture
async def asker(running: RunningNode, tmp_path: pathlib.Path) -> AsyncIterator[Asker]:
    path = tmp_path / "n.sock"
    streaming = Streaming(running.node, OfLoopback(), SystemClock())  # type: ignore[arg-type]
    async with serving(streaming, path), ClientSession(connector=UnixConnector(str(path))) as session:
        yield Asker(session, path, running)


async def outcome(ws: ClientWebSocketResponse) -> tuple[bytes, bytes, dict[str, Any]]:
    """stdout, stderr and the Status at the end."""
    channels = {1: b"", 2: b"", 3: b""}
    async for message in ws:
        assert message.type is WSMsgType.BINARY
        channels[message.data[0]] += message.data[1:]
    return channels[1], channels[2], json.loads(channels[3])


async def test_the_socket_is_its_owners_alone(asker: Asker) -> None:
    assert asker.path.stat().st_mode & 0o777 == 0o600


async def test_logs_are_cut_as_is_asked(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    path = "/containerLogs/default/a/app"
    while (await asker.get(path))[1] != "one\ntwo\n":
        await asyncio.sleep(0.01)
    assert await asker.get(f"{path}?tailLines=1") == (200, "two\n")
    assert await asker.get(f"{path}?tailLines=0") == (200, "")
    assert await asker.get(f"{path}?limitBytes=5") == (200, "one\nt")
    assert await asker.get(f"{path}?sinceTime=2999-01-01T00:00:00Z") == (200, "")
    assert (await asker.get(f"{path}?timestamps=true"))[1].count("Z ") == 2
    assert (await asker.get(f"{path}?tailLines=x"))[0] == 400
    assert (await asker.get(f"{path}?previous=true"))[0] == 404
    assert (await asker.get("/containerLogs/default/a/other"))[0] == 404


async def test_exec_tells_output_and_exit_code(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    ws = await asker.exec("command=sh&command=-c&command=echo+out;+echo+err+>%262;+exit+3&stdout=true&stderr=true")
    out, err, status = await outcome(ws)
    assert (out, err) == (b"out\n", b"err\n")
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    out, _, status = await outcome(
        await asker.exec("command=echo&command=hi&stdout=true", protocol="v4.channel.k8s.io")
    )
    assert (out, status["status"]) == (b"hi\n", "Success")


async def test_exec_reads_stdin_to_its_end(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    ws = await asker.exec("command=wc&command=-c&stdin=true&stdout=true")
    # More than a pipe holds: writers and readers must wait for each other.
    for _ in range(8):
        await ws.send_bytes(b"\0" + b"x" * 100_000)
    await ws.send_bytes(b"\xff\0")
    assert (await outcome(ws))[0].strip() == b"800000"


async def test_exec_on_a_terminal_knows_its_size(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    ws = await asker.exec(
        "command=sh&command=-c&command=read+x;+stty+size;+echo+got+$x&stdin=true&stdout=true&tty=true"
    )
    await ws.send_bytes(b'\4{"Width":44,"Height":33}')
    await ws.send_bytes(b"\0hello\n")
    out, _, status = await outcome(ws)
    assert out.replace(b"\r\n", b"\n") == b"hello\n33 44\ngot hello\n"
    assert status["status"] == "Success"


async def test_a_program_whose_client_goes_is_killed(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    ws = await asker.exec("command=sleep&command=1003&stdout=true")
    listing = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    while "1003" not in (await asker.node.exec("a", "app", *listing))[1]:
        await asyncio.sleep(0.01)
    await ws.close()
    while "1003" in (await asker.node.exec("a", "app", *listing))[1]:
        await asyncio.sleep(0.01)


async def test_the_end_of_a_pod_ends_its_programs_and_is_told(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    ws = await asker.exec("command=sleep&command=1004&stdout=true")
    asker.node.world.delete("a", 0)
    assert (await outcome(ws))[2]["status"] == "Failure"


async def test_what_cannot_be_run_is_refused_in_words(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    head, reader, writer = await asker.raw("/exec/default/a/none?command=ls", headers)
    assert " 500 " in head.splitlines()[0]
    assert b"none" in await reader.read(200)
    writer.close()
    assert (await asker.get("/exec/default/a/app?command=ls"))[0] == 400


async def test_exec_over_spdy(asker: Asker) -> None:
    asker.node.world.put(SLEEPER)
    await asker.node.world.until_ready("a")
    path = "/exec/default/a/app?command=sh&command=-c&command=cat;exit+5&stdin=true&stdout=true"
    offered = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v5.channel.k8s.io, v4.channel.k8s.io"}
    head, reader, writer = await asker.raw(path, offered)
    assert head.startswith("HTTP/1.1 101")
    assert "X-Stream-Protocol-Version: v4.channel.k8s.io" in head
    client = spoken(reader, writer)
    error, stdin, stdout = [await client.open({"streamType": kind}) for kind in ("error", "stdin", "stdout")]
    await client.send(stdin, b"through", end=True)
    await client.until(lambda: error in client.ended)
    assert client.received[stdout] == b"through"
    assert json.loads(client.received[error])["details"]["causes"][0]["message"] == "5"
    writer.close()


def spoken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> SpdyClient:
    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return SpdyClient(send, lambda: reader.read(65536))


@contextlib.asynccontextmanager
async def forwarding(asker: Asker, manner: str) -> AsyncIterator[SpdyClient]:
    """A port-forward as kubectl 1.30 (spdy), or later (websocket), opens it."""
    if manner == "spdy":
        headers = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "portforward.k8s.io"}
        head, reader, writer = await asker.raw("/portForward/default/a", headers)
        assert "X-Stream-Protocol-Version: portforward.k8s.io" in head
        yield spoken(reader, writer)
        writer.close()
        return
    url = "http://node/portForward/default/a"
    async with asker.session.ws_connect(url, protocols=["SPDY/3.1+portforward.k8s.io"]) as ws:
        yield SpdyClient(ws.send_bytes, ws.receive_bytes)


@pytest.mark.parametrize("manner", ["spdy", "websocket"])
async def test_many_connections_go_through_one_port_forward(asker: Asker, manner: str) -> None:
    pod = {"containers": [{"name": "app", "image": "x", "command": [sys.executable, "-c", ECHO]}]}
    asker.node.world.put(yaml.safe_dump({"metadata": {"name": "a"}, "spec": pod}))
    await asker.node.world.until_ready("a")
    while not (await asker.get("/containerLogs/default/a/app"))[1]:
        await asyncio.sleep(0.01)
    async with forwarding(asker, manner) as client:
        pairs = []
        for number in range(3):
            about = {"port": "7", "requestID": str(number)}
            error = await client.open({"streamType": "error", **about}, end=True)
            pairs.append((error, await client.open({"streamType": "data", **about})))
        await client.ping()
        for number, (_, data) in enumerate(pairs):
            await client.send(data, b"hi %d" % number)
        await client.until(lambda: all(client.received[data] for _, data in pairs))
        assert [client.received[data] for _, data in pairs] == [b"HI 0", b"HI 1", b"HI 2"]
        assert client.pongs == [b"\0\0\0\1"]
        error, data = pairs[0]
        await client.send(data, b"", end=True)
        await client.until(lambda: {error, data} <= client.ended)
        assert (client.received[error], client.received[data]) == (b"", b"HI 0bye")
        await client.reset(pairs[1][1])
        await client.send(pairs[2][1], b"still")
        await client.until(lambda: client.received[pairs[2][1]] == b"HI 2STILL")
        about = {"port": "8", "requestID": "9"}
        error = await client.open({"streamType": "error", **about}, end=True)
        await client.open({"streamType": "data", **about})
        await client.until(lambda: error in client.ended)
        assert b"8" in client.received[error]


async def test_a_connection_into_the_pods_network(asker: Asker) -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        head, reader, writer = await asker.raw(f"/connect/10.1.2.3/{port}", {"Upgrade": "tcp"})
        # The route is for GET, as all that asks and changes nothing.
        assert " 405 " in head.splitlines()[0]
        writer.close()
        reader, writer = await asyncio.open_unix_connection(asker.path)
        line = f"GET /connect/10.1.2.3/{port} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        writer.write(line.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        big = os.urandom(1 << 20).hex().encode()
        writer.write(big)
        async with asyncio.timeout(20):
            assert await reader.readexactly(len(big)) == big.upper()
        writer.close()
    assert (await asker.get("/connect/10.1.2.3/1"))[0] == 400
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    reader, writer = await asyncio.open_unix_connection(asker.path)
    writer.write(f"GET /connect/h/{port} HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    assert b" 502 " in await reader.readline()
    writer.close()


@given(st.binary(max_size=200))
def test_no_bytes_bring_spdy_down(data: bytes) -> None:
    with contextlib.suppress(spdy.ProtocolError):
        list(spdy.Connection().receive(data))
