"""A verdict's life: refused, written onto the object, honoured by a fresh Store, lifted by a change, erased."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from doubles.kube_api import KubeApi
from doubles.source_rigs import FAST, QUICK, Mesh, eventually, running
from ostria.base import ObjectKey
from ostria.base.clock import ManualClock
from ostria.controllers.refusals import PACE, verdict_writes
from ostria.controllers.writer import Desk, FolderWriter, KubernetesWriter, MemoryWriter, WriteError, Writer
from ostria.resources import KINDS, refusals, verdicts
from ostria.resources.refusals import ANNOTATION
from ostria.sources import MemorySource, Source
from ostria.sources.api import Api
from ostria.sources.folder import FolderSource
from ostria.sources.kubernetes import KubernetesSource

REVIEWS = ObjectKey("", "VirtualService", "default", "reviews")


def rule(host: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec: {{hosts: [reviews], http: [{{route: [{{destination: {{host: {host}}}}}]}}]}}
"""


class Ground(NamedTuple):
    """A place with its writer; `again` makes what a restarted control plane would make on it."""

    source: Source
    writer: Writer
    write: Callable[[str], object]


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Callable[[], Ground]]:
    texts: list[str] = []
    made: list[MemorySource] = []

    def again() -> Ground:
        source = MemorySource("\n---\n".join(texts))
        if made:
            # What a restart finds is what was there, annotations included.
            source.put_document(REVIEWS, made[-1].document(REVIEWS))
        made.append(source)

        def write(text: str) -> None:
            texts[:] = [text]
            for each in made:
                each.apply(text)

        return Ground(source, MemoryWriter(source), write)

    yield again


@asynccontextmanager
async def folder(path: Path) -> AsyncIterator[Callable[[], Ground]]:
    files = path / "mesh"
    files.mkdir()

    def again() -> Ground:
        source = FolderSource([files], annotations=path / "verdicts.json", pace=QUICK)
        return Ground(source, FolderWriter(source), (files / "rule.yaml").write_text)

    yield again


@asynccontextmanager
async def kubernetes(_: Path) -> AsyncIterator[Callable[[], Ground]]:
    async with KubeApi().serve() as server, Api(server.access()) as api:

        def write(text: str) -> None:
            # As kubectl apply: annotations that others have set stay.
            known = server.objects.get(REVIEWS)
            server.apply(text)
            if known and known["metadata"].get("annotations"):
                value = server.objects[REVIEWS]
                value["metadata"]["annotations"] = known["metadata"]["annotations"]
                server.put(KINDS["VirtualService"], value)

        yield lambda: Ground(KubernetesSource(server.access(), pace=FAST), KubernetesWriter(api), write)


@asynccontextmanager
async def control_plane(ground: Ground) -> AsyncIterator[tuple[Mesh, Desk]]:
    """A Store that hears the source, and a desk that writes the verdicts."""

    class Observed(Mesh):
        def __init__(self, source: Source) -> None:
            super().__init__(source)
            self.desk = Desk(self.db, verdict_writes, ground.writer)

        def apply(self, batch: object) -> None:
            super().apply(batch)  # type: ignore[arg-type]
            self.desk.wake()

    async with running(ground.source, mesh=Observed) as mesh:
        assert isinstance(mesh, Observed)
        async with running_desk(mesh.desk):
            yield mesh, mesh.desk


