"""What the host must not notice, and what a machine's worth of pods costs."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import time

from doubles.node_network import Pod, World, running_network, slices_of, web
from ostria.capture.netlink import Message
from ostria.node.network.balancer import list_tables
from ostria.node.network.netlink import Netlink
from ostria.node.network.services import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort


def host_network() -> dict[str, object]:
    """The links, addresses, routes and tables of packet rules of the namespace that the test runs in."""
    found: dict[str, object] = {}
    requests = {"links": 18, "addresses": 22, "routes": 26, "rules": 34}
    with Netlink(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) as route:
        for name, kind in requests.items():
            bodies = route.dump(Message(kind, 0, bytes(16), name))
            # A link's answer holds counters; its index, flags and name stand before them.
            found[name] = sorted(body[:8] if name == "links" else _without_cache(name, body) for body in bodies)
    if os.geteuid() == 0:
        with Netlink(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)) as rules:
            found["tables"] = sorted(rules.dump(list_tables()))
    found["forwarding"] = [
        pathlib.Path(f"/proc/sys/net/{path}").read_text()
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/ip_unprivileged_port_start")
    ]
    return found


def _without_cache(name: str, body: bytes) -> bytes:
    """Without the lifetimes and last uses that the kernel counts."""
    return body[: {"addresses": 16, "routes": 28, "rules": 12}[name]]


async def test_the_hosts_own_network_is_the_same_before_during_and_after(
    tmp_path: pathlib.Path, rootless: bool
) -> None:
    before = host_network()
    async with running_network(tmp_path, rootless=rootless) as world:
        a, b = await world.pod("default/a"), await world.pod("default/b")
        await b.serve(8000)
        await world.network.update([web("web", [b], node_port=28300)], slices_of("web", [b]))
        assert "default/b" in await a.call("10.96.0.50", 80)
        assert host_network() == before
    assert host_network() == before


async def test_nothing_is_left_when_it_is_taken_down(tmp_path: pathlib.Path, rootless: bool) -> None:
    async with running_network(tmp_path, rootless=rootless) as world:
        await world.pod("default/a")
        folder, zygote = world.folder, world.namespaces.folder
    assert [path.name for path in folder.iterdir()] == []
    assert [path.name for path in zygote.iterdir()] == []
    mentioned = [
        command
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline")
        if (command := _read(entry)) and str(tmp_path).encode() in command
    ]
    assert mentioned == []


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_fifty_pods_are_attached(world: World) -> None:
    pods = [Pod(world, f"default/p{number}") for number in range(50)]
    world.pods.update({pod.key: pod for pod in pods})
    start = time.perf_counter()
    for pod in pods:
        pod.addresses = await world.network.attach(pod.key, pod.fd)
    seconds = time.perf_counter() - start
    print(f"\nattach: {1000 * seconds / len(pods):.2f} ms a pod")
    await pods[49].serve(8000)
    assert "default/p49" in await pods[0].call(pods[49].v4, 8000)


async def test_a_change_costs_what_it_changes(world: World) -> None:
    """The kernel is sent as much for one of 1,000 Services as for one of ten."""
    sent: list[int] = []
    commit = world.network._filter.commit

    def counted(messages: list[Message]) -> None:
        sent.append(sum(len(message.body) for message in messages))
        commit(messages)

    world.network._filter.commit = counted  # type: ignore[method-assign,assignment]
    seconds = {}
    for size in (10, 1000):
        services, slices = many(size)
        start = time.perf_counter()
        await world.network.update(services, slices)
        whole = time.perf_counter() - start
        changed = slices[5].endpoints[1:]
        slices[5] = EndpointSlice("default", "s5-4", "s5", slices[5].ports, changed)
        sent.clear()
        start = time.perf_counter()
        await world.network.update(services, slices)
        seconds[size] = (whole, time.perf_counter() - start, sum(sent))
    for size, (whole, one, size_of_one) in seconds.items():
        print(f"\n{size} services: all {1000 * whole:.0f} ms, one change {1000 * one:.1f} ms, {size_of_one} bytes")
    assert seconds[10][2] == seconds[1000][2]


def many(size: int) -> tuple[list[Service], list[EndpointSlice]]:
    services, slices = [], []
    for number in range(size):
        address = f"10.97.{number // 250}.{number % 250 + 1}"
        services.append(Service("default", f"s{number}", (address,), ports=(ServicePort(80, "http"),)))
        endpoints = tuple(Endpoint((f"10.244.{number // 250}.{place}",)) for place in range(10, 15))
        ports = (EndpointPort(8000, "http"),)
        slices.append(EndpointSlice("default", f"s{number}-4", f"s{number}", ports, endpoints))
    return services, slices


async def test_the_way_out_is_measured(tmp_path: pathlib.Path, rootless: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 18):
            if len(data) < 100:
                writer.write(data)
        writer.close()

    async with (
        await asyncio.start_server(answer, "127.0.0.1", 0) as server,
        running_network(tmp_path, rootless=rootless, allow_host=True) as world,
    ):
        port = server.sockets[0].getsockname()[1]
        a = await world.pod("default/a")
        reader, writer = await a.open(str(world.network.plan.host[0]), port)
        times = []
        for _ in range(300):
            start = time.perf_counter()
            writer.write(b"ping")
            await reader.readexactly(4)
            times.append(time.perf_counter() - start)
        chunk = bytes(1 << 18)
        start = time.perf_counter()
        for _ in range(400):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        await reader.read()
        seconds = time.perf_counter() - start
        writer.close()
        middle = sorted(times)[150]
        print(f"\nrelay: round trip {1e6 * middle:.0f} us p50, {400 * len(chunk) / seconds / 1e6:.0f} MB/s")
