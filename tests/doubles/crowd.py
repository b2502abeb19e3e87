"""Two hundred synthetic proxies on a big mesh, and what one change costs them: what the cost model is measured with."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from doubles import big_mesh
from doubles.ads_client import AdsClient, ads_channel
from doubles.control_planes import trusting
from ostria.apps.control_plane import ControlPlane
from ostria.engine import Engine
from ostria.envoy.fragments import ResourceType
from ostria.mesh.settings import Settings
from ostria.resources import Change
from ostria.sources import MemorySource
from ostria.xds.server import Address

CLIENTS = 200
# The service whose objects change; it is asked for by a tenth of the clients, at every size of the mesh.
CHANGED = 10


class Cost(NamedTuple):
    """Queries run by one change, and seconds from the change to the last acceptance."""

    queries: int
    seconds: float


class Crowd:
    """A control plane of so many services, and clients that hold twenty resources each."""

    def __init__(self, istiod: ControlPlane, clients: list[AdsClient]) -> None:
        self.istiod = istiod
        self.clients = clients

    async def cost(self, change: Change) -> Cost:
        """Apply one change and wait until everybody whom it concerns has accepted what follows."""
        db = self.istiod.db
        before = db.executions.total()
        start = time.perf_counter()
        epoch = self.istiod.apply([change])
        state = await self.istiod.wait_enforced(epoch.number)
        seconds = time.perf_counter() - start
        assert epoch.changed
        assert state.proxies == CLIENTS // 10, "the change must reach those who hold it"
        return Cost(db.executions.total() - before, seconds)


def wanted(client: int) -> list[tuple[ResourceType, str]]:
    """Twenty resources: of five services the cluster, its subset or second name, the endpoints and the virtual host."""
    found: list[tuple[ResourceType, str]] = []
    for service in range(client // 20 * 10, client // 20 * 10 + 5):
        subset = "v1" if service % 10 == 0 else ""
        found += [
            (ResourceType.CLUSTER, big_mesh.cluster_of(service)),
            (ResourceType.ENDPOINTS, big_mesh.cluster_of(service)),
            (ResourceType.ENDPOINTS, big_mesh.cluster_of(service, subset)),
            (ResourceType.VIRTUAL_HOST, f"{big_mesh.PORT}/{big_mesh.host_of(service)}"),
        ]
    return found


@contextlib.asynccontextmanager
async def _istiod(
    folder: pathlib.Path, services: int, engine: Engine | None, settings: Settings
) -> AsyncIterator[tuple[ControlPlane, str]]:
    """A control plane of so many services, and its socket."""
    source = MemorySource()
    source.apply([change.object for change in big_mesh.big_mesh(services) if change.object])
    socket = f"unix:{folder}/xds.sock"
    istiod = ControlPlane(source, trusting, [Address(socket)], engine=engine, settings=settings)
    task = asyncio.get_running_loop().create_task(istiod.run())
    try:
        await istiod.serving.wait()
        yield istiod, socket
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


CALLED = 20
"""So many services are called by the workload of `on_demand_proxy`: the first ones."""


@contextlib.asynccontextmanager
async def on_demand_proxy(folder: pathlib.Path, services: int) -> AsyncIterator[tuple[ControlPlane, AdsClient]]:
    """One synthetic sidecar on demand in a mesh of so many services, whose workload has called twenty of them."""
    async with (
        _istiod(folder, services, None, Settings(on_demand=True)) as (istiod, socket),
        ads_channel(socket) as channel,
        AdsClient(channel, pod="ns-0/account/svc-0-0", node="sidecar~10.0.0.1~svc-0-0.ns-0~x") as client,
    ):
        client.subscribe(ResourceType.CLUSTER)
        client.subscribe(ResourceType.LISTENER)
        await client.wait(lambda: bool(client.held[ResourceType.LISTENER]) and bool(client.held[ResourceType.CLUSTER]))
        client.subscribe(ResourceType.ROUTES, str(big_mesh.PORT))
        names = [f"{big_mesh.PORT}/{big_mesh.host_of(number)}" for number in range(CALLED)]
        client.subscribe(ResourceType.VIRTUAL_HOST, *names)
        await client.wait(lambda: len(outbound(client)) == CALLED)
        client.subscribe(ResourceType.ENDPOINTS, *outbound(client))
        await client.wait(lambda: len(client.held[ResourceType.VIRTUAL_HOST]) == CALLED)
        await client.wait(lambda: len(client.held[ResourceType.ENDPOINTS]) == CALLED)
        yield istiod, client


def outbound(client: AdsClient) -> list[str]:
    """The clusters that a client holds, but for those that every sidecar has."""
    return [name for name in client.held[ResourceType.CLUSTER] if name.startswith("outbound|")]


@contextlib.asynccontextmanager
async def crowd(folder: pathlib.Path, services: int, engine: Engine | None = None) -> AsyncIterator[Crowd]:
    """The mesh and its clients, all synced."""
    async with (
        _istiod(folder, services, engine, Settings()) as (istiod, socket),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = []
        for number in range(CLIENTS):
            if number % 20 == 0:
                channel = await stack.enter_async_context(ads_channel(socket))
            pod = f"{big_mesh.namespace_of(number // 2)}/account/svc-{number // 2}-{number % 2}"
            node = f"sidecar~10.0.0.1~svc-{number // 2}-{number % 2}.{big_mesh.namespace_of(number // 2)}~x"
            client = await stack.enter_async_context(AdsClient(channel, pod=pod, node=node))
            by_type: dict[ResourceType, list[str]] = {}
            for type, name in wanted(number):
                by_type.setdefault(type, []).append(name)
            for type, names in by_type.items():
                client.subscribe(type, *names)
            clients.append(client)
        for number, client in enumerate(clients):
            held = set(wanted(number))
            await client.wait(lambda client=client, held=held: all(client.version(*each) for each in held))
        yield Crowd(istiod, clients)


# An endpoint that goes, a route and a policy that change: by name, and how each is made in round `n`.
CHANGES = {
    "endpoint": lambda n: big_mesh.endpoints(CHANGED, without=n % 2),
    "VirtualService": lambda n: big_mesh.virtual_service(CHANGED, timeout=11 + n),
    "DestinationRule": lambda n: big_mesh.destination_rule(CHANGED, connections=101 + n),
}