@asynccontextmanager
async def running_desk(desk: Desk) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(desk.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("place", [memory, folder, kubernetes])
async def test_a_verdict_outlives_restarts_and_not_a_change(place, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    async with place(tmp_path) as again:
        ground = again()
        ground.write(rule("bad"))
        async with control_plane(ground) as (mesh, desk):
            assert mesh.get(REVIEWS) is not None
            mesh.store.withdraw(REVIEWS, "no such filter")
            desk.wake()
            await mesh.until(lambda: mesh.db.fact(verdicts, REVIEWS))
            assert mesh.get(REVIEWS) is None
            assert verdict_writes(mesh.db) == ()
            assert desk.statistics().written == 1

        ground = again()
        async with control_plane(ground) as (mesh, desk):
            # In the first epoch already: nothing was generated from it in between.
            assert len(mesh.batches) == 1
            assert mesh.get(REVIEWS) is None
            assert [problem.code for problem in mesh.problems()[REVIEWS]] == ["envoy-refused"]
            assert verdict_writes(mesh.db) == ()

            ground.write(rule("good"))
            await mesh.until(lambda: mesh.get(REVIEWS) is not None)
            await mesh.until(lambda: mesh.db.fact(verdicts, REVIEWS) is None)
            assert mesh.db.fact(refusals, REVIEWS) is None
            assert mesh.problems() == {}
            assert desk.statistics().written <= 1

        async with control_plane(again()) as (mesh, _):
            assert mesh.get(REVIEWS) is not None


class Recorder:
    """A writer that notes and answers as it is told."""

    def __init__(self) -> None:
        self.patches: list[object] = []
        self.answers: list[WriteError] = []

    async def patch(self, key: ObjectKey, patch: object, *, subresource: str = "") -> None:
        self.patches.append(patch)
        if self.answers:
            raise self.answers.pop(0)

    async def create(self, key: ObjectKey, document: object) -> None: ...
    async def update(self, key: ObjectKey, document: object) -> None: ...
    async def delete(self, key: ObjectKey) -> None: ...


@pytest.fixture
async def refused() -> AsyncIterator[tuple[Mesh, Recorder, Desk, ManualClock]]:
    """One refused rule, before a writer of which no echo comes."""
    memory = MemorySource(rule("bad"))
    mesh, recorder, clock = Mesh(memory), Recorder(), ManualClock()
    mesh.apply(memory.changes())
    mesh.store.withdraw(REVIEWS, "no")
    desk = Desk(mesh.db, verdict_writes, recorder, clock=clock)
    async with running_desk(desk):
        yield mesh, recorder, desk, clock


async def test_a_write_is_not_repeated_while_its_echo_is_awaited(refused) -> None:  # type: ignore[no-untyped-def]
    _, recorder, desk, clock = refused
    await eventually(lambda: recorder.patches and clock.sleepers)
    desk.wake()
    clock.advance(5)
    await eventually(lambda: clock.sleepers)
    assert len(recorder.patches) == 1
    clock.advance(6)
    await eventually(lambda: len(recorder.patches) == 2)


async def test_a_write_that_fails_is_made_again(refused) -> None:  # type: ignore[no-untyped-def]
    mesh, recorder, desk, clock = refused
    recorder.answers = [WriteError(503, "not now")]
    mesh.store.withdraw(REVIEWS, "another word")
    desk.wake()
    await eventually(lambda: desk.statistics().errors or desk.statistics().written)
    await eventually(lambda: clock.sleepers)
    clock.advance(20)
    await eventually(lambda: desk.statistics().written)
    assert desk.statistics().errors == {}


async def test_what_is_restored_before_it_has_lasted_is_never_written() -> None:
    memory = MemorySource(rule("suspect"))
    mesh, recorder, clock = Mesh(memory), Recorder(), ManualClock()
    mesh.apply(memory.changes())
    desk = Desk(mesh.db, verdict_writes, recorder, pace=PACE, clock=clock)
    mesh.store.withdraw(REVIEWS, "no")
    async with running_desk(desk):
        await eventually(lambda: clock.sleepers)
        mesh.store.restore(REVIEWS)
        desk.wake()
        await eventually(lambda: not clock.sleepers)
        mesh.store.withdraw(REVIEWS, "no")
        desk.wake()
        await eventually(lambda: clock.sleepers)
        assert recorder.patches == []
        clock.advance(1)
        await eventually(lambda: recorder.patches)


async def test_what_is_restored_is_erased() -> None:
    ground_memory = MemorySource(rule("suspect"))
    ground = Ground(ground_memory, MemoryWriter(ground_memory), ground_memory.apply)
    async with control_plane(ground) as (mesh, desk):
        mesh.store.withdraw(REVIEWS, "no")
        desk.wake()
        await mesh.until(lambda: mesh.db.fact(verdicts, REVIEWS))
        mesh.store.restore(REVIEWS)
        desk.wake()
        await mesh.until(lambda: mesh.db.fact(verdicts, REVIEWS) is None)
        assert mesh.get(REVIEWS) is not None


async def test_a_verdict_of_a_gone_object_is_no_longer_wanted(refused) -> None:  # type: ignore[no-untyped-def]
    mesh, _, _, _ = refused
    mesh.source.delete(REVIEWS)
    mesh.apply([change._replace(object=None) for change in mesh.batches[0]])
    assert verdict_writes(mesh.db) == ()


def test_the_annotation_is_all_that_is_written() -> None:
    memory = MemorySource(rule("bad"))
    mesh = Mesh(memory)
    mesh.apply(memory.changes())
    assert verdict_writes(mesh.db) == ()
    mesh.store.withdraw(REVIEWS, "no")
    (write,) = verdict_writes(mesh.db)
    assert write.key == REVIEWS
    assert write.patch.startswith(b'{"metadata":{"annotations":{"' + ANNOTATION.encode())
    # A change of something else asks no verdict again.
    ran = mesh.db.executions.total()
    memory.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    mesh.apply(memory.changes())
    verdict_writes(mesh.db)
    assert mesh.db.executions.total() == ran
