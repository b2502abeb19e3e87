"""Real Envoy looks up the names that requests and TLS clients give, for hosts with resolution DYNAMIC_DNS."""

from __future__ import annotations

import asyncio
import pathlib
import ssl

import pytest

from doubles.envoy_samples import host, route, service
from doubles.file_envoy import Backend, file_envoy, free_port, http_get, serving
from ostria.envoy import clusters, listeners, routes
from ostria.mesh.model import (
    ClusterRef,
    ConnectionRoute,
    OutboundListener,
    Protocol,
    Resolution,
    TrafficPolicy,
    WeightedTarget,
)

pytestmark = pytest.mark.envoy

# RFC 6761: every name under it is this machine, without anybody being asked.
WILD = "*.localhost"


def dynamic(protocol: Protocol, port: int) -> bytes:
    found = service(WILD, protocol, port=port, resolution=Resolution.DYNAMIC_DNS, external=True)
    return clusters.outbound_cluster(found, found.ports[0], None, TrafficPolicy(), ())


async def test_requests_go_to_the_name_that_they_give(tmp_path: pathlib.Path) -> None:
    here = Backend("here")
    port = free_port()
    told = host(route(targets=(WeightedTarget(ClusterRef(WILD, 80), 100),)), domains=(WILD,))
    async with (
        serving(here),
        file_envoy(
            tmp_path,
            listeners=[
                listeners.outbound_listener(
                    OutboundListener("127.0.0.1", port, "80", looks_up=True), clusters.BLACK_HOLE
                )
            ],
            clusters=[clusters.BLACK_HOLE_CLUSTER, dynamic(Protocol.HTTP, 80)],
            routes=[routes.route_configuration("80", [routes.member(routes.virtual_host(told))])],
        ) as envoy,
    ):
        answer = await http_get(port, "/", authority=f"a.localhost:{here.port}")
        assert answer.json()["backend"] == "here"
        assert (await http_get(port, "/", authority="elsewhere.example")).status == 404
        assert envoy.errors() == []


async def test_tls_goes_to_the_name_that_the_client_asks_for(tmp_path: pathlib.Path) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(5))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    there = server.sockets[0].getsockname()[1]
    port = free_port()
    taken = ConnectionRoute((WeightedTarget(ClusterRef(WILD, there), 100),), (WILD,), looks_up=there)
    async with (
        server,
        file_envoy(
            tmp_path,
            listeners=[
                listeners.outbound_listener(
                    OutboundListener("127.0.0.1", port, connections=(taken,)), clusters.BLACK_HOLE
                )
            ],
            clusters=[clusters.BLACK_HOLE_CLUSTER, dynamic(Protocol.TLS, there)],
        ) as envoy,
    ):
        with pytest.raises((ssl.SSLError, OSError)):
            await asyncio.open_connection(
                "127.0.0.1", port, ssl=ssl.create_default_context(), server_hostname="b.localhost"
            )
        assert [first[:2] for first in heard] == [b"\x16\x03"]  # A TLS record of a handshake.
        assert envoy.errors() == []
