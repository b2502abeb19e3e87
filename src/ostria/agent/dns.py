"""The name server of a pod (:15053), to which capture brings every question that its programs ask.

    question -> Names (the mesh's) -> answer, or else -> the resolvers of /etc/resolv.conf -> their answer as it is

Only questions for addresses are answered here; all others, and names that the mesh has no address for, are passed on
untouched, by UDP and by TCP.
"""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from ostria.agent.loop import Flag, Loop, now, readable, wait
from ostria.agent.names import Names
from ostria.agent.questions import AAAA, SERVER_FAILURE, A, Question, answer, belongs, fit, read_question
from ostria.agent.streams import SO_MARK, HttpError, Stream, connect

RESOLV_CONF = "/etc/resolv.conf"
ATTEMPTS, PATIENCE = 2, 2.0
"""How often all resolvers are asked, and how long (seconds) each has."""

Client = tuple[str, int]

IN_FLIGHT, CONNECTIONS, IDLE = 256, 64, 10.0
_LARGEST = 65_535


class Resolvers(NamedTuple):
    """Whom a pod asks, and under which domains it looks for short names."""

    addresses: tuple[str, ...]
    search: tuple[bytes, ...]


def resolvers(path: str = RESOLV_CONF) -> Resolvers:
    """What resolv.conf(5) says; without a server the machine's own, as the C library has it."""
    servers: list[str] = []
    search: tuple[bytes, ...] = ()
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                servers.append(words[1])
            elif words[:1] in (["search"], ["domain"]):
                search = tuple(word.rstrip(".").lower().encode() for word in words[1:])
    return Resolvers(tuple(servers[:3]) or ("127.0.0.1",), search)


class NameServer:
    """Answers as long as the agent lives."""

    def __init__(self, names: Names, upstream: Resolvers, *, mark: int | None = None) -> None:
        self._names = names
        self._upstream = upstream
        self._mark = mark
        self._in_flight = 0
        self._open = 0
        self._room = Flag()

    def listen(self, port: int) -> list[socket.socket]:
        """The sockets, of both families where there are two. Raises OSError."""
        found = []
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                try:
                    sock = self._marked(socket.socket(family, kind))
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind((host, port))
                except OSError:
                    if family == socket.AF_INET:
                        raise
                    continue  # There is no IPv6 here.
                if kind == socket.SOCK_STREAM:
                    sock.listen(CONNECTIONS)
                sock.setblocking(False)  # noqa: FBT003 - The standard library's own.
                found.append(sock)
        return found

    def start(self, loop: Loop, sockets: list[socket.socket]) -> None:
        """Serve these sockets for ever."""
        for sock in sockets:
            serve = self._datagrams if sock.type == socket.SOCK_DGRAM else self._connections
            loop.start(serve(loop, sock))

    # --- UDP ------------------------------------------------------------------------------------------------------

    async def _datagrams(self, loop: Loop, sock: socket.socket) -> None:
        while True:
            await readable(sock)
            try:
                data, client = sock.recvfrom(_LARGEST)
            except OSError:
                continue
            question = read_question(data)
            own = self._own(question)
            if question is not None and own is not None:
                _send(sock, fit(question, own), client)
            elif self._in_flight < IN_FLIGHT:
                self._in_flight += 1
                loop.start(self._pass_on(sock, data, question, client))

    async def _pass_on(self, sock: socket.socket, data: bytes, question: Question | None, client: Client) -> None:
        try:
            reply = await self._ask(data, question)
        finally:
            self._in_flight -= 1
        if reply is None and question is not None:
            reply = answer(question, (), SERVER_FAILURE)
        if reply is not None:
            _send(sock, reply, client)

    async def _ask(self, data: bytes, question: Question | None) -> bytes | None:
        for _ in range(ATTEMPTS):
            for resolver in self._upstream.addresses:
                with contextlib.suppress(OSError):
                    return await self._ask_one(resolver, data, question)
        return None

    async def _ask_one(self, resolver: str, data: bytes, question: Question | None) -> bytes:
        deadline = now() + PATIENCE
        with self._socket(resolver, socket.SOCK_DGRAM) as sock:
            sock.connect((resolver, 53))
            sock.send(data)
            while True:
                await readable(sock, deadline)
                reply = sock.recv(_LARGEST)
                # Anybody may send to the port; only who knows the question is taken for the resolver.
                if reply[:2] == data[:2] and (question is None or belongs(reply, question)):
                    return reply

    # --- TCP ------------------------------------------------------------------------------------------------------

    async def _connections(self, loop: Loop, listening: socket.socket) -> None:
        while True:
            if self._open >= CONNECTIONS:
                self._room.clear()
                await wait(self._room)
            await readable(listening)
            try:
                sock, _ = listening.accept()
            except OSError:
                continue
            self._open += 1
            loop.start(self._connection(Stream(sock, now() + IDLE)))

    async def _connection(self, stream: Stream) -> None:
        try:
            while data := await _message(stream):
                question = read_question(data)
                reply = self._own(question)
                if reply is None:
                    reply = await self._ask_by_tcp(data)
                if reply is None:
                    if question is None:
                        break
                    reply = answer(question, (), SERVER_FAILURE)
                stream.deadline = now() + IDLE
                await stream.write(len(reply).to_bytes(2, "big") + reply)
        except (OSError, HttpError):
            pass  # The client is gone, or too slow.
        finally:
            stream.close()
            self._open -= 1
            self._room.set()

    async def _ask_by_tcp(self, data: bytes) -> bytes | None:
        for resolver in self._upstream.addresses:
            with contextlib.suppress(OSError, HttpError):
                stream = await connect((resolver, 53), now() + PATIENCE, mark=self._mark)
                try:
                    await stream.write(len(data).to_bytes(2, "big") + data)
                    return await _message(stream)
                finally:
                    stream.close()
        return None

    # --- both -----------------------------------------------------------------------------------------------------

    def _own(self, question: Question | None) -> bytes | None:
        if question is None or question.kind not in (A, AAAA):
            return None
        found = self._names.known(question.name, self._upstream.search)
        # A name of ours without an address of this family has none; another server would say that it is no name.
        return None if found is None else answer(question, found)

    def _socket(self, resolver: str, kind: socket.SocketKind) -> socket.socket:
        sock = self._marked(socket.socket(socket.AF_INET6 if ":" in resolver else socket.AF_INET, kind))
        sock.setblocking(False)  # noqa: FBT003 - The standard library's own.
        return sock

    def _marked(self, sock: socket.socket) -> socket.socket:
        """Let capture know what is ours: a question is then not captured again, and an answer comes home."""
        if self._mark is not None:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self._mark)
        return sock


async def _message(stream: Stream) -> bytes:
    """One message as TCP carries it; b"" at the end. Raises HttpError if it breaks off."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        piece = await stream.read()
        if not piece:
            if data:
                raise HttpError("a message broke off")
            return b""
        data += piece
    size = 2 + int.from_bytes(data[:2], "big")
    stream.keep(data[size:])
    return data[2:size]


def _send(sock: socket.socket, reply: bytes, client: Client) -> None:
    with contextlib.suppress(OSError):  # Who asked is gone.
        sock.sendto(reply, client)
