"""Every namespace gets the mesh's roots, and gets them back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ostria.base import ObjectKey
from ostria.controllers.trust_bundles import trust_bundle_writes
from ostria.controllers.writer import Desk, MemoryWriter, Pace
from ostria.engine import Engine
from ostria.identity.trust_bundle import trust_bundle_input
from ostria.resources import Store
from ostria.sources import MemorySource

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n"


def key(namespace: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", namespace, "istio-ca-root-cert")


class Mesh:
    def __init__(self, text: str) -> None:
        self.db = Engine()
        self.store = Store(self.db)
        self.memory = MemorySource(text)
        self.desk = Desk(self.db, trust_bundle_writes, MemoryWriter(self.memory), pace=Pace(echo=0.01, failed=0.01))

    def trust(self, roots: str) -> None:
        with self.db.write() as write:
            write.set(trust_bundle_input, "", roots)
        self.desk.wake()

    def apply(self, batch: object) -> None:
        self.store.apply(batch)  # type: ignore[arg-type]
        self.desk.wake()

    async def until(self, namespace: str, roots: str) -> None:
        while key(namespace) not in self.memory or self.memory.document(key(namespace))["data"] != {
            "root-cert.pem": roots
        }:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(*namespaces: str) -> AsyncIterator[Mesh]:
    mesh = Mesh("---\n".join(NAMESPACE.format(name) for name in namespaces))
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(mesh.memory.run(mesh.apply)), loop.create_task(mesh.desk.run())]
    try:
        async with asyncio.timeout(10):
            yield mesh
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_namespaces_get_the_roots_new_ones_too():
    async with running("default", "kube-system") as mesh:
        mesh.trust("A")
        await mesh.until("default", "A")
        mesh.memory.apply(NAMESPACE.format("late"))
        await mesh.until("late", "A")
        assert key("kube-system") not in mesh.memory
        assert mesh.memory.document(key("late"))["metadata"]["labels"] == {"istio.io/config": "true"}


async def test_new_roots_replace_the_old_and_what_undoes_a_write_is_undone():
    async with running("default") as mesh:
        mesh.trust("A")
        await mesh.until("default", "A")
        mesh.trust("A\nB")
        await mesh.until("default", "A\nB")
        mesh.memory.delete(key("default"))
        await mesh.until("default", "A\nB")


async def test_nothing_is_written_that_is_so_already():
    async with running("default") as mesh:
        mesh.trust("A")
        await mesh.until("default", "A")
        while trust_bundle_writes(mesh.db):
            await asyncio.sleep(0)
        written = mesh.desk.statistics().written
        mesh.memory.apply(NAMESPACE.format("kube-public"))
        mesh.desk.wake()
        await asyncio.sleep(0)
        assert (mesh.desk.statistics().written, written) == (1, 1)
