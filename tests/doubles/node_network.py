"""A node's network with pods that are nothing but network namespaces; the test itself speaks from inside of them.

A socket belongs to the namespace that it was made in: so servers and clients "in a pod" are asyncio in the test, over
sockets from the broker. No process runs in a pod, and everything ends with the zygote.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pathlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence

from ostria.node import linux
from ostria.node.network import dns_message as wire
from ostria.node.network.addresses import Plan, PodAddresses
from ostria.node.network.broker import Broker
from ostria.node.network.network import Network
from ostria.node.network.services import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort
from ostria.node.userns import NodeNamespaces, run_in

_SIOCGSKNS = 0x894C
BOUND = 10.0


def _fresh_namespace() -> socket.socket:
    """In a child inside the node: a socket of a new network namespace, which it keeps alive."""
    linux.unshare(linux.CLONE_NEWNET)
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Pod:
    """A pod's namespace; `fd` names it."""

    def __init__(self, world: World, key: str) -> None:
        self.world = world
        self.key = key
        self.holder = run_in(world.namespaces, _fresh_namespace)
        self.fd = fcntl.ioctl(self.holder, _SIOCGSKNS)
        self.addresses: PodAddresses

    def __str__(self) -> str:
        return self.key

    @property
    def v4(self) -> str:
        return str(self.addresses.v4)

    @property
    def v6(self) -> str:
        return str(self.addresses.v6)

    def socket(self, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        (made,) = self.world.broker.sockets((family, kind, 0), namespace=self.fd)
        made.settimeout(0)
        return made

    async def open(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = self.socket(address)
        try:
            async with asyncio.timeout(BOUND):
                await asyncio.get_running_loop().sock_connect(made, (address, port))
        except BaseException:
            made.close()
            raise
        return await asyncio.open_connection(sock=made)

    async def call(self, address: str, port: int) -> str:
        """What the server at an address says: "NAME saw CLIENT", or the error."""
        try:
            async with asyncio.timeout(BOUND):
                reader, writer = await self.open(address, port)
                with contextlib.closing(writer):
                    return (await reader.read()).decode() or "nothing"
        except OSError as error:
            return type(error).__name__ if error.errno is None else os.strerror(error.errno).lower()

    async def serve(self, port: int, *, name: str = "") -> None:
        """Say who we are and who has called, to anybody, in both families; until the world ends."""
        await self.world.serve((self.socket("0.0.0.0"), self.socket("::")), port, name or self.key)

    async def ask(self, name: str, kind: int = wire.A, *, stream: bool = False, size: int = 0) -> bytes:
        """Ask the pod's name server."""
        server = str(self.world.network.plan.dns[0])
        query = wire.build_query(7, name, kind)
        if size:
            query = query[:10] + b"\0\1" + query[12:] + b"\0" + struct.pack(">HHIH", wire.OPT, size, 0, 0)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(BOUND):
            if stream:
                reader, writer = await self.open(server, 53)
                with contextlib.closing(writer):
                    writer.write(len(query).to_bytes(2, "big") + query)
                    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            with self.socket(server, socket.SOCK_DGRAM) as made:
                await loop.sock_connect(made, (server, 53))
                await loop.sock_sendall(made, query)
                return await loop.sock_recv(made, 4096)

    async def look_up(self, name: str, kind: int = wire.A, *, bound: float = BOUND) -> list[str]:
        """The addresses that a name stands for, CNAMEs as they come; ["NXDOMAIN"] and the like for none."""
        async with asyncio.timeout(bound):
            answer = await self.ask(name, kind)
        code = wire.code_of(answer)
        if code:
            return [{wire.NAME_ERROR: "NXDOMAIN", wire.SERVER_FAILURE: "SERVFAIL"}.get(code, str(code))]
        return [written(record) for record in wire.addresses_in(answer)]


def written(record: wire.Record) -> str:
    if record.kind == wire.A:
        return socket.inet_ntop(socket.AF_INET, record.data)
    if record.kind == wire.AAAA:
        return socket.inet_ntop(socket.AF_INET6, record.data)
    return wire._read_name(record.data, 0)[0]


class World:
    """The network of one test."""

    def __init__(self, folder: pathlib.Path, namespaces: NodeNamespaces) -> None:
        self.folder = folder
        self.namespaces = namespaces
        self.broker = Broker(namespaces.folder)
        self.network: Network
        self.pods: dict[str, Pod] = {}
        self._servers: list[asyncio.Server] = []

    async def pod(self, key: str) -> Pod:
        pod = self.pods[key] = Pod(self, key)
        pod.addresses = await self.network.attach(key, pod.fd)
        return pod

    async def serve(self, sockets: Sequence[socket.socket], port: int, name: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            del reader
            writer.write(f"{name} saw {writer.get_extra_info('peername')[0]}".encode())
            with contextlib.closing(writer), contextlib.suppress(OSError):
                await writer.drain()

        for made in sockets:
            if made.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("::" if made.family == socket.AF_INET6 else "0.0.0.0", port))
            self._servers.append(await asyncio.start_server(answer, sock=made))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for pod in self.pods.values():
            pod.holder.close()
            os.close(pod.fd)
        self.broker.close()


@contextlib.contextmanager
def node_namespaces(folder: pathlib.Path, *, rootless: bool) -> Iterator[NodeNamespaces]:
    namespaces = NodeNamespaces.open(folder / "zygote", rootless=rootless)
    try:
        yield namespaces
    finally:
        namespaces.close()
        namespaces.end()


@contextlib.asynccontextmanager
async def running_network(
    folder: pathlib.Path,
    *,
    rootless: bool,
    plan: Plan | None = None,
    allow_host: bool = False,
    resolvers: tuple[tuple[str, int], ...] = (("127.0.0.1", 9),),
) -> AsyncIterator[World]:
    """A network in namespaces of its own; without resolvers of the host unless some are given."""
    state = folder / "network"
    with node_namespaces(folder, rootless=rootless) as namespaces:
        world = World(state, namespaces)
        try:
            async with Network.create(
                state, namespaces, plan, allow_host=allow_host, resolvers=resolvers
            ) as world.network:
                yield world
        finally:
            world.close()
            await Network.remove(state)


def web(name: str, pods: Sequence[Pod], *, address: str = "10.96.0.50", ready: bool = True, **more: object) -> Service:
    """A Service of both families on port 80; what `slices_of` gives are its endpoints."""
    last = address.rpartition(".")[2]
    addresses = (address, f"fd00:10:96::{last}") if address else ()
    ports = (ServicePort(80, "http", node_port=more.pop("node_port", 0)),)  # type: ignore[arg-type]
    return Service("default", name, addresses, ports=ports, **more)  # type: ignore[arg-type]


def slices_of(service: str, pods: Sequence[Pod], *, port: int = 8000, **more: object) -> list[EndpointSlice]:
    """One slice a family for these pods."""
    ports = (EndpointPort(port, "http"),)
    return [
        EndpointSlice(
            "default",
            f"{service}-{version}",
            service,
            ports,
            tuple(Endpoint((getattr(pod, f"v{version}"),), **more) for pod in pods),  # type: ignore[arg-type]
        )
        for version in (4, 6)
    ]
