"""The network's resident process: names, the way out and the way in, on the host, for as long as the zygote lives.

    python -m ostria.node.network.resident FOLDER ZYGOTE-FOLDER SETTINGS READY-FD

It outlives the node, which finds it by its socket, and remembers nothing but the ports it gave: after it was killed the
node starts another and tells it everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pathlib
import signal
import sys
from collections.abc import Mapping

import msgspec

from ostria.base import logs
from ostria.base.clock import SystemClock
from ostria.node import linux, messages, zygote
from ostria.node.network import control, outbound
from ostria.node.network.broker import Broker
from ostria.node.network.control import Command, Reply, Settings
from ostria.node.network.dns import NameServer, host_resolvers
from ostria.node.network.inbound import Exposure, Inbound, node_ports
from ostria.node.network.names import Names
from ostria.node.network.relay import Relays
from ostria.node.network.services import EndpointSlice, Service, ServiceKey, Tables

log = logging.getLogger(__name__)

LOCK = "network.lock"
PORTS = "ports.json"
_DNS_PORT = 53


class Resident:
    """The parts, and the tables that they answer from."""

    def __init__(self, folder: pathlib.Path, zygote_folder: pathlib.Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._broker = Broker(zygote_folder)
        self._relays = Relays()
        self._names = Names(settings.plan, allow_host=settings.allow_host)
        plan = settings.plan
        clients = (*plan.pods, *plan.services)
        self._dns = NameServer(
            self._names, clients, (lambda: settings.resolvers) if settings.resolvers else host_resolvers, SystemClock()
        )
        self._inbound = Inbound(self._broker, self._relays, self._remembered_ports(), self._remember_ports)
        self._services: dict[ServiceKey, Service] = {}
        self._slices: dict[ServiceKey, tuple[EndpointSlice, ...]] = {}
        self._exposures: tuple[Exposure, ...] = ()
        self._refused: dict[str, str] = {}
        self._stopped = asyncio.Event()

    async def run(self, ready: int) -> None:
        """Serve until told to stop or until the zygote has ended."""
        plan = self._settings.plan
        gateways, names = list(map(str, plan.gateway)), list(map(str, plan.dns))
        datagrams = [self._broker.datagrams(address, _DNS_PORT) for address in names]
        streams = [self._broker.listen(address, _DNS_PORT) for address in names]
        forwarders = [self._broker.listen(address, outbound.PORT) for address in gateways]
        loop = asyncio.get_running_loop()
        watched = self._watch_zygote(loop)
        loop.add_signal_handler(signal.SIGTERM, self._stopped.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._dns.serve(datagrams, streams))
                forward = outbound.serve(forwarders, plan, self._relays, allow_host=self._settings.allow_host)
                tasks.create_task(forward)
                tasks.create_task(self._inbound.serve())
                # The parts have begun before the first command can come.
                await asyncio.sleep(0)
                server = await asyncio.start_unix_server(self._converse, sock=control.listen(self._folder))
                os.write(ready, b"1")
                os.close(ready)
                await self._stopped.wait()
                server.close()
                # What raises within a task group ends all that it holds.
                raise _Stop
        except* _Stop:
            log.info("stopped")
        finally:
            os.close(watched)
            self._broker.close()

    def _watch_zygote(self, loop: asyncio.AbstractEventLoop) -> int:
        with messages.connect(str(self._broker.folder), zygote.SOCKET) as sock:
            fd = os.pidfd_open(messages.peer_pid(sock))
        loop.add_reader(fd, self._stopped.set)
        return fd

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while not self._stopped.is_set():
                command = msgspec.json.decode(await control.read_frame(reader), type=Command)
                self._obey(command)
                reply = Reply(self._settings, self._exposures, self._inbound.ports, self._refused, self._relays.count)
                await control.write_frame(writer, msgspec.json.encode(reply))
                if command.stop:
                    self._stopped.set()

    def _obey(self, command: Command) -> None:
        if command.full:
            self._services.clear()
            self._slices.clear()
        for entry in command.entries:
            key = (entry.namespace, entry.name)
            self._services.pop(key, None)
            self._slices.pop(key, None)
            if entry.service is not None:
                self._services[key] = entry.service
            if entry.slices:
                self._slices[key] = entry.slices
        if command.entries or command.full:
            self._names.replace(Tables(self._services, self._slices))
        if command.exposures is not None:
            self._exposures = command.exposures
        if command.entries or command.full or command.exposures is not None:
            self._refused = self._inbound.replace((*self._exposures, *node_ports(self._services.values())))

    def _remembered_ports(self) -> dict[str, int]:
        try:
            return msgspec.json.decode((self._folder / PORTS).read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}

    def _remember_ports(self, ports: Mapping[str, int]) -> None:
        new = self._folder / f"{PORTS}.new"
        new.write_bytes(msgspec.json.encode(ports))
        new.replace(self._folder / PORTS)


class _Stop(Exception):
    """Ends the parts in good order."""


def main(arguments: list[str]) -> int:
    """Run as a process of its own."""
    folder, zygote_folder, settings, ready = arguments
    linux.set_process_name("ostria-network")
    logs.configure(sys.stderr, {}, as_json=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with (pathlib.Path(folder) / LOCK).open("w") as lock:
        # The one before may be about to end: it holds this until it has.
        fcntl.flock(lock, fcntl.LOCK_EX)
        resident = Resident(
            pathlib.Path(folder), pathlib.Path(zygote_folder), msgspec.json.decode(settings, type=Settings)
        )
        asyncio.run(resident.run(int(ready)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
