"""Probes: what one attempt finds (asks a socket or a program), and what many of them mean (pure).

    Probe -> attempt -> Finding -> Tally.after -> passing or not

HTTP, TCP and gRPC go to the pod's address from the node, as kubelet's do, through sockets that are handed in. The gRPC
health check is one call of https://github.com/grpc/grpc/blob/master/doc/health-checking.md written as HTTP/2 frames:
loading a gRPC library costs every node more than the forty bytes that are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple, Protocol

from ostria.node.pods import Container, Exec, GrpcCheck, Hook, HttpGet, Probe, TcpSocket


class Finding(NamedTuple):
    """What one attempt has found."""

    passed: bool
    message: str = ""


class Reach(Protocol):
    """How a probe gets to its container."""

    @property
    def address(self) -> str:
        """The pod's address."""

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection made from the node. Raises OSError."""

    async def run(self, argv: list[str]) -> tuple[int, str]:
        """Run a command in the container: exit code and output. Raises OSError."""


class Tally(NamedTuple):
    """How a probe stands. `passing` is None until it has been decided once."""

    passing: bool | None = None
    successes: int = 0
    failures: int = 0

    def after(self, probe: Probe, *, passed: bool) -> Tally:
        """The tally after one more finding."""
        successes, failures = (self.successes + 1, 0) if passed else (0, self.failures + 1)
        passing = self.passing
        if successes >= probe.success_threshold:
            passing = True
        elif failures >= probe.failure_threshold:
            passing = False
        return Tally(passing, successes, failures)


async def attempt(probe: Probe, container: Container, reach: Reach) -> Finding:
    """Try once, within the probe's timeout."""
    try:
        async with asyncio.timeout(max(probe.timeout_seconds, 1)):
            return await _check(probe.exec, probe.http_get, probe.tcp_socket, probe.grpc, container, reach)
    except TimeoutError:
        return Finding(passed=False, message=f"no answer within {probe.timeout_seconds}s")
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        return Finding(passed=False, message=str(error) or type(error).__name__)


async def call_hook(hook: Hook, container: Container, reach: Reach) -> Finding:
    """Do what a hook says; the caller bounds it."""
    if hook.sleep is not None:
        await asyncio.sleep(hook.sleep.seconds)
        return Finding(passed=True)
    try:
        return await _check(hook.exec, hook.http_get, hook.tcp_socket, None, container, reach)
    except (OSError, ValueError) as error:
        return Finding(passed=False, message=str(error) or type(error).__name__)


async def _check(
    command: Exec | None,
    http: HttpGet | None,
    tcp: TcpSocket | None,
    grpc: GrpcCheck | None,
    container: Container,
    reach: Reach,
) -> Finding:
    if command is not None:
        code, output = await reach.run(command.command)
        return Finding(code == 0, "" if code == 0 else f"exit code {code}: {output[:1000]}".strip())
    if http is not None:
        return await _http(http, container, reach)
    if tcp is not None:
        host = tcp.host or reach.address
        async with _closing(reach.dial(host, port_of(container, tcp.port))):
            return Finding(passed=True)
    if grpc is not None:
        return await _grpc(grpc, reach)
    return Finding(passed=True)


def port_of(container: Container, port: int | str) -> int:
    """A port by number or by its name in the container. Raises ValueError."""
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    for known in container.ports:
        if known.name == port:
            return known.container_port
    raise ValueError(f"the container has no port named {port!r}")


async def _http(check: HttpGet, container: Container, reach: Reach) -> Finding:
    """One GET, certificates unchecked as kubelet does; 2xx and 3xx pass, and redirects are not followed."""
    host, port = check.host or reach.address, port_of(container, check.port)
    shown = f"[{host}]" if ":" in host else host
    tls = check.scheme.upper() == "HTTPS"
    headers = [(header.name, header.value) for header in check.http_headers]
    given = {name.lower() for name, _ in headers}
    headers += [] if "host" in given else [("Host", f"{shown}:{port}")]
    headers += [] if "user-agent" in given else [("User-Agent", "kube-probe/1.33")]
    headers += [] if "accept" in given else [("Accept", "*/*")]
    path = check.path if check.path.startswith("/") else f"/{check.path}"
    head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers)
    async with _closing(reach.dial(host, port)) as (reader, writer):
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            await writer.start_tls(context)
        writer.write(head.encode() + b"Connection: close\r\n\r\n")
        line = await reader.readline()
        parts = line.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
            raise ValueError(f"no HTTP response: {line[:80]!r}")
        status = int(parts[1])
        if 200 <= status < 400:
            return Finding(passed=True)
        return Finding(passed=False, message=f"HTTP probe failed with statuscode: {status}")


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_SERVING = b"\x08\x01"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(name: str, value: str) -> bytes:
    """A header that is never indexed (RFC 7541, 6.2.2); all of ours are shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def _grpc(check: GrpcCheck, reach: Reach) -> Finding:
    service = check.service.encode()[:100]
    message = b"\x0a" + bytes([len(service)]) + service if service else b""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", f"{reach.address}:{check.port}"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    async with _closing(reach.dial(reach.address, check.port)) as (reader, writer):
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b""))
        writer.write(_frame(_HEADERS, 4, 1, b"".join(_field(name, value) for name, value in fields)))
        writer.write(_frame(_DATA, 1, 1, struct.pack(">BI", 0, len(message)) + message))
        body = b""
        while True:
            head = await reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            payload = await reader.readexactly(size)
            if kind == _SETTINGS and not flags & 1:
                writer.write(_frame(_SETTINGS, 1, 0, b""))
            elif kind == _PING and not flags & 1:
                writer.write(_frame(_PING, 1, 0, payload))
            elif kind == _DATA and stream == 1:
                body += payload
            if kind in (_RST_STREAM, _GOAWAY) or (stream == 1 and flags & 1 and kind in (_DATA, _HEADERS)):
                break
    if body[5:] == _SERVING:
        return Finding(passed=True)
    return Finding(passed=False, message="the health service does not answer SERVING")


@contextlib.asynccontextmanager
async def _closing(
    dialled: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await dialled
    try:
        yield reader, writer
    finally:
        writer.close()
