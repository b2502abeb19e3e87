"""How soon a changed Secret is what clients are shown, and whether a connection is lost meanwhile."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import time

from benchmarks.report import Section, Spread
from doubles.certificates import Authority
from doubles.secured_gateway import change, connect, edge, shown, tls

CHANGES = 200
CONNECTIONS = 10

_REQUEST = b"GET / HTTP/1.1\r\nhost: one.example\r\n\r\n"


class _Load:
    """Connections that are kept, with a request on each of them again and again."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.answered = 0
        self.lost = 0

    async def run(self) -> None:
        try:
            reader, writer = await connect(self._folder, "one.example")
            while True:
                writer.write(_REQUEST)
                await reader.readuntil(b"\r\n\r\n")
                self.answered += 1
                await asyncio.sleep(0.02)
        except (OSError, asyncio.IncompleteReadError):
            self.lost += 1


async def _measure() -> tuple[Spread, Spread, _Load]:
    authority = Authority()
    identities = [authority.issue("one.example") for _ in range(CHANGES + 1)]
    taken, seen = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        load = _Load(folder)
        async with edge(folder, tls("one", identities[0])) as (ground, _), asyncio.TaskGroup() as group:
            tasks = [group.create_task(load.run()) for _ in range(CONNECTIONS)]
            for identity in identities[1:]:
                text = tls("one", identity)
                start = time.perf_counter()
                await change(ground, text)
                taken.append((time.perf_counter() - start) * 1e3)
                while await shown(folder, "one.example") != identity.serial:
                    pass
                seen.append((time.perf_counter() - start) * 1e3)
            for task in tasks:
                task.cancel()
    return Spread(taken), Spread(seen), load


def run() -> Section:
    """Change one Secret many times."""
    taken, seen, load = asyncio.run(_measure())
    rows = [
        ["accepted by Envoy", str(taken)],
        ["shown to a new client, its handshake included", str(seen)],
    ]
    method = (
        f"A gateway's Secret changes {CHANGES} times; the time is from the watch event on. Meanwhile {CONNECTIONS} "
        f"kept connections made {load.answered:,} requests; {load.lost} of the connections were lost. 99 of 100 new "
        f"clients were shown it within {seen.at(0.99):.0f} ms."
    )
    return Section("A changed Secret at a gateway", method, ("until the certificate is", "ms"), rows)
