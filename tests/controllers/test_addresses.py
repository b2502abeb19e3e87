"""Addresses that the mesh gives are written into the ServiceEntries' status, once."""

from __future__ import annotations

import asyncio
import contextlib

from ostria.base import ObjectKey
from ostria.controllers.addresses import address_writes
from ostria.controllers.writer import Desk, MemoryWriter, Pace
from ostria.engine import Engine
from ostria.resources import Store
from ostria.sources import MemorySource

ENTRIES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: default}
spec: {hosts: [a.test, '*.b.test'], ports: [{number: 443, name: tls, protocol: TLS}], resolution: STATIC,
       endpoints: [{address: 10.0.0.1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: kept, namespace: default}
spec: {hosts: [c.test], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
status: {addresses: [{value: 240.240.0.9, host: c.test}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: none, namespace: default}
spec: {hosts: [d.test], ports: [{number: 443, name: tls, protocol: TLS}], resolution: NONE}
"""


def key(name: str) -> ObjectKey:
    return ObjectKey("", "ServiceEntry", "default", name)


async def test_addresses_are_written_once_and_kept() -> None:
    db, memory = Engine(), MemorySource(ENTRIES)
    store = Store(db)
    desk = Desk(db, address_writes, MemoryWriter(memory), pace=Pace(echo=0.01, failed=0.01))

    def apply(batch: object) -> None:
        store.apply(batch)  # type: ignore[arg-type]
        desk.wake()

    async with asyncio.timeout(10):
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(memory.run(apply)), loop.create_task(desk.run())]
        try:
            while "status" not in memory.document(key("one")) or address_writes(db):
                await asyncio.sleep(0)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)
    given = memory.document(key("one"))["status"]["addresses"]
    assert [each["host"] for each in given] == ["a.test", "a.test"]
    assert memory.document(key("kept"))["status"] == {"addresses": [{"value": "240.240.0.9", "host": "c.test"}]}
    assert "status" not in memory.document(key("none"))
    assert desk.statistics().written == 1
