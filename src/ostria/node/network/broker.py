"""Sockets of the node's network for processes outside of it: asked for from the zygote, which lives inside.

A socket belongs to the namespace that it was made in, whoever holds it. So whatever needs the pods' network - probes,
port-forwards, relays, the name server, and the netlink requests that make that network - runs outside with sockets
from here, as root and as an ordinary user alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import pathlib
import socket
import struct

from ostria.node import messages, zygote
from ostria.node.network.netlink import Netlink

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
_SO_SNDBUFFORCE = 32
_BACKLOG = 512
_RESET = struct.pack("ii", 1, 0)


class Broker:
    """A connection to the zygote of a node's folder. Calls take well under a millisecond and block for it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._connection: socket.socket | None = None

    def close(self) -> None:
        """Close the connection; sockets that were handed out go on."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def sockets(self, *arguments: tuple[int, int, int], namespace: int | None = None) -> list[socket.socket]:
        """New sockets (family, type, protocol) of the node's namespace, or of the one with this descriptor.

        Raises OSError if the zygote is gone, messages.Refused if it could not make them.
        """
        asked = [[family, kind | socket.SOCK_CLOEXEC, protocol] for family, kind, protocol in arguments]
        fds = [] if namespace is None else [namespace]
        request: messages.Message = {"op": "sockets", "arguments": asked}
        try:
            _, received = messages.request(self._connect(), request, fds)
        except OSError:
            # The zygote may have closed an idle connection; one that does not answer twice is gone.
            self.close()
            _, received = messages.request(self._connect(), request, fds)
        return [socket.socket(fileno=fd) for fd in received]

    def netlink(self, protocol: int, namespace: int | None = None) -> Netlink:
        """A netlink socket (NETLINK_ROUTE, NETLINK_NETFILTER)."""
        (made,) = self.sockets((socket.AF_NETLINK, socket.SOCK_RAW, protocol), namespace=namespace)
        # A transaction is one datagram. More room than the system's default limit is root's privilege.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with contextlib.suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 1 << 22)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        made.bind((0, 0))
        return Netlink(made)

    async def connect(self, address: str, port: int) -> socket.socket:
        """A TCP connection into the node's network: to a pod or to a virtual address. Non-blocking, the caller's.

        Raises OSError as connect does; bound it by asyncio.timeout.
        """
        (made,) = self.sockets((_family(address), socket.SOCK_STREAM, 0))
        try:
            made.settimeout(0)
            await asyncio.get_running_loop().sock_connect(made, (address, port))
        except BaseException:
            made.close()
            raise
        return made

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening TCP socket inside the node's network, for a process outside. Raises OSError as bind does."""
        (made,) = self.sockets((_family(address), socket.SOCK_STREAM, 0))
        return _bound(made, address, port, listening=True)

    def datagrams(self, address: str, port: int) -> socket.socket:
        """A bound UDP socket inside the node's network."""
        (made,) = self.sockets((_family(address), socket.SOCK_DGRAM, 0))
        return _bound(made, address, port, listening=False)

    def _connect(self) -> socket.socket:
        if self._connection is None:
            self._connection = messages.connect(str(self.folder), zygote.SOCKET)
        return self._connection


def _bound(sock: socket.socket, address: str, port: int, *, listening: bool) -> socket.socket:
    try:
        sock.settimeout(0)
        if listening:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if listening:
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket) -> None:
    """Close a connection by a reset: the peer sees an error, not an end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
