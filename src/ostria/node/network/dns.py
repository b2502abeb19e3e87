"""The name server: answers for the mesh's own names, and asks the host's resolver for all others.

It serves sockets inside the node's network and asks from the host's, where 127.0.0.53 means what it says. Only who
can reach those sockets is answered, and only from the ranges that are given. Everything is bounded: queries in flight,
connections, what is kept and for how long.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import pathlib
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ostria.base.clock import Clock
from ostria.node.network import dns_message as wire
from ostria.node.network.addresses import Range
from ostria.node.network.dns_message import Malformed, Question, Times
from ostria.node.network.names import Answer, Names

Resolver = tuple[str, int]
"""Address and port."""

ATTEMPTS = 2
PATIENCE = 2.0
"""Seconds that one resolver has for one attempt."""
LONGEST = 300
"""Seconds that an answer is kept at most."""
KEPT = 4096
IN_FLIGHT = 256
CONNECTIONS = 64
IDLE = 10.0
_LARGEST = 65535


def host_resolvers(path: pathlib.Path = pathlib.Path("/etc/resolv.conf")) -> tuple[Resolver, ...]:
    """The host's resolvers as its resolv.conf has them now; without any, its own loopback, as the C library does."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver":
                found.append((words[1], 53))
    return tuple(found[:3]) or (("127.0.0.1", 53),)


class _Kept(NamedTuple):
    answer: bytes
    times: Times
    since: float


