"""The ways out and in, and names, through the resident process: what is let through, and that it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from doubles.node_network import Pod, World, running_network, slices_of, web, written
from ostria.node.network import dns_message as wire
from ostria.node.network.inbound import Exposure, PortTaken
from ostria.node.network.network import Network
from ostria.node.network.services import Service

GONE = "connection reset by peer"


@contextlib.asynccontextmanager
async def host_server(address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """A server of the host that repeats what it is told until the caller has no more to say, and then says goodbye."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.write(b"goodbye")
            await writer.drain()

    async with await asyncio.start_server(answer, address, port) as server:
        yield server.sockets[0].getsockname()[1]


async def say(pod: Pod, address: str, port: int, data: bytes) -> bytes:
    """Send, end our half, and read the rest."""
    reader, writer = await pod.open(address, port)
    with contextlib.closing(writer):
        writer.write(data)
        writer.write_eof()
        return await reader.read()


async def test_the_hosts_loopback_is_reached_only_where_it_is_allowed(tmp_path: pathlib.Path, rootless: bool) -> None:
    async with host_server() as port:
        async with running_network(tmp_path / "open", rootless=rootless, allow_host=True) as world:
            pod = await world.pod("default/a")
            for kind in (wire.A, wire.AAAA):
                (address,) = await pod.look_up("host.ostria.internal", kind)
                assert await say(pod, address, port, b"hello ") == b"hello goodbye"
            # A refusal outside is a reset inside; and what is not the host's is not let through by its name.
            assert await pod.call(address, 1) == GONE
            assert await pod.call("127.0.0.1", port) == "connection refused"
        async with running_network(tmp_path / "closed", rootless=rootless) as world:
            pod = await world.pod("default/a")
            assert await pod.look_up("host.ostria.internal") == ["NXDOMAIN"]
            for host in world.network.plan.host:
                assert await pod.call(str(host), port) == "connection refused"


async def test_a_large_transfer_arrives_whole(tmp_path: pathlib.Path, rootless: bool) -> None:
    async with host_server() as port, running_network(tmp_path, rootless=rootless, allow_host=True) as world:
        pod = await world.pod("default/a")
        data = os.urandom(1 << 20) * 8
        reader, writer = await pod.open(str(world.network.plan.host[0]), port)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            received = tasks.create_task(reader.read())
        assert received.result() == data + b"goodbye"
        writer.close()


