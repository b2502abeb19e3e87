"""Real packets between pods, and to virtual addresses: who answers, how it is spread, and what is refused at once."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket

import pytest

from doubles.node_network import Pod, World, slices_of, web
from ostria.node.network.services import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort

VIPS = ("10.96.0.50", "fd00:10:96::50")


async def two_pods(world: World) -> tuple[Pod, Pod]:
    return await world.pod("default/a"), await world.pod("default/b")


async def test_pods_reach_each_other_and_see_who_calls(world: World) -> None:
    a, b = await two_pods(world)
    await b.serve(8000)
    assert await a.call(b.v4, 8000) == f"default/b saw {a.v4}"
    assert await a.call(b.v6, 8000) == f"default/b saw {a.v6}"
    assert await b.call(b.v4, 8000) == f"default/b saw {b.v4}"


async def test_a_virtual_address_leads_to_a_pod_that_sees_the_client(world: World) -> None:
    a, b = await two_pods(world)
    await b.serve(8000)
    await world.network.update([web("web", [b])], slices_of("web", [b]))
    assert [await a.call(vip, 80) for vip in VIPS] == [f"default/b saw {a.v4}", f"default/b saw {a.v6}"]


async def test_ten_endpoints_share_the_connections(world: World) -> None:
    client = await world.pod("default/client")
    pods = [await world.pod(f"default/p{number}") for number in range(10)]
    for pod in pods:
        await pod.serve(8000)
    await world.network.update([web("web", pods)], slices_of("web", pods))
    for vip in VIPS:
        seen = collections.Counter([(await client.call(vip, 80)).split()[0] for _ in range(200)])
        # 20 each on average; that one of ten gets fewer than 5 has a chance below one in ten thousand.
        assert set(seen) == {pod.key for pod in pods}
        assert min(seen.values()) >= 4


async def test_affinity_leads_a_client_to_one_endpoint_that_stays_when_another_goes(world: World) -> None:
    clients = [await world.pod(f"default/c{number}") for number in range(4)]
    pods = [await world.pod(f"default/p{number}") for number in range(3)]
    for pod in pods:
        await pod.serve(8000)

    async def who(left: list[Pod]) -> list[str]:
        await world.network.update([web("web", left, affinity=True)], slices_of("web", left))
        answers = []
        for client in clients:
            found = {(await client.call(vip, 80)).split()[0] for vip in VIPS[:1] for _ in range(5)}
            assert len(found) == 1, "every connection goes to the same endpoint"
            answers.append(found.pop())
        return answers

    before = await who(pods)
    after = await who(pods[1:])
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "default/p0")
    assert "default/p0" not in after


async def test_without_ready_endpoints_a_virtual_address_refuses_at_once(world: World) -> None:
    a, b = await two_pods(world)
    await b.serve(8000)
    await world.network.update([web("web", [b])], slices_of("web", [b], ready=False))
    for vip in VIPS:
        assert await a.call(vip, 80) == "connection refused"
    # So do an address that nobody has, and a port that the Service does not have.
    await world.network.update([web("web", [b])], slices_of("web", [b]))
    for address in ("10.96.7.7", "fd00:10:96::77"):
        assert await a.call(address, 80) == "connection refused"
    for vip in VIPS:
        assert await a.call(vip, 81) == "connection refused"
        assert "default/b" in await a.call(vip, 80)
    await world.network.update([], [])
    assert await a.call(VIPS[0], 80) == "connection refused"


async def test_endpoints_that_end_serve_when_no_other_is_left(world: World) -> None:
    a, b = await two_pods(world)
    await b.serve(8000)
    await world.network.update([web("web", [b])], slices_of("web", [b], ready=False, serving=True, terminating=True))
    assert "default/b" in await a.call(VIPS[0], 80)


async def test_a_pod_reaches_itself_through_its_virtual_address(world: World) -> None:
    a = await world.pod("default/a")
    await a.serve(8000)
    await world.network.update([web("web", [a])], slices_of("web", [a]))
    gateways = world.network.plan.gateway
    assert [await a.call(vip, 80) for vip in VIPS] == [f"default/a saw {gateway}" for gateway in gateways]


async def test_a_connection_outlives_a_change_of_its_service(world: World) -> None:
    a, b = await two_pods(world)
    await b.serve(8000)
    echo = b.socket("0.0.0.0")
    echo.bind(("0.0.0.0", 9000))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while line := await reader.readline():
                writer.write(line.upper())

    server = await asyncio.start_server(answer, sock=echo)
    service = Service("default", "echo", ("10.96.0.60",), ports=(ServicePort(9000, "tcp"),))
    slices = [EndpointSlice("default", "echo-4", "echo", (EndpointPort(9000, "tcp"),), (Endpoint((b.v4,)),))]
    await world.network.update([service], slices)
    reader, writer = await a.open("10.96.0.60", 9000)
    await world.network.update([], [])
    writer.write(b"still here\n")
    assert await reader.readline() == b"STILL HERE\n"
    writer.close()
    server.close()


async def test_udp_goes_to_endpoints_too(world: World) -> None:
    a, b = await two_pods(world)
    loop = asyncio.get_running_loop()
    service = Service("default", "u", ("10.96.0.70",), ports=(ServicePort(53, "dns", "UDP"),))
    slices = [EndpointSlice("default", "u-4", "u", (EndpointPort(5353, "dns", "UDP"),), (Endpoint((b.v4,)),))]
    await world.network.update([service], slices)
    with b.socket("0.0.0.0", socket.SOCK_DGRAM) as server, a.socket("0.0.0.0", socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 5353))
        await loop.sock_connect(client, ("10.96.0.70", 53))
        await loop.sock_sendall(client, b"ask")
        data, peer = await loop.sock_recvfrom(server, 100)
        assert (data, peer[0]) == (b"ask", a.v4)
        await loop.sock_sendto(server, b"answer", peer)
        assert await loop.sock_recv(client, 100) == b"answer"
        # A client that goes on asking is led to the endpoint that has taken the place of the first.
        slices = [EndpointSlice("default", "u-4", "u", (EndpointPort(5353, "dns", "UDP"),), (Endpoint((a.v4,)),))]
        with a.socket("0.0.0.0", socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 5353))
            await world.network.update([service], slices)
            await loop.sock_sendall(client, b"again")
            assert (await loop.sock_recvfrom(other, 100))[0] == b"again"


@pytest.mark.parametrize("address", ["169.254.169.254", "10.244.9.9", "fe80::1"])
async def test_nobody_is_led_to_addresses_that_are_not_there(world: World, address: str) -> None:
    a = await world.pod("default/a")
    assert await a.call(address, 80) in (
        "connection refused",
        "no route to host",
        "network is unreachable",
        "invalid argument",
    )


async def test_addresses_are_kept_and_come_back(world: World) -> None:
    a, b = await two_pods(world)
    again = await world.network.attach("default/a", a.fd)
    assert again == a.addresses
    await world.network.detach("default/a")
    await world.network.detach("default/a")
    c = await world.pod("default/c")
    assert c.addresses.number not in (a.addresses.number, b.addresses.number)
    assert set(world.network.pods()) == {"default/b", "default/c"}


async def test_an_attempt_that_failed_can_be_made_again_or_taken_back(world: World) -> None:
    with pytest.raises(OSError, match=r"."):
        await world.network.attach("default/a", -1)
    a = await world.pod("default/a")
    await a.serve(8000)
    await world.network.update([web("web", [a])], slices_of("web", [a]))
    assert "default/a" in await a.call(VIPS[0], 80)
    with pytest.raises(OSError, match=r"."):
        await world.network.attach("default/b", -1)
    await world.network.detach("default/b")
    assert set(world.network.pods()) == {"default/a"}


async def test_processes_outside_reach_in_and_are_reached(world: World) -> None:
    a, b = await two_pods(world)
    await b.serve(8000)
    await world.network.update([web("web", [b])], slices_of("web", [b]))
    for target, port in (("default/b", 8000), (b.v6, 8000), (VIPS[0], 80)):
        with await world.network.connect(target, port) as made:
            assert (await asyncio.get_running_loop().sock_recv(made, 100)).startswith(b"default/b saw ")
    with pytest.raises(ConnectionRefusedError):
        await world.network.connect("default/a", 8000)
    # The API server listens in there, and is the endpoint of a Service like any other.
    listener = world.network.listen(6443)
    api = Service("default", "kubernetes", ("10.96.0.1",), ports=(ServicePort(443, "https"),))
    at_gateway = (Endpoint((str(world.network.plan.gateway[0]),)),)
    slices = [EndpointSlice("default", "kubernetes", "kubernetes", (EndpointPort(6443, "https"),), at_gateway)]
    await world.network.update([api], slices)
    reader, writer = await a.open("10.96.0.1", 443)
    accepted, peer = await asyncio.get_running_loop().sock_accept(listener)
    assert peer[0] == a.v4
    accepted.close()
    assert await reader.read() == b""
    writer.close()
    listener.close()
