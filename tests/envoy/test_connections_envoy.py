"""Real Envoy tells a sidecar's connections apart as its listeners say: server names, HTTP by its first bytes, rest."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator

import pytest

from doubles.certificates import Authority, write_identity
from doubles.envoy_samples import endpoint, host, ref, route, service, target
from doubles.file_envoy import file_envoy, free_port, http_get
from ostria.envoy import clusters, endpoints, listeners, routes
from ostria.mesh.model import (
    ConnectionRoute,
    DirectResponse,
    OutboundListener,
    Protocol,
    Subset,
    TrafficPolicy,
    WeightedTarget,
)

pytestmark = pytest.mark.envoy


@contextlib.asynccontextmanager
async def answering(name: str) -> AsyncIterator[int]:
    """A server that answers whatever comes with its name."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if await reader.read(65536):
                writer.write(name.encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def sidecar(folder: pathlib.Path, *connections: ConnectionRoute, http: str = "") -> AsyncIterator[int]:
    """The port of a listener with these routes; subsets v1, v2 and v3 of reviews are three servers."""
    reviews, port = service(protocol=Protocol.TCP), free_port()
    cds, eds = [clusters.BLACK_HOLE_CLUSTER], []
    async with contextlib.AsyncExitStack() as stack:
        for name in ("v1", "v2", "v3"):
            at = await stack.enter_async_context(answering(name))
            cds.append(clusters.outbound_cluster(reviews, reviews.ports[0], Subset(name, ()), TrafficPolicy(), ()))
            eds.append(endpoints.load_assignment(ref(subset=name).name, (endpoint("127.0.0.1", port=at),)))
        told = host(route(targets=(), response=DirectResponse(200, b"requests")))
        listener = OutboundListener("127.0.0.1", port, http, connections)
        envoy = await stack.enter_async_context(
            file_envoy(
                folder,
                listeners=[listeners.outbound_listener(listener, clusters.BLACK_HOLE, detection_timeout=200)],
                clusters=cds,
                routes=[routes.route_configuration("9080", [routes.member(routes.virtual_host(told))])],
                endpoints=eds,
                replace=write_identity(folder, Authority().issue("spiffe://cluster.local/ns/default/sa/caller")),
            )
        )
        yield port
        assert envoy.errors() == []


async def say(port: int, first: bytes) -> str:
    """Who answers a connection that begins with these bytes; "" is nobody."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        return (await reader.read(100)).decode()
    except ConnectionError:
        return ""
    finally:
        writer.close()


def hello(name: str) -> bytes:
    """What a TLS client says first when it asks for a name."""
    outgoing = ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def passed(to: str, *server_names: str) -> ConnectionRoute:
    return ConnectionRoute((target(subset=to),), server_names)


async def test_connections_are_told_apart_by_server_name_and_by_what_they_speak(tmp_path: pathlib.Path) -> None:
    known = (passed("v1", "a.example"), passed("v2", "*.b.example"), passed("v3"))
    async with sidecar(tmp_path, *known, http="9080") as port:
        assert await say(port, hello("a.example")) == "v1"
        assert await say(port, hello("x.b.example")) == "v2"
        assert await say(port, hello("other.example")) == "v3"
        assert await say(port, b"SELECT 1;\n") == "v3"
        answer = await http_get(port, "/", headers=(), authority="anything", method="GET")
        assert answer.body == b"requests"


async def test_what_nobody_takes_goes_where_the_rest_goes(tmp_path: pathlib.Path) -> None:
    async with sidecar(tmp_path, passed("v1", "a.example")) as port:
        assert await say(port, hello("a.example")) == "v1"
        assert await say(port, hello("b.example")) == ""


async def test_connections_are_shared_by_weight(tmp_path: pathlib.Path) -> None:
    shared = ConnectionRoute((WeightedTarget(ref(subset="v1"), 80), WeightedTarget(ref(subset="v2"), 20)))
    async with sidecar(tmp_path, shared) as port:
        answers = [await say(port, b"hello\n") for _ in range(300)]
    assert set(answers) == {"v1", "v2"}
    assert 20 <= answers.count("v2") <= 100  # Six standard deviations around 60.
