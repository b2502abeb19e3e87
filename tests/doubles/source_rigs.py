"""Rigs: each source behind one face, so that one set of tests runs over all of them, and a store that tells.

A rig is a place that outlives the source that reads it. `write` and `remove` do to the place what a person does; `run`
starts a source on it, as often as is wished.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import yaml

from doubles.kube_api import KubeApi
from ostria.base import ObjectKey, Problem
from ostria.engine import Engine
from ostria.resources import KINDS, Change, Object, Store, kind_of, objects, problems
from ostria.sources import MemorySource, Source, reflector
from ostria.sources import folder as folders
from ostria.sources.folder import FolderSource
from ostria.sources.kubernetes import KubernetesSource

PATIENCE = 30.0

FAST = reflector.Pace(first=0.005, most=0.05, absent=0.05, watch=(5.0, 10.0), grace=1.0)
QUICK = folders.Pace(step=0.002, doubt=0.03, patience=1.0, look=0.5)


class Mesh:
    """A Store, every batch that came to it, and a way to wait for what it should hold."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.db = Engine()
        self.store = Store(self.db, envoy_version="1.40.0")
        self.batches: list[tuple[Change, ...]] = []
        self._moved = asyncio.Event()

    def apply(self, batch: Sequence[Change]) -> None:
        self.store.apply(batch)
        self.batches.append(tuple(batch))
        self._moved.set()

    def objects(self) -> dict[ObjectKey, Object]:
        return self.db.facts(objects)

    def problems(self) -> dict[ObjectKey, tuple[Problem, ...]]:
        return self.db.facts(problems)

    def get(self, key: ObjectKey) -> Object | None:
        return self.db.fact(objects, key)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for batches until the condition holds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise AssertionError(f"it never came to hold; there is {self.source.statistics()}") from None


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what no batch announces."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(source: Source, *, synced: bool = True, mesh: type[Mesh] = Mesh) -> AsyncIterator[Mesh]:
    """A source that runs into a new Store, once it has synced unless told otherwise."""
    made = mesh(source)
    task = asyncio.get_running_loop().create_task(source.run(made.apply))
    start = asyncio.get_running_loop().create_task(source.synced.wait())
    try:
        if synced:
            await asyncio.wait((task, start), timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            assert source.synced.is_set() or task.done(), source.statistics()
        if task.done():
            await task
        yield made
    finally:
        task.cancel()
        start.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Rig(Protocol):
    def source(self) -> Source: ...
    def write(self, text: str) -> None: ...
    def remove(self, key: ObjectKey) -> None: ...
    def hurt(self, fault: int) -> None:
        """Let something go wrong that must not matter."""


def documents(text: str) -> Iterator[tuple[ObjectKey, str]]:
    for value in yaml.safe_load_all(text):
        kind = kind_of(value["apiVersion"], value["kind"])
        assert kind is not None
        namespace = value["metadata"].get("namespace", "default") if kind.namespaced else ""
        yield ObjectKey("", kind.name, namespace, value["metadata"]["name"]), yaml.safe_dump(value)


class MemoryRig:
    """The memory is the place; a source of one's own on it starts from what was put in before."""

    def __init__(self) -> None:
        self.texts: dict[ObjectKey, str] = {}
        self.sources: list[MemorySource] = []

    def source(self) -> Source:
        source = MemorySource()
        for text in self.texts.values():
            source.apply(text)
        self.sources.append(source)
        return source

    def write(self, text: str) -> None:
        self.texts.update(documents(text))
        for source in self.sources:
            source.apply(text)

    def remove(self, key: ObjectKey) -> None:
        del self.texts[key]
        for source in self.sources:
            source.delete(key)

    def hurt(self, fault: int) -> None:
        pass


class FolderRig:
    """A file for each object, written anew or in place, moved about."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[ObjectKey, Path] = {}
        self.count = 0

    def source(self) -> Source:
        return FolderSource([self.path], pace=QUICK)

    def write(self, text: str) -> None:
        for key, document in documents(text):
            path = self.places.setdefault(key, self.path / f"{key.kind}.{key.namespace}.{key.name}.yaml")
            self.count += 1
            if self.count % 2:
                path.write_text(document)
            else:
                beside = path.with_suffix(".tmp")
                beside.write_text(document)
                beside.rename(path)

    def remove(self, key: ObjectKey) -> None:
        self.places.pop(key).unlink()

    def hurt(self, fault: int) -> None:
        if not self.places:
            return
        key = sorted(self.places)[fault % len(self.places)]
        path = self.places[key]
        if fault % 3 == 0:
            # Cut off, and whole again.
            text = path.read_text()
            path.write_text(text[: len(text) // 2])
            path.write_text(text)
        elif fault % 3 == 1:
            below = self.path / f"sub{fault % 5}"
            below.mkdir(exist_ok=True)
            self.places[key] = path.rename(below / path.name)
        else:
            (self.path / f".{path.name}.swp").write_text("kind: Half")
            (self.path / "notes.txt").write_text("not for us")


class KubernetesRig:
    """A Kubernetes API's double."""

    def __init__(self, api: KubeApi) -> None:
        self.api = api

    def source(self) -> Source:
        return KubernetesSource(self.api.access(), pace=FAST)

    def write(self, text: str) -> None:
        self.api.apply(text)

    def remove(self, key: ObjectKey) -> None:
        self.api.delete(key)

    def hurt(self, fault: int) -> None:
        (
            self.api.drop,
            self.api.compact,
            lambda: self.api.failures.extend((500, 429)),
            self.api.bookmark,
            lambda: self.api.send("Service", '{"type":"ERROR","object":{"code":410,"message":"too old"}}'),
            lambda: self.api.send("ConfigMap", '{"type":"MODIFIED","object":'),
        )[fault % 6]()


@asynccontextmanager
async def rig(name: str, path: Path) -> AsyncIterator[Rig]:
    if name == "memory":
        yield MemoryRig()
    elif name == "folder":
        yield FolderRig(path)
    else:
        async with KubeApi().serve() as api:
            api.page_limit = 3
            yield KubernetesRig(api)


RIGS = ("memory", "folder", "kubernetes")

__all__ = ["FAST", "KINDS", "QUICK", "RIGS", "Mesh", "Rig", "documents", "eventually", "rig", "running"]
