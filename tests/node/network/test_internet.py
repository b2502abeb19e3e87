"""The way out to addresses that are not the host's loopback, on a host that the test has to itself."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import pathlib
import socket
import struct

from doubles import netns
from doubles.node_network import running_network
from ostria.capture.netlink import CREATE, Message, attribute
from ostria.node.network.netlink import Netlink

# Addresses for documentation (RFC 5737, RFC 3849): what is on the loopback of this host plays the internet.
INTERNET = ("203.0.113.7", "2001:db8::7")
# A cloud's metadata service, and one of the host's link-local addresses.
METADATA = "169.254.169.254"
PORT = 8080


def have(address: str) -> None:
    """Give the loopback of this process's network an address."""
    parsed = ipaddress.ip_address(address)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    header = struct.pack("=BBBBI", family, parsed.max_prefixlen, 0x02 if parsed.version == 6 else 0, 0, 1)
    body = header + attribute(1, parsed.packed) + attribute(2, parsed.packed)
    with Netlink(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)) as route:
        route.send([Message(20, CREATE, body, address)])


def call_out(folder: str, rootless: bool) -> dict[str, str]:
    """What a pod hears from each address when the host's server listens on all of them."""
    for address in (*INTERNET, METADATA):
        have(address)

    async def run() -> dict[str, str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{writer.get_extra_info('sockname')[0]}".encode())
            with contextlib.closing(writer):
                await writer.drain()

        async with (
            await asyncio.start_server(answer, ["0.0.0.0", "::"], PORT),
            running_network(pathlib.Path(folder), rootless=rootless) as world,
        ):
            pod = await world.pod("default/a")
            heard = {
                address: await pod.call(address, PORT) for address in (*INTERNET, METADATA, "127.0.0.1", "fe80::1")
            }
            # The forwarder itself is no address to call: it would only be led to itself.
            heard["forwarder"] = await pod.call(str(world.network.plan.gateway[0]), 15100)
            with pod.socket(INTERNET[0], socket.SOCK_DGRAM) as made:
                try:
                    await asyncio.get_running_loop().sock_connect(made, (INTERNET[0], PORT))
                    await asyncio.get_running_loop().sock_sendall(made, b"udp")
                    async with asyncio.timeout(10):
                        heard["udp"] = repr(await asyncio.get_running_loop().sock_recv(made, 10))
                except OSError as error:
                    heard["udp"] = type(error).__name__ if error.errno is None else os.strerror(error.errno).lower()
            return heard

    return asyncio.run(run())


def test_pods_reach_the_internet_and_neither_metadata_nor_loopback(tmp_path: pathlib.Path, rootless: bool) -> None:
    heard = netns.run(call_out, str(tmp_path), rootless, ordinary=os.geteuid() != 0)
    assert heard == {
        **{address: address for address in INTERNET},
        METADATA: "connection refused",
        "127.0.0.1": "connection refused",
        "fe80::1": heard["fe80::1"],
        "forwarder": "connection reset by peer",
        "udp": "connection refused",
    }
    assert heard["fe80::1"] in ("invalid argument", "connection refused", "network is unreachable")
