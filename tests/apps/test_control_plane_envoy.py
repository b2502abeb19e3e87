"""The whole control plane against real Envoys: what it sends they take, whatever the mesh holds."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random

import pytest

from doubles.control_planes import Ground, control_plane
from doubles.envoy_process import EnvoyProcess
from doubles.mesh_pool import POOL, parsed
from doubles.meshes import pod
from ostria.base import ObjectKey
from ostria.mesh.traits import ProxyType
from ostria.resources import Change

pytestmark = pytest.mark.envoy

GATEWAY_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: istio-system
  labels: {app: istio-ingressgateway, istio: ingressgateway}
  annotations: {inject.istio.io/templates: gateway}
"""
PODS = "---".join((GATEWAY_POD, pod("client", "10.0.0.77", {"app": "reviews", "version": "v1"})))
ON_DEMAND_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: asking
  namespace: default
  labels: {app: reviews, version: v1}
  annotations: {ostria.dev/on-demand-xds: "true"}
"""


async def test_real_envoys_take_everything_that_random_meshes_come_to(tmp_path: pathlib.Path) -> None:
    draw = random.Random(20261121)
    async with (
        asyncio.timeout(100),
        control_plane(tmp_path, f"{PODS}---{ON_DEMAND_POD}") as ground,
        ground.proxy("client") as sidecar,
        ground.proxy("asking") as on_demand,
        ground.proxy("edge", namespace="istio-system", type=ProxyType.GATEWAY) as gateway,
    ):
        await sidecar.wait_ready()
        await on_demand.wait_ready()
        await gateway.wait_ready()
        chosen = dict.fromkeys(POOL, 0)
        for _ in range(80):
            changes: dict[ObjectKey, Change] = {}
            for slot in draw.sample(list(POOL), draw.randint(1, 3)):
                old, chosen[slot] = chosen[slot], draw.randrange(len(POOL[slot]))
                changes |= {change.key: Change(change.key, None) for change in parsed(slot, old)}
                changes |= {change.key: change for change in parsed(slot, chosen[slot])}
            epoch = ground.istiod.apply(list(changes.values()))
            await ground.istiod.wait_enforced(epoch.number)
            assert ground.refusals() == []
        assert [problem for problem in ground.istiod.problems() if problem.code == "envoy-refused"] == []
        clients = {client.name.split("~")[2]: client for client in ground.istiod.delivery.statistics()}
        assert all(client.synced for client in clients.values())
        assert counts(ground) > 150
        assert set(clients) == {"client.default", "asking.default", "edge.istio-system"}


def counts(ground: Ground) -> int:
    """Responses that proxies have accepted."""
    return sum(
        channel.tally.accepted for client in ground.istiod.delivery.statistics() for channel in client.channels.values()
    )


async def test_a_control_plane_that_comes_back_changes_nothing(tmp_path: pathlib.Path) -> None:
    """With every kind in use: the versions are the same, so Envoy is sent nothing that it would apply."""
    everything = [change for slot in POOL for change in parsed(slot, 1)]
    updates = ("cluster_manager.cluster_modified", "cluster_manager.cluster_added", "cluster_manager.cluster_removed")
    updates += ("listener_manager.listener_modified", "listener_manager.listener_added")
    reconnects = "control_plane.connected_state"
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as proxies:
        async with control_plane(tmp_path, PODS) as ground:
            ground.source.apply([change.object for change in everything if change.object])
            sidecar = await proxies.enter_async_context(ground.proxy("client"))
            edge = ground.proxy("edge", namespace="istio-system", type=ProxyType.GATEWAY)
            gateway = await proxies.enter_async_context(edge)
            await sidecar.wait_ready()
            await gateway.wait_ready()
            await ground.settled()
            before = [await envoy.stats(*updates) for envoy in (sidecar, gateway)]
        for envoy in (sidecar, gateway):
            while (await envoy.stats(reconnects))[reconnects]:
                await asyncio.sleep(0.01)
        async with control_plane(tmp_path, PODS, authority=ground.authority) as back:
            back.source.apply([change.object for change in everything if change.object])
            while len(back.istiod.delivery.statistics()) < 2:
                await asyncio.sleep(0.01)
            await back.settled()
            assert [await envoy.stats(*updates) for envoy in (sidecar, gateway)] == before
            assert before[0]["cluster_manager.cluster_added"] > 5


RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: rule-%d}
spec:
  hosts: [host-%d.example.com]
  http: [{redirect: {uri: "%s"}}]
---
"""
# Istio's validation takes a redirect to two lines, and so does ours; Envoy does not, as they come to be a header.
REFUSED = r"/a\nb"


def rules(bad: int) -> str:
    return "".join(RULE % (number, number, REFUSED if number == bad else "/a") for number in range(50))


async def test_what_envoy_refuses_among_fifty_is_set_aside_and_stays_so(tmp_path: pathlib.Path) -> None:
    guilty = ObjectKey("", "VirtualService", "default", "rule-17")
    async with asyncio.timeout(60), control_plane(tmp_path, PODS) as ground, ground.proxy("client") as sidecar:
        await sidecar.wait_ready()
        ground.source.apply(rules(bad=17))
        await ground.until(lambda: "ostria.dev/refused" in str(ground.source.document(guilty)))
        assert [problem.object for problem in ground.istiod.problems()] == [guilty]
        await ground.settled()
        assert await served(sidecar) == {f"host-{number}.example.com:80" for number in range(50) if number != 17}
        remembered = ground.source.changes()
    # Neither a new control plane nor a new Envoy meets it again.
    async with asyncio.timeout(60), control_plane(tmp_path, "", authority=ground.authority) as back:
        back.source.apply([change.object for change in remembered if change.object])
        async with back.proxy("client-2", claims="client", token="client") as sidecar:
            await sidecar.wait_ready()
            await back.settled()
            assert back.refusals() == []
            assert len(await served(sidecar)) == 49
            assert [problem.object for problem in back.istiod.problems()] == [guilty]


async def served(envoy: EnvoyProcess) -> set[str]:
    """The virtual hosts of port 80 that an Envoy has, but for its catch-all."""
    dump = await envoy.config()
    tables = [
        route["route_config"]
        for part in dump["configs"]
        for route in part.get("dynamic_route_configs", ())
        if route["route_config"]["name"] == "80"
    ]
    return {host["name"] for table in tables for host in table["virtual_hosts"] if host["domains"] != ["*"]}


@pytest.mark.parametrize(
    ("pod_name", "claims"), [("client", "other"), ("stranger", "stranger")], ids=["another pod", "no pod of the mesh"]
)
async def test_a_stream_is_served_only_as_its_tokens_pod(tmp_path: pathlib.Path, pod_name: str, claims: str) -> None:
    async with (
        asyncio.timeout(30),
        control_plane(tmp_path, PODS) as ground,
        ground.proxy(pod_name, claims=claims) as envoy,
    ):
        attempts = "cluster_manager.cds.update_attempt"
        tried = 0
        while tried < 2:
            with contextlib.suppress(OSError):
                tried = (await envoy.stats(attempts))[attempts]
            await asyncio.sleep(0.02)
        assert not ground.istiod.delivery.statistics()
