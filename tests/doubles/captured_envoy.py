"""A real Envoy that holds everything that one proxy is sent, and takes calls as if they had been captured.

Capture needs packet rules; here each call says in a PROXY header where it was going, and Envoy takes that for the
address that the kernel would have told it. Nothing else of the resources is changed, but for ports that are bound and
for paths of files. What became of each call is read from Envoy's access log, from the caller's answer, and from the
servers behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import pathlib
import random
import re
import signal
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Container, Mapping
from typing import Any, NamedTuple

from envoy.config.listener.v3.listener_pb2 import Listener

from doubles import http2_call
from doubles.file_envoy import FileEnvoy, Response, as_dict, envoy_path, http_get
from ostria.analysis.simulation import Call, CallMode, CallProtocol, CallTls
from ostria.engine import Engine
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits

LOG = "/log/access.json"
CASE = "x-case"

# MeshConfig's fields that make every proxy tell what it does with each call.
LOGGED = {
    "id": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "host": "%UPSTREAM_HOST%",
    "route": "%ROUTE_NAME%",
    "chain": "%FILTER_CHAIN_NAME%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
}
LOGGING = {"accessLogFile": LOG, "accessLogEncoding": "JSON", "accessLogFormat": json.dumps(LOGGED)}

_PROXY_PROTOCOL = {
    "name": "envoy.filters.listener.proxy_protocol",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
}
_SECRETS = re.compile(rb"kubernetes(?:-gateway)?://[a-z0-9./-]+|file-(?:cert|root):[A-Za-z0-9./~_-]+")
_ANSWER_TIMEOUT = 30.0
_START_TIMEOUT = 30.0


class Seen(NamedTuple):
    """What became of a call. `log` is Envoy's line of it ({} where it wrote none), `answer` what the caller got (None:
    the connection was closed), `behind` the requests that servers got for it, mirrored ones included."""

    log: Mapping[str, str]
    answer: Response | None
    behind: tuple[Mapping[str, Any], ...] = ()


def holds(
    db: Engine, client: ClientTraits, patched_away: Container[str] = ()
) -> dict[tuple[ResourceType, str], Fragment]:
    """Everything that a proxy holds: what it lists, and what that refers to, but for what a patch has removed."""
    held: dict[tuple[ResourceType, str], Fragment] = {}
    wanted = [
        (kind, name)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER)
        for name in names(db, kind, scope(db, kind, "*").project(client))
    ]
    while wanted:
        kind, name = wanted.pop()
        if (kind, name) in held:
            continue
        found = fragment(db, kind, name, scope(db, kind, name).project(client))
        if found is None and name in patched_away:
            continue
        assert found is not None, f"{client} refers to {kind} {name}, which it does not get"
        held[kind, name] = found
        wanted.extend(found.references)
        # Secrets are asked for by whoever finds their names, and no references.
        wanted.extend((ResourceType.SECRET, named.decode()) for named in _SECRETS.findall(found.body))
    return held


class NoAnswerError(Exception):
    """A call was neither answered nor closed: nothing can be said of it, and it is no disagreement."""


class CapturedEnvoy:
    """A running one. Each call is told from others by the address that it claims to come from.

    `refused` counts connections that Envoy did not take, because it listens a moment after it says that it is ready:
    nothing was said on them, so the caller tries again.
    """

    def __init__(self, entrances: Mapping[str, int], context: Callable[[str], ssl.SSLContext]) -> None:
        self._entrances = entrances
        self._context = context
        self.refused = 0

    async def call(self, call: Call, number: int) -> Response | None:
        """Make a call; `number` tells it from the others, up to 60,000. None: it is closed, or nobody listens."""
        entrance = self._entrances.get(call.mode if call.mode is not CallMode.GATEWAY else str(call.port))
        if entrance is None:
            return None
        reader, writer = await self._connected(entrance)
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                family = "TCP6" if ipaddress.ip_address(call.address).version == 6 else "TCP4"
                source = source_of(number, six=family == "TCP6")
                writer.write(f"PROXY {family} {source} {call.address} {_port(number)} {call.port}\r\n".encode())
                if call.tls is not CallTls.PLAINTEXT:
                    context = self._context(call.authority if call.tls is CallTls.MUTUAL else "")
                    if call.offers:
                        context.set_alpn_protocols(list(call.offers))
                    await writer.start_tls(context, server_hostname=call.sni or None)
                return await self._exchange(reader, writer, call, number)
        except TimeoutError:
            raise NoAnswerError(f"{call} was neither answered nor closed") from None
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError):
            return None
        finally:
            writer.transport.abort()

    async def _connected(self, entrance: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(_START_TIMEOUT):
            while True:
                try:
                    return await asyncio.open_connection("127.0.0.1", entrance)
                except ConnectionRefusedError:
                    self.refused += 1
                    await asyncio.sleep(0.02)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call, number: int
    ) -> Response | None:
        if call.protocol is CallProtocol.TCP:
            writer.write(b"\x01\x02 these are bytes, and no protocol that anybody knows\r\n\r\n")
            answer = await reader.read(65536)
            if answer.startswith(b"HTTP/"):
                return Response(int(answer.split()[1]), {}, b"")
            return Response(0, {}, answer) if answer else None
        if call.protocol is CallProtocol.HTTP2:
            scheme = "http" if call.tls is CallTls.PLAINTEXT else "https"
            asked = ((":method", call.method), (":scheme", scheme), (":authority", call.host), (":path", call.path))
            status = await http2_call.ask(reader, writer, (*asked, (CASE, str(number)), *call.headers))
            return None if status is None else Response(status, {}, b"")
        lines = [f"{call.method} {call.path} HTTP/1.1", f"host: {call.host}", "connection: close", f"{CASE}: {number}"]
        lines += [f"{name}: {value}" for name, value in call.headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return await _response(reader, body=call.method != "HEAD")


async def _response(reader: asyncio.StreamReader, *, body: bool) -> Response:
    """An answer; headers of one name are joined by commas."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known},{value.strip()}" if known is not None else value.strip()
    content = await reader.readexactly(int(headers.get("content-length", "0"))) if body else b""
    return Response(int(head[0].split()[1]), headers, content)


