"""A change costs what it touches, not what the mesh holds (invariant 3): the execution log at three sizes."""

from __future__ import annotations

import asyncio
import functools
import pathlib
from collections.abc import Callable

import pytest

from doubles import big_mesh
from doubles.crowd import CALLED, CHANGES, crowd, on_demand_proxy, outbound
from doubles.rebuilding_engine import RebuildingEngine
from ostria.engine import Engine
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import ResourceType
from ostria.mesh.traits import ClientTraits


async def queries(folder: pathlib.Path, services: int, engine: Callable[[], Engine] = Engine) -> dict[str, int]:
    """How many queries each kind of change runs, in a mesh of so many services."""
    folder = folder / str(services)
    folder.mkdir()
    async with asyncio.timeout(100), crowd(folder, services, engine()) as mesh:
        for make in CHANGES.values():
            await mesh.cost(make(0))  # The first of its kind also forgets what the mesh began with.
        return {kind: (await mesh.cost(make(1))).queries for kind, make in CHANGES.items()}


def check(found: dict[int, dict[str, int]]) -> None:
    """Within 10 % of each other at all sizes."""
    for kind in CHANGES:
        counts = [by_kind[kind] for by_kind in found.values()]
        assert max(counts) <= 1.1 * min(counts), f"{kind}: {dict(zip(found, counts, strict=True))} queries"


async def test_the_number_of_queries_after_a_change_does_not_grow_with_the_mesh(tmp_path: pathlib.Path) -> None:
    check({services: await queries(tmp_path, services) for services in (100, 1_000, 10_000)})


def every_endpoint_of_the_mesh(db: Engine) -> None:
    client = ClientTraits(namespace="ns-0")
    for name in names(db, ResourceType.CLUSTER, client):
        fragment(db, ResourceType.ENDPOINTS, name, scope(db, ResourceType.ENDPOINTS, name).project(client))


async def test_an_engine_that_rebuilds_everything_would_be_found_out(tmp_path: pathlib.Path) -> None:
    rebuilding = functools.partial(RebuildingEngine, every_endpoint_of_the_mesh)
    found = {services: await queries(tmp_path, services, rebuilding) for services in (100, 1_000)}
    with pytest.raises(AssertionError, match="queries"):
        check(found)


async def test_a_proxy_on_demand_holds_and_is_woken_by_what_its_workload_calls(tmp_path: pathlib.Path) -> None:
    """Twenty of a hundred or of ten thousand: the same clusters, the same queries, and nothing of the others."""
    found: dict[str, dict[int, int]] = {}
    for services in (100, 1_000, 10_000):
        folder = tmp_path / str(services)
        folder.mkdir()
        async with asyncio.timeout(100), on_demand_proxy(folder, services) as (istiod, client):
            assert {name.split("|")[3] for name in outbound(client)} == {big_mesh.host_of(at) for at in range(CALLED)}
            # Besides there are its own port and the three that every sidecar has.
            assert len(client.held[ResourceType.CLUSTER]) == CALLED + 4
            for what, number, reaches in (("called", 10, 1), ("not called", 70, 0)):
                for kind, make in {
                    "endpoint": lambda n, of=number: big_mesh.endpoints(of, without=n % 2),
                    "VirtualService": lambda n, of=number: big_mesh.virtual_service(of, timeout=11 + n),
                    "DestinationRule": lambda n, of=number: big_mesh.destination_rule(of, connections=101 + n),
                }.items():
                    for round_ in range(2):
                        before, heard = istiod.db.executions.total(), len(client.responses)
                        epoch = istiod.apply([make(round_)])
                        state = await istiod.wait_enforced(epoch.number)
                        assert state.proxies == reaches, (what, kind)
                        assert (len(client.responses) > heard) == bool(reaches), (what, kind)
                    found.setdefault(f"{kind}, {what}", {})[services] = istiod.db.executions.total() - before
    for change, counts in found.items():
        assert max(counts.values()) <= 1.1 * min(counts.values()), f"{change}: {counts} queries"
