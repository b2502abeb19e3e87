"""A pod whose traffic a real Envoy takes over, a control plane for it, and a peer that is everybody else.

    netns.run(function, ordinary=...)                   # in the test; `function` then runs in a process of its own
    with network() as wires:                            # in the function
        async with captured_pod(wires, TEXT) as pod:
            answer = await pod.call("10.96.0.1", 9080, "reviews")

The pod's packets are captured as in a cluster, so what is called is an address and a port, and what is said is a Host
header. The peer has every address of the virtual ranges' outside; its backends say their name and what they were asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pathlib
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

import msgspec

from doubles import netns
from doubles.certificates import Authority
from doubles.control_planes import NAME, Ground, control_plane, in_a_pod_with_identity
from doubles.envoy_process import EnvoyProcess, running_envoy
from doubles.meshes import pod as pod_text
from ostria.base import ObjectKey
from ostria.capture import apply as capture_apply
from ostria.capture import marked, plan
from ostria.envoy import bootstrap as boot
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ProxyType

MARK = 1337
POD_ADDRESS, PEER_ADDRESS = "10.1.0.5", "10.1.0.9"
OUTSIDE = "192.0.2.0/24"
"""Addresses of the peer that no object of a mesh declares."""
VIRTUAL = "10.96.0.0/12"
"""Addresses of Services: where nobody answers, the peer refuses."""


class Wires(NamedTuple):
    """The two ends, and a folder that goes with them."""

    pod: netns.Namespace
    peer: netns.Namespace
    folder: pathlib.Path


@contextlib.contextmanager
def network() -> Iterator[Wires]:
    """The calling thread is in the pod's network, whose outgoing connections are captured."""
    pod, peer = netns.pair()
    with peer.entered():
        for networks in (OUTSIDE, VIRTUAL):
            subprocess.run(["ip", "route", "add", "local", networks, "dev", "lo"], check=True)
    with tempfile.TemporaryDirectory(prefix="pod-") as folder, pod.entered():
        capture_apply.apply(plan(msgspec.structs.replace(marked(), mark=MARK)))
        yield Wires(pod, peer, pathlib.Path(folder))


class Answer(NamedTuple):
    """What came back; `status` 0 where the connection ended without an answer."""

    status: int
    body: str = ""


class CapturedPod:
    """The pod `client` of the namespace default, its Envoy, its control plane and its peer."""

    def __init__(self, wires: Wires, text: str, settings: Settings) -> None:
        self.wires = wires
        self.text = text
        self.settings = settings
        self.authority = Authority()
        self.ground: Ground
        self._plane = contextlib.AsyncExitStack()
        self.envoy: EnvoyProcess

    async def start(self) -> None:
        """A control plane; another after it finds the same mesh."""
        text = "\n---\n".join((pod_text("client", POD_ADDRESS, {"app": "client"}), self.text))
        self._plane = contextlib.AsyncExitStack()
        self.ground = await self._plane.enter_async_context(
            control_plane(self.wires.folder, text, self.settings, self.authority)
        )

    async def stop(self) -> None:
        """Leave the pod without a control plane."""
        await self._plane.aclose()

    async def apply(self, text: str) -> None:
        """Change the mesh; returns when Envoy has what follows."""
        await self._changed(lambda: self.ground.source.apply(text))

    async def delete(self, kind: str, name: str) -> None:
        """Take one object away; returns when Envoy has what follows."""
        await self._changed(lambda: self.ground.source.delete(ObjectKey("", kind, "default", name)))

    async def _changed(self, change: Callable[[], object]) -> None:
        istiod = self.ground.istiod
        before = istiod.db.epoch
        change()
        await self.ground.until(lambda: istiod.db.epoch > before)
        await istiod.wait_enforced(istiod.db.epoch)

    @contextlib.asynccontextmanager
    async def proxied(self) -> AsyncIterator[None]:
        """An Envoy, ready."""
        folder = self.wires.folder / "client"
        name = "spiffe://cluster.local/ns/default/sa/default"
        within = in_a_pod_with_identity(folder, self.authority, name)
        # The network is the calling thread's.
        within = tuple(word for word in within if word not in ("--net", "--map-root-user"))
        (folder / "token").write_text("default/default/client")
        (folder / "root.pem").write_bytes(self.authority.issue(NAME).roots)
        files = (str(folder / "token"), str(folder / "root.pem"))
        plane = boot.ControlPlane(f"unix:{self.wires.folder}/xds.sock", NAME, *files)
        proxy = boot.Proxy(ProxyType.SIDECAR, (POD_ADDRESS,), "client", "default")
        async with running_envoy(folder, boot.bootstrap(proxy, plane, mark=MARK), within=within) as self.envoy:
            await self.envoy.wait_ready()
            yield

    async def call(
        self,
        address: str,
        port: int,
        host: str,
        *,
        method: str = "GET",
        path: str = "/",
        body: bytes = b"",
        more: str = "",
    ) -> Answer:
        """One request on a connection of its own."""
        length = f"content-length: {len(body)}\r\n" if body or method == "POST" else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{length}{more}connection: close\r\n\r\n"
        return await self.exchange(address, port, head.encode("latin-1") + body)

    async def exchange(self, address: str, port: int, data: bytes) -> Answer:
        """Send these bytes, and read an HTTP answer up to the end of the connection."""
        try:
            reader, writer = await asyncio.open_connection(address, port)
        except OSError:
            return Answer(0)
        try:
            writer.write(data)
            async with asyncio.timeout(15):
                return await _read(reader)
        except (OSError, asyncio.IncompleteReadError):
            return Answer(0)
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def backend(self, name: str, port: int, address: str = "0.0.0.0") -> AsyncIterator[None]:
        """A server of the peer that says `name HOST METHOD PATH LENGTH DIGEST`, and echoes after an upgrade."""
        with self.wires.peer.entered():
            listener = socket.create_server((address, port), backlog=1024)
        server = await asyncio.start_server(lambda r, w: _serve(name, r, w), sock=listener)
        try:
            yield
        finally:
            server.close()

    async def alive(self) -> bool:
        """Whether Envoy is still there and listens to its control plane."""
        return self.envoy.process.returncode is None and (await self.envoy.admin("/ready")).startswith("LIVE")


async def _read(reader: asyncio.StreamReader) -> Answer:
    """One answer; Envoy ends a connection a second after an answer of its own, which nobody has to wait for."""
    head = "HTTP/1.1 100"
    while head.startswith("HTTP/1.1 100"):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    body = await _body(reader, fields)
    return Answer(int(head.split()[1]), body.decode("latin-1"))


async def _serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            if fields.get("expect") == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if "upgrade" in fields:
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                while data := await reader.read(65536):
                    writer.write(data)
                break
            body = await _body(reader, fields)
            if path.startswith("/slow"):
                await asyncio.sleep(0.3)
            digest = hashlib.sha256(body).hexdigest()[:8] if body else "-"
            said = f"{name} {fields['host']} {method} {path} {len(body)} {digest}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(said), said))
            await writer.drain()
            if fields.get("connection") == "close":
                break
    writer.close()


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    body = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    return body


@contextlib.asynccontextmanager
async def captured_pod(
    wires: Wires, text: str, settings: Settings, *, seconds: float = 50
) -> AsyncIterator[CapturedPod]:
    """A mesh of these objects and the pod in it; `settings` get the mark."""
    pod = CapturedPod(wires, text, settings._replace(socket_mark=MARK))
    async with asyncio.timeout(seconds):
        await pod.start()
        try:
            async with pod.proxied():
                yield pod
        finally:
            await pod.stop()
