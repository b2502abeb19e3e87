"""A real Envoy on a small catalogue: what it is sent it takes, in an order in which no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401 - for the descriptor pool.
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2  # noqa: F401
from google.protobuf import json_format
from google.protobuf.message import Message

from doubles.catalogue import CATALOGUE, FakeStore, Part, object_key, traits_of
from doubles.envoy_process import EnvoyProcess, ads_bootstrap, running_envoy
from ostria.engine import Engine
from ostria.envoy.binary import EnvoyNotFoundError, envoy_path
from ostria.envoy.fragments import ResourceType
from ostria.xds import Delivery, Identity, Verified
from ostria.xds.server import Address, Server

pytestmark = pytest.mark.envoy

ADS = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
NETWORK = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
# What a change of configuration would move, and a restart of the control plane must not.
STILL = (
    "cluster_manager.cluster_added",
    "cluster_manager.cluster_modified",
    "cluster_manager.cluster_removed",
    "listener_manager.listener_added",
    "listener_manager.listener_modified",
    "listener_manager.listener_removed",
    "http.ingress.rds.routes.config_reload",
)


def encode(message: Message, value: dict[str, Any]) -> bytes:
    json_format.ParseDict(value, message)
    return message.SerializeToString(deterministic=True)


def cluster(name: str, timeout: str = "1s") -> Part:
    value = {
        "name": name,
        "type": "EDS",
        "connect_timeout": timeout,
        "eds_cluster_config": {"eds_config": ADS, "service_name": name},
    }
    return Part(ResourceType.CLUSTER, name, encode(Cluster(), value), frozenset({(ResourceType.ENDPOINTS, name)}))


def endpoints(name: str, port: int) -> Part:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    value = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    return Part(ResourceType.ENDPOINTS, name, encode(ClusterLoadAssignment(), value))


def service(name: str, port: int, timeout: str = "1s") -> tuple[Part, ...]:
    return (cluster(name, timeout), endpoints(name, port))


def listener(path: pathlib.Path) -> Part:
    manager = {
        "@type": NETWORK,
        "stat_prefix": "ingress",
        "rds": {"config_source": ADS, "route_config_name": "routes"},
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    value = {
        "name": "ingress",
        "address": {"pipe": {"path": str(path)}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    references = frozenset({(ResourceType.ROUTES, "routes")})
    return Part(ResourceType.LISTENER, "ingress", encode(Listener(), value), references)


def routes(to: str) -> Part:
    value = {
        "name": "routes",
        "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to}}]}
        ],
    }
    references = frozenset({(ResourceType.CLUSTER, to)})
    return Part(ResourceType.ROUTES, "routes", encode(RouteConfiguration(), value), references)


def refused_when_decoded(name: str) -> Part:
    """Breaks a rule of the message itself, so that Envoy takes nothing of the response."""
    return Part(ResourceType.CLUSTER, name, encode(Cluster(), {"connect_timeout": "-5s"}), base=False)


def refused_when_applied(name: str) -> Part:
    """Contradicts what it is added to, so that Envoy takes the rest of the response."""
    return Part(ResourceType.CLUSTER, name, encode(Cluster(), {"lb_policy": "CLUSTER_PROVIDED"}), base=False)


class Bench:
    """A catalogue, a server that can be restarted, one Envoy and two backends that answer with their name."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.db = Engine()
        self.store = FakeStore(self.db)
        self.store.group("alpha", "")
        # No port, so that nobody else can have it.
        self.ingress = folder / "ingress.sock"
        self.backends: dict[str, int] = {}
        self.delivery: Delivery[str]
        self.server: Server[str]
        self.envoy: EnvoyProcess

    async def verify(self, token: str) -> Verified | None:
        return Verified(Identity("default", "sa", token), time.time() + 3600)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.delivery = Delivery(self.db, CATALOGUE, traits_of, self.store, self.store, changed=self.store.changed)
        address = Address(f"unix:{self.folder}/xds.sock")
        async with Server(self.delivery, self.verify, [address]) as self.server:
            yield

    async def put(self, changes: dict[str, tuple[Part, ...] | None]) -> None:
        """One epoch, until Envoy has accepted it."""
        epoch = self.store.put(changes)
        self.server.push()
        async with asyncio.timeout(10):
            await self.server.wait_enforced(epoch)

    async def synced(self) -> None:
        """Wait until Envoy has asked for all its types and is owed nothing."""
        while not any(client.synced and len(client.channels) == 4 for client in self.delivery.statistics()):
            await asyncio.sleep(0.005)

    async def get(self) -> tuple[int, str]:
        reader, writer = await asyncio.open_unix_connection(self.ingress)
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            return int(head.split()[1]), body
        finally:
            writer.close()

    async def clusters(self) -> set[str]:
        """The names of the clusters that Envoy has by CDS."""
        for config in (await self.envoy.config())["configs"]:
            if "ClustersConfigDump" in config["@type"]:
                return {entry["cluster"]["name"] for entry in config.get("dynamic_active_clusters", ())}
        return set()


