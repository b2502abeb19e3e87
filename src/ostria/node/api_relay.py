"""The way of pods to the API server: a listener on the pods' gateway that leads to the server's address on the host.

Bytes are passed on as they are: TLS is between the pod and the server.
"""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

from ostria.node.network.relay import Relays

PORT = 6443
"""Where pods find the API on the gateway, behind the Service `kubernetes`."""
PATIENCE = 10.0
"""Seconds for a connection to the server."""


def address_of(server: str) -> tuple[str, int]:
    """Host and port of a server's URL."""
    parts = urlsplit(server)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


async def relay(listener: socket.socket, server: str) -> None:
    """Serve what arrives, until cancelled. The listener is closed at the end."""
    host, port = address_of(server)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    relays = Relays()
    loop = asyncio.get_running_loop()

    async def lead(client: socket.socket) -> None:
        there = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(there, (host, port))
        except (OSError, TimeoutError):
            there.close()
            client.close()
            return
        except BaseException:
            there.close()
            client.close()
            raise
        await relays.run(client, there)

    listener.setblocking(False)  # noqa: FBT003 - The socket module's own signature.
    with listener:
        async with asyncio.TaskGroup() as tasks:
            while True:
                client, _ = await loop.sock_accept(listener)
                if relays.full:
                    client.close()
                else:
                    tasks.create_task(lead(client))