def source_of(number: int, *, six: bool = False) -> str:
    """The address that a call claims to come from."""
    return "fd00::1" if six else "127.77.0.1"


def _port(number: int) -> int:
    return 2000 + number


@contextlib.asynccontextmanager
async def captured_envoy(
    folder: pathlib.Path,
    held: Mapping[tuple[ResourceType, str], Fragment],
    context: Callable[[str], ssl.SSLContext],
    replace: Mapping[str, str],
) -> AsyncIterator[CapturedEnvoy]:
    """An Envoy for the time of an `async with`. It ends in peace, so that its log is whole (see `log_lines`).

    `context` makes the TLS context of clients whose certificate an authority has signed; "" are those without one.
    """
    envoy = FileEnvoy(folder, {**replace, LOG: str(folder / "access.json")}, bind=False)
    entrances: dict[str, int] = {}
    listeners = [
        with_entrance(as_dict(Listener, found.body), entrances)
        for (kind, _), found in held.items()
        if kind is _LISTENER
    ]

    def bodies(kind: ResourceType) -> list[bytes]:
        return [found.body for (each, _), found in held.items() if each is kind]

    envoy.write(
        listeners=listeners,
        clusters=bodies(ResourceType.CLUSTER),
        routes=bodies(ResourceType.ROUTES),
        endpoints=bodies(ResourceType.ENDPOINTS),
        secrets=bodies(ResourceType.SECRET),
    )
    async with peaceful_envoy(envoy, envoy.bootstrap()):
        yield CapturedEnvoy(entrances, context)