class NameServer:
    """Answers queries. `resolvers` is asked anew each time, so that the host may change its mind."""

    def __init__(
        self, names: Names, clients: Sequence[Range], resolvers: Callable[[], tuple[Resolver, ...]], clock: Clock
    ) -> None:
        self._names = names
        self._clients = tuple(clients)
        self._resolvers = resolvers
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int, int], _Kept] = OrderedDict()
        self._in_flight = 0
        self._connections = 0

    async def serve(self, datagrams: Sequence[socket.socket], listeners: Sequence[socket.socket]) -> None:
        """Serve these sockets until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for sock in datagrams:
                tasks.create_task(self._serve_datagrams(sock, tasks))
            for sock in listeners:
                tasks.create_task(self._serve_streams(sock, tasks))

    async def answer(self, query: bytes) -> bytes:
        """The answer to one query, of any size. Raises Malformed for what is not worth one."""
        question = wire.parse_question(query)
        if question.family != wire.IN:
            return wire.build_answer(question, wire.REFUSED, authoritative=False)
        known = self._names.answer(question.name, question.kind)
        if known is None:
            return await self._ask(question)
        records = known.records
        if known.follow:
            records += await self._follow(known, question.kind)
        return wire.build_answer(question, known.code, records, known.authority)

    async def _follow(self, known: Answer, kind: int) -> tuple[wire.Record, ...]:
        """What an ExternalName leads to, since a client does not ask on itself."""
        number = secrets.randbits(16)
        with contextlib.suppress(Malformed):
            inside = self._names.answer(known.follow, kind)
            if inside is not None:
                return inside.records
            query = wire.build_query(number, known.follow, kind)
            return tuple(wire.addresses_in(await self._ask(wire.parse_question(query))))
        return ()

    async def _ask(self, question: Question) -> bytes:
        key = (question.name, question.kind, question.family)
        kept = self._kept.get(key)
        if kept is not None:
            age = int(self._clock.monotonic() - kept.since)
            if age < min(kept.times.seconds, LONGEST):
                return _with_question(question, wire.aged(kept.answer, kept.times, age, question.number))
            del self._kept[key]
        if self._in_flight >= IN_FLIGHT:
            return wire.build_answer(question, wire.SERVER_FAILURE, authoritative=False)
        self._in_flight += 1
        try:
            answer = await self._ask_resolvers(question)
        finally:
            self._in_flight -= 1
        if answer is None:
            return wire.build_answer(question, wire.SERVER_FAILURE, authoritative=False)
        try:
            times = wire.times_of(answer)
        except Malformed:
            return wire.build_answer(question, wire.SERVER_FAILURE, authoritative=False)
        if times.seconds and wire.code_of(answer) in (wire.NO_ERROR, wire.NAME_ERROR):
            self._kept[key] = _Kept(answer, times, self._clock.monotonic())
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return _with_question(question, wire.aged(answer, times, 0, question.number))

    async def _ask_resolvers(self, question: Question) -> bytes | None:
        query = wire.build_query(secrets.randbits(16), question.name, question.kind)
        for _ in range(ATTEMPTS):
            for resolver in self._resolvers():
                # An address that cannot be used (a zone's, say) is like a resolver that does not answer.
                with contextlib.suppress(OSError, TimeoutError, Malformed, ValueError):
                    async with asyncio.timeout(PATIENCE):
                        answer = await _ask_by_datagram(resolver, query)
                        if wire.is_truncated(answer):
                            answer = await _ask_by_stream(resolver, query)
                    if wire.code_of(answer) not in (wire.SERVER_FAILURE, wire.REFUSED):
                        return answer
        return None

    def _is_client(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        return any(parsed.version == range_.version and parsed in range_ for range_ in self._clients)

    async def _serve_datagrams(self, sock: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        pending = 0

        async def reply(query: bytes, client: tuple[str, int]) -> None:
            nonlocal pending
            try:
                with contextlib.suppress(Malformed, OSError):
                    answer = wire.fit(wire.parse_question(query), await self.answer(query))
                    await loop.sock_sendto(sock, answer, client)
            finally:
                pending -= 1

        while True:
            try:
                query, client = await loop.sock_recvfrom(sock, 4096)
            except OSError:
                # An ICMP error for an earlier answer shows up here; the socket goes on.
                continue
            # Beyond the bound queries fall away as they do on a full socket; the client asks again.
            if pending < 2 * IN_FLIGHT and self._is_client(client[0]):
                pending += 1
                tasks.create_task(reply(query, client))

    async def _serve_streams(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, client = await loop.sock_accept(listener)
            if self._connections >= CONNECTIONS or not self._is_client(client[0]):
                connection.close()
                continue
            self._connections += 1
            tasks.create_task(self._serve_stream(connection))

    async def _serve_stream(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            with connection, contextlib.suppress(Malformed, OSError, TimeoutError, asyncio.IncompleteReadError):
                while True:
                    async with asyncio.timeout(IDLE):
                        query = await _read_framed(connection)
                    answer = await self.answer(query)
                    async with asyncio.timeout(IDLE):
                        await loop.sock_sendall(connection, len(answer).to_bytes(2, "big") + answer)
        finally:
            self._connections -= 1


def _with_question(question: Question, answer: bytes) -> bytes:
    """The answer with the question as it was written: resolvers check the case of letters that they have mixed."""
    start = 12
    return answer[:start] + question.raw + answer[start + len(question.raw) :]


async def _ask_by_datagram(resolver: Resolver, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(resolver), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        await loop.sock_connect(sock, resolver)
        await loop.sock_sendall(sock, query)
        while True:
            answer = await loop.sock_recv(sock, 4096)
            if wire.answers(query, answer):
                return answer


async def _ask_by_stream(resolver: Resolver, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(_family(resolver), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        await loop.sock_connect(sock, resolver)
        await loop.sock_sendall(sock, len(query).to_bytes(2, "big") + query)
        answer = await _read_framed(sock)
        if not wire.answers(query, answer):
            raise Malformed("an answer to another question")
        return answer


async def _read_framed(sock: socket.socket) -> bytes:
    size = int.from_bytes(await _read_exactly(sock, 2), "big")
    return await _read_exactly(sock, min(size, _LARGEST))


async def _read_exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < size:
        chunk = await loop.sock_recv(sock, size - len(data))
        if not chunk:
            raise asyncio.IncompleteReadError(bytes(data), size)
        data += chunk
    return bytes(data)


def _family(resolver: Resolver) -> socket.AddressFamily:
    return socket.AF_INET if ipaddress.ip_address(resolver[0]).version == 4 else socket.AF_INET6
