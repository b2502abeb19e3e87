"""Probes of an application, asked by the agent in the kubelet's place: HTTP, TLS, TCP and gRPC, of both families."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from doubles.agents import Agent, ground
from doubles.certificates import Authority

HTTP = {"httpGet": {"path": "/healthz", "port": 8080, "httpHeaders": [{"name": "X-Who", "value": "kubelet"}]}}


@contextlib.asynccontextmanager
async def probed(
    folder: pathlib.Path, env: Mapping[str, str] = {}, **probes: Mapping[str, Any]
) -> AsyncIterator[Agent]:
    """An agent with these probers, at /app-health/a/<name>. It answers before it has an identity."""
    told = {f"/app-health/a/{name}": probe for name, probe in probes.items()}
    variables = {"ISTIO_KUBE_APP_PROBERS": json.dumps(told), **env}
    async with asyncio.timeout(40), ground(folder) as mesh, mesh.agent("app", token="none", env=variables) as agent:
        while await agent.status(15020, "/healthz/ready") != 503:
            assert agent.process.returncode is None, agent.pod.log
            await asyncio.sleep(0.01)
        yield agent


class Application:
    """Answers every request with one status, and remembers what it saw."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.seen: list[tuple[str, str]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.seen.append((writer.get_extra_info("peername")[0], head.decode()))
            writer.write(f"HTTP/1.1 {self.status} x\r\ncontent-length: 2\r\n\r\nhi".encode())
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def serving(self, sock: socket.socket, context: ssl.SSLContext | None = None) -> AsyncIterator[Application]:
        server = await asyncio.start_server(self.handle, sock=sock, ssl=context)
        try:
            yield self
        finally:
            server.close()


@pytest.mark.parametrize("status", [200, 204, 302, 404, 503])
async def test_an_http_probe_gives_the_applications_own_answer(tmp_path: pathlib.Path, status: int):
    async with probed(tmp_path, livez=HTTP) as agent:
        assert await agent.status(15020, "/app-health/a/livez") == 500
        async with Application(status).serving(agent.pod.listen("127.0.0.1", 8080)) as application:
            assert await agent.status(15020, "/app-health/a/livez") == status
        ((peer, head),) = application.seen
        # Capture lets connections from this address through to the application.
        assert peer == "127.0.0.6"
        assert head.startswith("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n")
        assert "x-who: kubelet\r\n" in head
        assert await agent.status(15020, "/app-health/a/readyz") == 404


async def test_a_pod_of_the_other_family_is_asked_in_it(tmp_path: pathlib.Path):
    async with probed(tmp_path, {"INSTANCE_IP": "::1"}, livez=HTTP) as agent:
        try:
            listening = agent.pod.listen("::1", 8080)
        except OSError:
            pytest.skip("this machine has no IPv6")
        async with Application().serving(listening) as application:
            assert await agent.status(15020, "/app-health/a/livez") == 200
        assert "host: [::1]:8080" in application.seen[0][1]


async def test_an_application_on_loopback_is_asked_there_if_it_is_said_so(tmp_path: pathlib.Path):
    env = {"INSTANCE_IP": "10.0.0.9", "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION": "true"}
    async with probed(tmp_path, env, livez=HTTP) as agent, Application().serving(agent.pod.listen("127.0.0.1", 8080)):
        assert await agent.status(15020, "/app-health/a/livez") == 200


async def test_a_slow_application_has_its_own_time_and_no_more(tmp_path: pathlib.Path):
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with probed(tmp_path, livez={**HTTP, "timeoutSeconds": 1}) as agent:
        server = await asyncio.start_server(never, sock=agent.pod.listen("127.0.0.1", 8080))
        assert await agent.status(15020, "/app-health/a/livez") == 500
        server.close()


async def test_tls_is_asked_without_a_look_at_the_certificate(tmp_path: pathlib.Path):
    identity = Authority().issue("anybody.example")
    (tmp_path / "pair.pem").write_bytes(identity.certificate + identity.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "pair.pem")
    probe = {"httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}, "timeoutSeconds": 10}
    async with probed(tmp_path, livez=probe) as agent:
        assert await agent.status(15020, "/app-health/a/livez") == 500
        async with Application(201).serving(agent.pod.listen("127.0.0.1", 8443), context):
            assert await agent.status(15020, "/app-health/a/livez") == 201


async def test_a_tcp_probe_asks_whether_somebody_listens(tmp_path: pathlib.Path):
    async with probed(tmp_path, readyz={"tcpSocket": {"port": 7070}}) as agent:
        assert await agent.status(15020, "/app-health/a/readyz") == 500
        listening = agent.pod.listen("127.0.0.1", 7070)
        assert await agent.status(15020, "/app-health/a/readyz") == 200
        listening.close()


class Health(grpc.GenericRpcHandler):
    """grpc.health.v1: answers with the status of the service that is asked for."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self._check)

    async def _check(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if request == b"\x0a\x05ready":
            return b"\x08\x01"
        if request == b"\x0a\x04busy":
            return b"\x08\x02"
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")


async def test_a_grpc_probe_speaks_the_health_protocol(tmp_path: pathlib.Path):
    probes = {name: {"grpc": {"port": 9090, "service": name}} for name in ("ready", "busy", "unknown")}
    async with probed(tmp_path, **probes) as agent:
        assert await agent.status(15020, "/app-health/a/ready") == 500
        # gRPC makes its own sockets, so it listens on one of the test's, which a pipe leads to.
        server = grpc.aio.server(handlers=[Health()])
        path = tmp_path / "grpc.sock"
        server.add_insecure_port(f"unix:{path}")
        await server.start()

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_unix_connection(path)
            async with asyncio.TaskGroup() as group:
                group.create_task(copy(reader, inner_writer))
                group.create_task(copy(inner_reader, writer))

        forwarding = await asyncio.start_server(pipe, sock=agent.pod.listen("127.0.0.1", 9090))
        try:
            answers = [await agent.request(15020, f"/app-health/a/{name}") for name in probes]
        finally:
            forwarding.close()
            await server.stop(None)
        assert [answer.status for answer in answers] == [200, 500, 500]
        assert answers[2].body == b"NOT_FOUND: unknown service"


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize("garbage", [b"\r\n\r\n", b"x" * 100_000, b"GET\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
async def test_a_stranger_does_no_harm(tmp_path: pathlib.Path, garbage: bytes):
    async with probed(tmp_path) as agent:
        reader, writer = await asyncio.open_connection(sock=agent.pod.connect("127.0.0.1", 15020))
        writer.write(garbage)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        assert await agent.status(15020, "/healthz/ready") == 503


async def test_many_idle_connections_are_closed_in_time_and_the_rest_waits(tmp_path: pathlib.Path):
    async with probed(tmp_path) as agent:
        idle = [agent.pod.connect("127.0.0.1", 15020) for _ in range(70)]
        for one in idle[:10]:
            one.close()
        assert await agent.status(15020, "/healthz/ready") == 503
        for one in idle[10:]:
            one.close()