@contextlib.asynccontextmanager
async def peaceful_envoy(envoy: FileEnvoy, bootstrap: dict[str, Any]) -> AsyncIterator[None]:
    """An Envoy that is ready, and ends in peace after the block."""
    # A port that nobody's own end of a connection takes before Envoy does.
    bootstrap["admin"]["address"]["socket_address"]["port_value"] = envoy.admin = _entrance_port()
    config = envoy.folder / "bootstrap.json"
    config.write_text(json.dumps(bootstrap))
    command = [envoy_path(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    command += ["--drain-time-s", "0", "--log-path", str(envoy.log), "--log-level", "warning"]
    process = await _started(envoy, command)
    try:
        assert envoy.errors() == []
        yield
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), _START_TIMEOUT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _started(envoy: FileEnvoy, command: list[str]) -> asyncio.subprocess.Process:
    """A process that is ready. Where the machine has no more watches of files to give, it is tried again."""
    async with asyncio.timeout(2 * _START_TIMEOUT):
        while True:
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
            try:
                async with asyncio.timeout(_START_TIMEOUT):
                    while not await _is_ready(envoy, process):
                        await asyncio.sleep(0.02)
                return process
            except AssertionError:
                if "inotify" not in envoy.log.read_text():
                    raise
                envoy.log.unlink()
                await asyncio.sleep(0.5)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                raise


_LISTENER = ResourceType.LISTENER


def log_lines(folder: pathlib.Path) -> dict[int, dict[str, str]]:
    """What the Envoy of a folder has told of each call, by its number; of several lines the last."""
    path = folder / "access.json"
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        told = {name: "" if value in (None, "-") else str(value) for name, value in json.loads(line).items()}
        port = told["id"].rpartition(":")[2]
        if port.isdigit():
            found[int(port) - 2000] = told
    return found


def with_entrance(listener: dict[str, Any], entrances: dict[str, int]) -> dict[str, Any]:
    """The listener; if it is bound, then at a free port, and behind a PROXY header."""
    if "listener_filters_timeout" in listener:
        # Callers here always speak first; on a busy machine some speak late, and that is not what is compared.
        listener["listener_filters_timeout"] = "60s"
    if listener.get("bind_to_port") is False:
        return listener
    place = listener["address"]["socket_address"]
    direction = str(listener.get("traffic_direction", ""))
    name = str(place["port_value"])
    if listener["name"] == "virtualOutbound":
        name = CallMode.OUTBOUND
    elif listener["name"] == "virtualInbound":
        name = CallMode.INBOUND
    assert direction in ("OUTBOUND", "INBOUND")
    entrances.setdefault(name, _entrance_port())
    place |= {"address": "127.0.0.1", "port_value": entrances[name]}
    listener.pop("additional_addresses", None)
    inspectors = [each for each in listener.get("listener_filters", ()) if "original_dst" not in each["name"]]
    listener["listener_filters"] = [_PROXY_PROTOCOL, *inspectors]
    return listener


def _entrance_port() -> int:
    """A port that no caller of the machine gets for its own end of a connection."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(5000, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def _is_ready(envoy: FileEnvoy, process: asyncio.subprocess.Process) -> bool:
    assert process.returncode is None, envoy.log.read_text()
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        return (await http_get(envoy.admin, "/ready")).status == 200
    return False


# --- servers ------------------------------------------------------------------------------------------------------


class Servers:
    """One port at every address of loopback, that takes HTTP, TLS and bytes, and remembers what it got.

    Where a call went is the address that it came in at. Answers hold what was seen, as JSON.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.port = 0
        self.seen: list[dict[str, Any]] = []

    async def run(self, started: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setblocking(False)
            server.bind(("0.0.0.0", 0))
            server.listen(512)
            self.port = server.getsockname()[1]
            started.set()
            async with asyncio.TaskGroup() as group:
                while True:
                    connection, _ = await loop.sock_accept(server)
                    connection.setblocking(False)
                    group.create_task(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        address = connection.getsockname()[0]
        try:
            head = await _peek(connection)
        except OSError:
            connection.close()
            return
        if head.startswith((b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")):
            connection.close()  # Where it went is in the log.
            return
        tls = hello(head) if head[:1] == b"\x16" else None
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context if tls else None
            )
        except OSError:
            connection.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._answer(reader, writer, {"address": address, "tls": tls})
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: dict[str, Any]) -> None:
        while first := await reader.read(65536):
            if first[:1] == b"\x16":
                # The caller's own TLS inside of the mesh's: that is as far as one can see.
                self.seen.append({**told, "protocol": "tls"})
                return
            if b"\r\n\r\n" not in first:
                first += await reader.readuntil(b"\r\n\r\n")
            words = first.decode("latin-1").split("\r\n")
            if not words[0].endswith("HTTP/1.1"):
                told = {**told, "protocol": "h2" if first.startswith(b"PRI * HTTP/2") else "bytes"}
                self.seen.append(told)
                writer.write(json.dumps(told).encode())
                await writer.drain()
                return
            method, path, _ = words[0].split(" ", 2)
            headers: dict[str, str] = {}
            for line in filter(None, words[1:]):
                name, _, value = line.partition(":")
                known = headers.get(name.lower())
                headers[name.lower()] = f"{known},{value.strip()}" if known else value.strip()
            seen = {**told, "protocol": "http", "method": method, "path": path, "headers": headers}
            self.seen.append(seen)
            body = json.dumps(seen).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(b"" if method == "HEAD" else body)
            await writer.drain()


async def _peek(connection: socket.socket) -> bytes:
    """What has come first, which stays there to be read; of TLS the whole first record."""
    loop = asyncio.get_running_loop()
    while True:
        readable = loop.create_future()
        loop.add_reader(connection, readable.set_result, None)
        try:
            await readable
        finally:
            loop.remove_reader(connection)
        head = connection.recv(16384, socket.MSG_PEEK)
        if head[:1] != b"\x16" or len(head) >= 5 + struct.unpack(">H", head[3:5])[0]:
            return head
        await asyncio.sleep(0.001)


def hello(record: bytes) -> dict[str, Any]:
    """The server name and the protocols that a TLS client asks for, out of its first record (RFC 8446, 4.1.2)."""
    at = 5 + 4 + 2 + 32
    at += 1 + record[at]
    at += 2 + struct.unpack(">H", record[at : at + 2])[0]
    at += 1 + record[at]
    end = at + 2 + struct.unpack(">H", record[at : at + 2])[0]
    at += 2
    found: dict[str, Any] = {"sni": "", "alpn": []}
    while at < end:
        kind, size = struct.unpack(">HH", record[at : at + 4])
        body = record[at + 4 : at + 4 + size]
        if kind == 0:
            found["sni"] = body[5:].decode()
        elif kind == 16:
            place = 2
            while place < len(body):
                found["alpn"].append(body[place + 1 : place + 1 + body[place]].decode())
                place += 1 + body[place]
        at += 4 + size
    return found


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[Servers]:
    """Servers for the time of an `async with`."""
    servers, started = Servers(context), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(servers.run(started))
        await started.wait()
        try:
            yield servers
        finally:
            task.cancel()
