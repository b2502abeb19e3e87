"""The way in: ports of the host's loopback that lead to Services, and which port each of them has.

A preferred port that is taken moves to the next free one, which is remembered, so that it stays the same for as long
as it can. Listeners are on 127.0.0.1 and ::1 only. UDP has no way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterable, Mapping

import msgspec

from ostria.node.network.broker import Broker, reset
from ostria.node.network.relay import Relays
from ostria.node.network.services import Service

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for a connection into the pods' network."""
_LAST_PORT = 65535
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


class Exposure(msgspec.Struct, frozen=True):
    """A port of the host that leads into the pods' network.

    `strict`: no other port than the preferred one will do. `proxy_protocol`: the target is told the client's address
    (PROXY protocol, version 1) and must expect it.
    """

    name: str
    preferred: int
    address: str
    port: int
    strict: bool = False
    proxy_protocol: bool = False


class PortTaken(Exception):
    """A strict port is another's."""


def node_ports(services: Iterable[Service]) -> list[Exposure]:
    """The exposures that Services ask for: each node port of TCP leads to the Service's own port."""
    return [
        Exposure(f"{service.namespace}/{service.name}:{port.port}", port.node_port, service.addresses[0], port.port)
        for service in services
        if service.addresses
        for port in service.ports
        if port.node_port and port.protocol == "TCP"
    ]


class Inbound:
    """The listeners of the moment. `remembered` are the ports of before; `remember` is told when they change."""

    def __init__(
        self,
        broker: Broker,
        relays: Relays,
        remembered: Mapping[str, int],
        remember: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._broker = broker
        self._relays = relays
        self._remembered = dict(remembered)
        self._remember = remember
        self._open: dict[str, _Listening] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def serve(self) -> None:
        """Serve what `replace` opens, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await asyncio.get_running_loop().create_future()

    @property
    def ports(self) -> dict[str, int]:
        """The host's port of each exposure that is open."""
        return {name: listening.port for name, listening in self._open.items()}

    def replace(self, wanted: Iterable[Exposure]) -> dict[str, str]:
        """Open and close listeners so that these are open; why some are not, by name."""
        assert self._tasks is not None, "serve runs"
        by_name = {exposure.name: exposure for exposure in wanted}
        for name in [name for name, listening in self._open.items() if by_name.get(name) != listening.exposure]:
            self._open.pop(name).close()
        refused: dict[str, str] = {}
        for exposure in by_name.values():
            if exposure.name in self._open:
                continue
            try:
                port, sockets = self._bind(exposure)
            except (PortTaken, OSError) as error:
                refused[exposure.name] = str(error)
                continue
            if port != exposure.preferred:
                log.warning("port %d is taken: %s is on port %d", exposure.preferred, exposure.name, port)
            tasks = [self._tasks.create_task(self._accept(sock, exposure)) for sock in sockets]
            self._open[exposure.name] = _Listening(exposure, port, sockets, tasks)
        remembered = dict(self._remembered)
        remembered.update({_memory(listening.exposure): listening.port for listening in self._open.values()})
        if remembered != self._remembered:
            self._remembered = remembered
            self._remember(remembered)
        return refused

    def _bind(self, exposure: Exposure) -> tuple[int, list[socket.socket]]:
        if exposure.strict:
            try:
                return exposure.preferred, _listen(exposure.preferred)
            except OSError as error:
                raise PortTaken(f"port {exposure.preferred} for {exposure.name}: {error.strerror}") from error
        before = self._remembered.get(_memory(exposure))
        candidates = [before] if before else []
        others = {listening.port for listening in self._open.values()}
        for port in (*candidates, *range(max(1, exposure.preferred), _LAST_PORT + 1)):
            if port in others:
                continue
            try:
                return port, _listen(port)
            except OSError as error:
                # An ordinary user may not have the ports below 1024; those above may still be free.
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
        raise PortTaken(f"no port from {exposure.preferred} on is free for {exposure.name}")

    async def _accept(self, listener: socket.socket, exposure: Exposure) -> None:
        assert self._tasks is not None
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            if self._relays.full:
                reset(client)
            else:
                self._tasks.create_task(self._relay(client, exposure))

    async def _relay(self, client: socket.socket, exposure: Exposure) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                inside = await self._broker.connect(exposure.address, exposure.port)
                if exposure.proxy_protocol:
                    await asyncio.get_running_loop().sock_sendall(inside, _proxy_line(client))
        except (OSError, TimeoutError, RuntimeError):
            reset(client)
            return
        except BaseException:
            client.close()
            raise
        await self._relays.run(client, inside)


def _memory(exposure: Exposure) -> str:
    """What a port is remembered under: who wishes for another one shall not be given that of an older wish."""
    return f"{exposure.name} {exposure.preferred}"


class _Listening:
    def __init__(
        self, exposure: Exposure, port: int, sockets: list[socket.socket], tasks: list[asyncio.Task[None]]
    ) -> None:
        self.exposure = exposure
        self.port = port
        self._sockets = sockets
        self._tasks = tasks

    def close(self) -> None:
        # The port is free at once. Who waits on a socket is taken off the loop first, for its number may be given anew.
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            loop.remove_reader(sock)
            sock.close()
        for task in self._tasks:
            task.cancel()


def _listen(port: int) -> list[socket.socket]:
    """Listening sockets on both loopbacks; IPv6 may be missing on this machine, but not taken by another."""
    made: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, address in _LOOPBACKS:
            try:
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError:
                if family == socket.AF_INET6:
                    continue
                raise
            undo.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port))
                sock.listen(512)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and family == socket.AF_INET6:
                    sock.close()
                    continue
                raise
            made.append(sock)
        undo.pop_all()
    return made


def _proxy_line(client: socket.socket) -> bytes:
    """PROXY protocol version 1: who has connected to what."""
    peer, own = client.getpeername(), client.getsockname()
    family = "TCP4" if client.family == socket.AF_INET else "TCP6"
    return f"PROXY {family} {peer[0]} {own[0]} {peer[1]} {own[1]}\r\n".encode()