async def test_node_ports_are_on_the_hosts_loopbacks(world: World) -> None:
    a = await world.pod("default/a")
    await a.serve(8000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        preferred = taken.getsockname()[1]
        await world.network.update([web("web", [a], node_port=preferred)], slices_of("web", [a]))
    port = world.network.ports["default/web:80"]
    # Another has it: the next free one is taken, and said.
    assert port > preferred
    gateway = world.network.plan.gateway[0]
    for loopback in ("127.0.0.1", "::1"):
        reader, writer = await asyncio.open_connection(loopback, port)
        assert await reader.read() == f"default/a saw {gateway}".encode()
        writer.close()
    # It is the same after the Service was gone, though the preferred one has become free.
    await world.network.update([], [])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await world.network.update([web("web", [a], node_port=preferred)], slices_of("web", [a]))
    assert world.network.ports["default/web:80"] == port
    # Another wish is another matter.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        wish = free.getsockname()[1]
    await world.network.update([web("web", [a], node_port=wish)], slices_of("web", [a]))
    assert world.network.ports["default/web:80"] == wish


async def test_exposed_ports_tell_the_client_by_proxy_protocol_and_may_be_strict(world: World) -> None:
    a = await world.pod("default/a")
    loop = asyncio.get_running_loop()
    listener = a.socket("0.0.0.0")
    listener.bind(("0.0.0.0", 8443))
    listener.listen()
    port = await world.network.expose(Exposure("gateway", 28080, a.v4, 8443, proxy_protocol=True))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    client = writer.get_extra_info("sockname")
    inside, _ = await loop.sock_accept(listener)
    inside.settimeout(0)
    assert await loop.sock_recv(inside, 200) == f"PROXY TCP4 127.0.0.1 127.0.0.1 {client[1]} {port}\r\n".encode()
    inside.close()
    writer.close()
    listener.close()
    with pytest.raises(PortTaken, match=str(port)):
        await world.network.expose(Exposure("other", port, a.v4, 8443, strict=True))
    await world.network.withdraw("gateway")
    assert "gateway" not in world.network.ports


class Upstream(asyncio.DatagramProtocol):
    """A resolver of the host: knows one name, says no to others, and counts; over UDP it truncates what is `big.`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(self.answer(data, stream=False), address)

    def answer(self, data: bytes, *, stream: bool) -> bytes:
        question = wire.parse_question(data)
        self.asked.append(question.name)
        if question.name == "www.example.org" and question.kind == wire.A:
            return wire.build_answer(question, 0, [wire.Record(question.name, wire.A, 60, bytes([203, 0, 113, 7]))])
        if question.name == "big.example.org":
            records = [wire.Record(question.name, wire.A, 60, bytes([10, 0, 0, n])) for n in range(90)]
            answer = wire.build_answer(question, 0, records)
            return answer if stream else wire.fit(question, answer)
        return wire.build_answer(question, wire.NAME_ERROR)


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[tuple[Upstream, int]]:
    made = Upstream()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        told = made.answer(data, stream=True)
        writer.write(len(told).to_bytes(2, "big") + told)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield made, port
        transport.close()


async def test_names_are_answered_inside_and_others_asked_of_the_host(tmp_path: pathlib.Path, rootless: bool) -> None:
    async with (
        upstream() as (resolver, port),
        running_network(tmp_path, rootless=rootless, resolvers=(("127.0.0.1", port),)) as world,
    ):
        a = await world.pod("default/a")
        out = Service("default", "out", external_name="www.example.org")
        await world.network.update([web("web", [a]), out], slices_of("web", [a]))
        domain = "default.svc.cluster.local"
        assert await a.look_up(f"web.{domain}") == ["10.96.0.50"]
        assert await a.look_up(f"WEB.{domain}", wire.AAAA) == ["fd00:10:96::50"]
        assert await a.look_up(f"nobody.{domain}") == ["NXDOMAIN"]
        assert resolver.asked == []
        # What the host knows is asked for once, and kept.
        assert await a.look_up("www.example.org") == ["203.0.113.7"]
        assert await a.look_up("www.example.org") == ["203.0.113.7"]
        assert await a.look_up("nobody.example.org") == ["NXDOMAIN"]
        assert resolver.asked == ["www.example.org", "nobody.example.org"]
        # An alias comes with what it leads to.
        assert await a.look_up(f"out.{domain}") == ["www.example.org", "203.0.113.7"]
        # What is too large for a datagram is asked for again by stream, on both sides.
        assert wire.is_truncated(await a.ask("big.example.org"))
        assert not wire.is_truncated(await a.ask("big.example.org", size=4096, stream=True))
        whole = await a.ask("big.example.org", stream=True)
        assert len(wire.addresses_in(whole)) == 90
        assert written(wire.addresses_in(whole)[7]) == "10.0.0.7"


async def test_a_silent_resolver_is_a_server_failure(tmp_path: pathlib.Path, rootless: bool) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        resolvers = (("127.0.0.1", nobody.getsockname()[1]),)
        async with running_network(tmp_path, rootless=rootless, resolvers=resolvers) as world:
            a = await world.pod("default/a")
            assert await a.look_up("www.example.org") == ["SERVFAIL"]
            assert await a.look_up("web.default.svc.cluster.local") == ["NXDOMAIN"]


def resident_of(folder: pathlib.Path) -> int:
    """The resident's process, as its socket names it."""
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(str(folder / "network.sock"))
        return int(struct.unpack("3i", made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


async def test_the_next_node_finds_all_as_it_was(tmp_path: pathlib.Path, rootless: bool) -> None:
    """What a SIGKILL of the node leaves is what leaving the block leaves: nothing in it is told to anybody."""
    async with running_network(tmp_path, rootless=rootless) as world:
        a, b = await world.pod("default/a"), await world.pod("default/b")
        await b.serve(8000)
        services, slices = [web("web", [b], node_port=28200)], slices_of("web", [b])
        await world.network.update(services, slices)
        port = world.network.ports["default/web:80"]
        process = resident_of(world.folder)
        settings = world.network._settings
        world.network._close()
        # Without a node, all goes on.
        assert await a.look_up("web.default.svc.cluster.local") == ["10.96.0.50"]
        assert "default/b" in await a.call("10.96.0.50", 80)
        async with Network.create(
            world.folder, world.namespaces, settings.plan, resolvers=settings.resolvers
        ) as world.network:
            assert resident_of(world.folder) == process
            assert await world.network.attach("default/a", a.fd) == a.addresses
            # Before it has been told, and after.
            assert "default/b" in await a.call("10.96.0.50", 80)
            await world.network.update(services, slices)
            assert "default/b" in await a.call("10.96.0.50", 80)
            assert world.network.ports == {"default/web:80": port}
            await world.network.update([], [])
            assert await a.call("10.96.0.50", 80) == "connection refused"
            assert await a.look_up("web.default.svc.cluster.local") == ["NXDOMAIN"]


async def test_a_killed_resident_is_started_again_and_told_everything(world: World) -> None:
    a, b = await world.pod("default/a"), await world.pod("default/b")
    await b.serve(8000)
    await world.network.update([web("web", [b])], slices_of("web", [b]))
    before = resident_of(world.folder)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(world.network.keep())
        await asyncio.sleep(0)
        os.kill(before, signal.SIGKILL)
        # Connections between pods are the kernel's: nobody notices.
        assert "default/b" in await a.call("10.96.0.50", 80)
        found: list[str] = []
        while found != ["10.96.0.50"]:
            with contextlib.suppress(OSError, TimeoutError):
                found = await a.look_up("web.default.svc.cluster.local", bound=0.5)
        assert resident_of(world.folder) != before
        keeping.cancel()