async def _backend(stack: contextlib.AsyncExitStack, name: str) -> int:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(name)}\r\n\r\n{name}".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    stack.push_async_callback(server.wait_closed)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


@pytest.fixture(params=["DELTA_GRPC"])
async def bench(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    try:
        envoy_path(os.environ)
    except EnvoyNotFoundError as error:
        pytest.skip(str(error))
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        bench = Bench(tmp_path)
        bench.backends = {name: await _backend(stack, name) for name in ("one", "two")}
        bench.store.put(
            {
                "Gw/a": (listener(bench.ingress),),
                "VS/a": (routes("a"),),
                "Svc/a": service("a", bench.backends["one"]),
            }
        )
        bootstrap = ads_bootstrap(f"unix:{tmp_path}/xds.sock", "alpha", "alpha")
        bootstrap["dynamic_resources"]["ads_config"]["api_type"] = request.param
        bench.envoy = await stack.enter_async_context(running_envoy(tmp_path, bootstrap))
        yield bench


async def test_it_serves_follows_changes_and_a_restart_changes_nothing(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
        assert await bench.get() == (200, "one")
        await bench.put({"Svc/a": service("a", bench.backends["two"])})
        assert await bench.get() == (200, "two")
        before = await bench.envoy.stats(*STILL)
    for _ in range(2):
        assert await bench.get() == (200, "two")
        async with bench.serving():
            await bench.synced()
            assert await bench.envoy.stats(*STILL) == before
            (client,) = bench.delivery.statistics()
            assert [channel.tally.sent for channel in client.channels.values()] == [0, 0, 0, 0]
    # And it does hear of what changed while nobody was there: a cluster too, whose endpoints Envoy already has.
    bench.store.put({"Svc/a": service("a", bench.backends["one"], "2s")})
    async with bench.serving():
        await bench.synced()
        assert await bench.get() == (200, "one")
        found = await bench.envoy.stats("cluster_manager.cluster_modified", "cluster_manager.warming_clusters")
        assert list(found.values()) == [before["cluster_manager.cluster_modified"] + 1, 0]


async def test_a_changed_cluster_is_warm_at_once(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
        for seconds in range(2, 12):
            await bench.put({"Svc/a": service("a", bench.backends["one"], f"{seconds}s")})
            assert await bench.get() == (200, "one")
        assert (await bench.envoy.stats("cluster_manager.warming_clusters")).popitem()[1] == 0


async def test_only_the_cluster_changed_while_away(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
    bench.store.put({"Svc/a": service("a", bench.backends["one"], "2s")})
    async with bench.serving():
        await bench.synced()
        (client,) = bench.delivery.statistics()
        assert client.channels[ResourceType.ENDPOINTS].tally.sent == 1
        assert (await bench.envoy.stats("cluster_manager.warming_clusters")).popitem()[1] == 0
        assert await bench.get() == (200, "one")


@contextlib.asynccontextmanager
async def load(bench: Bench) -> AsyncIterator[dict[tuple[int, str], int]]:
    """Callers that never pause; how often they got which answer."""
    answers: dict[tuple[int, str], int] = {}
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            answer = await bench.get()
            answers[answer] = answers.get(answer, 0) + 1

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(call())
        yield answers
        stop.set()


@pytest.mark.parametrize("bench", ["DELTA_GRPC", "GRPC"], indirect=True)
async def test_no_request_is_lost_while_the_world_is_replaced(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
        async with load(bench) as answers:
            name = "a"
            for step in range(40):
                new = f"c{step}"
                await bench.put(replacement(bench, name, new, step))
                name = new
        assert await bench.clusters() == {name}
    assert {status for status, _ in answers} == {200}
    assert sum(answers.values()) > 100


async def test_no_request_is_lost_when_the_world_was_replaced_while_nobody_told(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
    async with load(bench) as answers:
        name = "a"
        for step in range(4):
            new = f"c{step}"
            bench.store.put(replacement(bench, name, new, step))
            name = new
            async with bench.serving():
                await bench.synced()
                assert await bench.clusters() == {name}
    assert {status for status, _ in answers} == {200}


def replacement(bench: Bench, old: str, new: str, step: int) -> dict[str, tuple[Part, ...] | None]:
    """A new service, the route to it and the end of the old one, all in one epoch."""
    backend = bench.backends["one" if step % 2 else "two"]
    return {f"Svc/{old}": None, "VS/a": (routes(new),), f"Svc/{new}": service(new, backend)}


@pytest.mark.parametrize("bench", ["DELTA_GRPC", "GRPC"], indirect=True)
@pytest.mark.parametrize("spoil", [refused_when_decoded, refused_when_applied])
@pytest.mark.parametrize("bad", [(23,), (7, 41)])
async def test_what_envoy_refuses_among_fifty_is_found_and_the_rest_is_served(
    bench: Bench, spoil: Any, bad: tuple[int, ...]
) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
        changes: dict[str, tuple[Part, ...] | None] = {
            f"Svc/s{i}": service(f"s{i}", bench.backends["one"]) for i in range(50)
        }
        changes |= {f"EF/s{i}": (spoil(f"s{i}"),) for i in bad}
        started = time.monotonic()
        await bench.put(changes)
        took = time.monotonic() - started
        assert set(bench.store.convicted) == {object_key(f"EF/s{i}") for i in bad}
        # Without what spoiled them even these clusters are served.
        assert await bench.clusters() == {"a", *(f"s{i}" for i in range(50))}
        print(f"{took * 1000:.0f} ms, {bench.delivery.statistics()[0].channels[ResourceType.CLUSTER].tally}")


async def test_a_new_service_that_is_refused_as_a_whole_is_withheld_and_the_other_49_are_served(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
        changes: dict[str, tuple[Part, ...] | None] = {
            f"Svc/s{i}": service(f"s{i}", bench.backends["one"], "-5s" if i == 30 else "1s") for i in range(50)
        }
        await bench.put(changes)
        assert set(bench.store.convicted) == {object_key("Svc/s30")}
        assert await bench.clusters() == {"a", *(f"s{i}" for i in range(50) if i != 30)}
        before = await bench.envoy.stats(*STILL, "cluster_manager.cds.update_rejected")
    async with bench.serving():
        await bench.synced()
        assert await bench.envoy.stats(*before) == before


async def test_a_changed_route_that_is_refused_leaves_the_last_good_one(bench: Bench) -> None:
    async with bench.serving():
        await bench.envoy.wait_ready()
        await bench.synced()
        broken = encode(RouteConfiguration(), {"virtual_hosts": [{"name": "all", "domains": ["*"]}]})
        await bench.put({"EF/a": (Part(ResourceType.ROUTES, "routes", broken, base=False),)})
        assert list(bench.store.convicted) == [object_key("EF/a")]
        assert await bench.get() == (200, "one")
