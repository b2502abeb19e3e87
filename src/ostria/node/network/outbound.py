"""The way out: TCP that leaves the pods' ranges is bent to here, and goes on from the host's own network.

    pod -> packet rule -> listener inside -> the address that the pod meant -> connection made outside -> relay

UDP (but for DNS) and ICMP have no way out. A connection stands for the pod before the other side has taken it: where
that refuses, the pod sees a reset.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Sequence

from ostria.node.network.addresses import Address, Plan
from ostria.node.network.balancer import FORBIDDEN
from ostria.node.network.broker import reset
from ostria.node.network.relay import Relays

PORT = 15100
"""Where the forwarder listens on the gateway's addresses."""
PATIENCE = 30.0
"""Seconds for a connection to come about."""
_SO_ORIGINAL_DST = 80
_FORBIDDEN = tuple(ipaddress.ip_network(text) for texts in FORBIDDEN.values() for text in texts)
_LOOPBACK = {4: ("127.0.0.1", "::1"), 6: ("::1", "127.0.0.1")}


def allowed_targets(plan: Plan, meant: Address, *, allow_host: bool) -> tuple[str, ...]:
    """Which addresses of the host's network an address stands for, in the order to try; () if it is refused.

    The rules inside refuse the same before a connection comes here: this is the second lock.
    """
    if meant in plan.host:
        return _LOOPBACK[meant.version] if allow_host else ()
    ranges = (*plan.pods, *plan.services, *_FORBIDDEN)
    if any(meant.version == range_.version and meant in range_ for range_ in ranges):
        return ()
    return (str(meant),)


async def serve(listeners: Sequence[socket.socket], plan: Plan, relays: Relays, *, allow_host: bool) -> None:
    """Forward what comes to these listeners until cancelled."""
    loop = asyncio.get_running_loop()

    async def accept(listener: socket.socket) -> None:
        while True:
            client, _ = await loop.sock_accept(listener)
            if relays.full:
                reset(client)
            else:
                tasks.create_task(_forward(client, plan, relays, allow_host=allow_host))

    async with asyncio.TaskGroup() as tasks:
        for listener in listeners:
            tasks.create_task(accept(listener))


async def _forward(client: socket.socket, plan: Plan, relays: Relays, *, allow_host: bool) -> None:
    try:
        meant, port = original_destination(client)
        upstream = await _connect(allowed_targets(plan, meant, allow_host=allow_host), port)
    except OSError:
        reset(client)
        return
    except BaseException:
        client.close()
        raise
    await relays.run(client, upstream)


def original_destination(client: socket.socket) -> tuple[Address, int]:
    """Where a redirected connection was meant to go. Raises OSError if the kernel does not know."""
    if client.family == socket.AF_INET:
        port, packed = struct.unpack_from(">2xH4s", client.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, 16))
        return ipaddress.IPv4Address(packed), port
    port, packed6 = struct.unpack_from(">2xH4x16s", client.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28))
    return ipaddress.IPv6Address(packed6), port


async def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    error = OSError("refused: not an address of the outside")
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(sock, (address, port))
        except OSError as failed:
            # TimeoutError is one of them.
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise error
