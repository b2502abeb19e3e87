"""What one change costs in meshes of 100, 1,000 and 10,000 services, with 200 proxies that hold 20 resources each."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile

from benchmarks.report import Section, Spread
from doubles.crowd import CHANGES, CLIENTS, crowd

SIZES = (100, 1_000, 10_000)
ROUNDS = 200


async def _measure(services: int) -> dict[str, tuple[int, Spread]]:
    found: dict[str, tuple[int, Spread]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with crowd(pathlib.Path(folder), services) as mesh:
            for kind, make in CHANGES.items():
                await mesh.cost(make(0))
                costs = [await mesh.cost(make(round + 1)) for round in range(ROUNDS)]
                (queries,) = {cost.queries for cost in costs}
                found[kind] = (queries, Spread([cost.seconds * 1e3 for cost in costs]))
    return found


async def _measure_all() -> dict[int, dict[str, tuple[int, Spread]]]:
    return {services: await _measure(services) for services in SIZES}


def run() -> Section:
    """Measure all sizes, one after the other."""
    by_size = asyncio.run(_measure_all())
    rows = []
    for kind in CHANGES:
        least = by_size[SIZES[0]][kind][1].median
        for services in SIZES:
            queries, spread = by_size[services][kind]
            rows.append([kind, f"{services:,}", str(queries), str(spread), f"{spread.median / least:.2f}"])
    method = (
        f"{CLIENTS} synthetic delta ADS clients of 20 subscriptions each, in the control plane's own process, over a "
        f"Unix socket without TLS. One object of one service changes, which a tenth of the clients hold, {ROUNDS} "
        "times: the queries that the engine ran, and the time from the change to the last acceptance, the clients' own "
        "work included. The ratio is to the smallest mesh."
    )
    header = ("change", "services", "queries", "to the last acceptance, ms", "ratio")
    return Section("The cost of a change", method, header, rows)
