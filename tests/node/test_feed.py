"""What the network and the kubelet are told, and in which order: a network and a kubelet that only listen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import pytest

from ostria.base import ObjectKey
from ostria.base.clock import ManualClock
from ostria.node import feed
from ostria.node.controllers.load_balancers import PREFERRED
from ostria.node.controllers.mirror import Mirror
from ostria.node.feed import Feed
from ostria.node.host_ports import HostPorts
from ostria.node.kubelet import PodChange
from ostria.node.network.inbound import Exposure
from ostria.node.network.services import EndpointSlice, Service
from ostria.resources import Change
from ostria.resources.shapes import Meta
from ostria.sources.documents import Document


class Listener:
    """The network and the kubelet: `told` is what they have heard, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ports: Mapping[str, int] = {}
        self.refused: Mapping[str, str] = {}

    async def update(self, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
        ends = [each.terminating for item in slices for each in item.endpoints]
        self.told.append(f"network: {'terminating' if any(ends) else 'serving' if ends else 'nothing'}")

    async def expose(self, exposure: Exposure) -> int:
        return exposure.preferred

    async def withdraw(self, name: str) -> None:
        pass

    def apply(self, changes: Iterable[PodChange]) -> None:
        for change in changes:
            if change.document is None:
                self.told.append("kubelet: gone")
            else:
                ends = "deletionTimestamp" in change.document["metadata"]
                self.told.append(f"kubelet: {'ends' if ends else 'runs'}")


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.listener = Listener()
        self.mirror = Mirror()
        ports = HostPorts(self.listener, PREFERRED, strict=False)
        self.feed = Feed(self.mirror, self.listener, ports, "here", self.clock)

    @property
    def told(self) -> list[str]:
        return self.listener.told

    def read(self, kind: str, value: dict[str, Any] | None, name: str = "web") -> None:
        held = None if value is None else Document(Meta(name, "default"), value)
        self.feed.hear(list(self.mirror.apply([Change(ObjectKey("", kind, "default", name), held)])))

    def pod(self, *, grace: int | None = None, node: str = "here") -> None:
        meta = {"name": "web", "namespace": "default", "uid": "a"}
        ending = {} if grace is None else {"deletionTimestamp": "now", "deletionGracePeriodSeconds": grace}
        self.read("Pod", {"metadata": {**meta, **ending}, "spec": {"nodeName": node}})

    def endpoint(self, *, terminating: bool = False) -> None:
        meta = {"name": "web", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}
        conditions = {"ready": not terminating, "serving": True, "terminating": terminating}
        entry = {"addresses": ["10.244.0.5"], "conditions": conditions, "targetRef": {"uid": "a"}}
        self.read("EndpointSlice", {"metadata": meta, "addressType": "IPv4", "endpoints": [entry]})

    async def turn(self) -> None:
        """Let everybody do what they can do without time."""
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A pod that serves, known to everybody."""
    world = World()
    world.pod()
    world.endpoint()
    world.feed.begin()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(world.feed.keep_network()), group.create_task(world.feed.run(world.listener.apply))]
        await world.turn()
        assert sorted(world.told) == ["kubelet: runs", "network: serving"]
        world.told.clear()
        yield world
        for task in tasks:
            task.cancel()


async def test_a_pod_ends_after_the_network_has_let_go_of_it_and_clients_have_had_time(world: World) -> None:
    world.pod(grace=30)
    await world.turn()
    assert world.told == [], "it still serves"
    world.endpoint(terminating=True)
    await world.turn()
    assert world.told == ["network: terminating"]
    world.clock.advance(feed.LINGER)
    await world.turn()
    assert world.told == ["network: terminating", "kubelet: ends"]


async def test_a_pod_that_serves_nobody_and_one_that_is_forced_end_at_once(world: World) -> None:
    world.pod(grace=0)
    assert world.told == ["kubelet: ends"]
    world.told.clear()
    world.read("EndpointSlice", None)
    await world.turn()
    world.pod(grace=30)
    assert world.told == ["network: nothing", "kubelet: ends"]


async def test_a_pod_whose_endpoints_nobody_withdraws_ends_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "WITHDRAWAL", 0.01)
    world.pod(grace=30)
    async with asyncio.timeout(5):
        while not world.told:
            await asyncio.sleep(0.01)
            world.clock.advance(feed.LINGER)
    assert world.told == ["kubelet: ends"]


async def test_what_happens_to_a_pod_that_waits_for_its_end_is_told_with_it(world: World) -> None:
    world.pod(grace=30)
    world.pod(grace=20)
    world.read("Pod", None)
    assert world.told == ["kubelet: gone"]
    world.endpoint(terminating=True)
    world.clock.advance(feed.LINGER)
    await world.turn()
    assert world.told == ["kubelet: gone", "network: terminating"]


async def test_pods_of_other_nodes_are_not_told(world: World) -> None:
    world.read("Pod", None)
    world.told.clear()
    world.pod(node="there")
    assert world.told == []


async def test_what_pods_mount_is_told_by_namespace_and_refused_node_ports_once(world: World) -> None:
    changed: list[str] = []
    world.feed.objects_changed = changed.append
    world.read("Secret", {"metadata": {"name": "keys", "namespace": "default"}}, "keys")
    assert changed == ["default"]
    refused: list[str] = []
    world.feed.port_refused = lambda key, why: refused.append(f"{key.name} {why}")
    world.listener.refused = {"default/web:80": "port 30080 is taken"}
    ports = [{"port": 80, "nodePort": 30080}, {"port": 443, "nodePort": 30443}]
    world.listener.ports = {"default/web:443": 30444}
    spec = {"clusterIP": "10.96.1.1", "ports": ports}
    service = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    for _ in range(2):
        world.read("Service", service)
        await world.turn()
    assert refused == [
        "web node port: 30443 is taken on this machine, 127.0.0.1:30444 leads here",
        "web node port: port 30080 is taken",
    ]


async def test_a_network_that_refuses_is_told_again(world: World) -> None:
    update = world.listener.update
    failures = iter([OSError("no"), OSError("no")])

    async def refuse(services: Any, slices: Any) -> None:
        with contextlib.suppress(StopIteration):
            raise next(failures)
        await update(services, slices)

    world.listener.update = refuse  # type: ignore[method-assign]
    world.endpoint(terminating=True)
    for _ in range(3):
        await world.turn()
        world.clock.advance(feed.RETRY)
    await world.turn()
    assert world.told == ["network: terminating"]
