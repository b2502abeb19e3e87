"""Real Envoy treats destinations as the mesh's policies say."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator

import pytest

from doubles.certificates import Authority, write_identity
from doubles.envoy_samples import endpoint, host, ref, route, service
from doubles.file_envoy import Backend, FileEnvoy, file_envoy, free_port, http_get, serving
from ostria.envoy import clusters, listeners, routes
from ostria.envoy.endpoints import assignment
from ostria.mesh.localities import arranged
from ostria.mesh.model import (
    ClientTls,
    ConnectionPool,
    ConnectionRoute,
    Endpoint,
    LocalityBalancing,
    OutboundListener,
    OutlierDetection,
    Protocol,
    Retries,
    RetryBudget,
    TlsMode,
    TrafficPolicy,
    Tunnel,
    Warmup,
    WeightedTarget,
)

pytestmark = pytest.mark.envoy

PLAIN = ClientTls(TlsMode.DISABLE)


@contextlib.asynccontextmanager
async def caller(
    folder: pathlib.Path, policy: TrafficPolicy, members: tuple[Endpoint, ...], *, locality: str = ""
) -> AsyncIterator[tuple[FileEnvoy, int]]:
    """An Envoy at `locality` whose listener sends requests to `members` under a policy."""
    reviews, port = service(), free_port()
    groups = arranged(members, policy.locality, locality, ())
    once = route(retries=Retries(attempts=0))
    async with file_envoy(
        folder,
        listeners=[listeners.outbound_listener(OutboundListener("127.0.0.1", port, "9080"), clusters.BLACK_HOLE)],
        clusters=[
            clusters.BLACK_HOLE_CLUSTER,
            clusters.outbound_cluster(reviews, reviews.ports[0], None, policy, ()),
        ],
        routes=[routes.route_configuration("9080", [routes.member(routes.virtual_host(host(once)))])],
        endpoints=[assignment(ref().name, groups)],
        replace=write_identity(folder, Authority().issue("spiffe://cluster.local/ns/default/sa/caller")),
    ) as envoy:
        yield envoy, port
        assert envoy.errors() == []


async def names(port: int, count: int) -> list[str]:
    answers = [await http_get(port, "/", authority="reviews") for _ in range(count)]
    return [str(answer.json()["backend"]) for answer in answers if answer.body]


async def test_the_near_are_called_until_they_fail(tmp_path: pathlib.Path) -> None:
    near, far = Backend("near"), Backend("far")
    policy = TrafficPolicy(
        tls=PLAIN,
        locality=LocalityBalancing(failover=(("eu", "us"),)),
        outliers=OutlierDetection(consecutive_5xx=2, base_ejection_time=60_000, max_ejection_percent=100),
        warmup=Warmup(1_000, 20.0, 1.5),
        retry_budget=RetryBudget(50.0, 1),
    )
    async with serving(near, far):
        members = (
            endpoint("127.0.0.1", port=near.port, locality="eu/a"),
            endpoint("127.0.0.1", port=far.port, locality="us/a"),
        )
        async with caller(tmp_path, policy, members, locality="eu/a") as (_, port):
            assert set(await names(port, 20)) == {"near"}
            near.status = 503
            assert await names(port, 2) == ["near", "near"]
            assert set(await names(port, 20)) == {"far"}


async def test_traffic_is_shared_between_localities(tmp_path: pathlib.Path) -> None:
    one, other, rest = Backend("one"), Backend("other"), Backend("rest")
    policy = TrafficPolicy(tls=PLAIN, locality=LocalityBalancing(distribute=(("eu", (("eu/a", 90), ("eu/b", 10))),)))
    async with serving(one, other, rest):
        members = tuple(
            endpoint("127.0.0.1", port=backend.port, locality=place)
            for backend, place in ((one, "eu/a"), (other, "eu/b"), (rest, "us"))
        )
        async with caller(tmp_path, policy, members, locality="eu/a/1") as (_, port):
            seen = await names(port, 600)
    assert set(seen) == {"one", "other"}
    assert 25 <= seen.count("other") <= 105  # Six standard deviations around 60.


class Heard:
    """A server that keeps the first line that it is sent, and answers with it."""

    def __init__(self, answer: bytes = b"") -> None:
        self.lines: list[bytes] = []
        self._answer = answer
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.lines.append(await reader.readline())
            if self._answer:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer)
            writer.write(await reader.readline())
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def connected(folder: pathlib.Path, policy: TrafficPolicy, server: Heard) -> AsyncIterator[bytes]:
    """What comes back for a line that is sent through an Envoy that passes it on unread."""
    bytes_only, port = service(protocol=Protocol.TCP), free_port()
    way = ConnectionRoute((WeightedTarget(ref(), 100),), tunnel=policy.tunnel)
    async with file_envoy(
        folder,
        listeners=[
            listeners.outbound_listener(OutboundListener("127.0.0.1", port, connections=(way,)), clusters.BLACK_HOLE)
        ],
        clusters=[
            clusters.BLACK_HOLE_CLUSTER,
            clusters.outbound_cluster(bytes_only, bytes_only.ports[0], None, policy, ()),
        ],
        endpoints=[assignment(ref().name, arranged((endpoint("127.0.0.1", port=server.port),), None, "", ()))],
    ) as envoy:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        yield await reader.readline()
        writer.close()
        assert envoy.errors() == []


async def test_a_tunnel_is_asked_of_an_http_proxy(tmp_path: pathlib.Path) -> None:
    server = Heard(b"HTTP/1.1 200 OK\r\n\r\n")
    policy = TrafficPolicy(tls=PLAIN, tunnel=Tunnel("partner.example.com", 443))
    async with server.serving(), connected(tmp_path, policy, server) as answer:
        assert answer == b"hello\n"
    assert server.lines == [b"CONNECT partner.example.com:443 HTTP/1.1\r\n"]


async def test_an_endpoint_is_told_who_the_client_is(tmp_path: pathlib.Path) -> None:
    server = Heard()
    policy = TrafficPolicy(tls=PLAIN, proxy_protocol="V1", pool=ConnectionPool(max_connections=5))
    async with server.serving(), connected(tmp_path, policy, server) as answer:
        assert answer == b"hello\n"
    (line,) = server.lines
    assert line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
