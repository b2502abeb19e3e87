"""What runs in a mesh, and everything that is wrong with it: read once from its API, judged as istiod judges it.

    the API's objects -> Store, engine -> findings -> Problems with the lines of the files that brought the objects

istiod itself is not asked, so that this answers when istiod does not run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ostria.analysis import findings
from ostria.analysis.findings import ORDER
from ostria.apps import unapplied
from ostria.apps.certificates import authority_problems
from ostria.apps.following import BROUGHT, Memory
from ostria.base import Problem
from ostria.base.yaml import Document, read_documents
from ostria.engine import Engine
from ostria.install.verification import pod_troubles
from ostria.mesh.settings import Settings, settings_input
from ostria.resources import Store
from ostria.sources.access import Access
from ostria.sources.api import Api
from ostria.sources.kubernetes import KubernetesSource
from ostria.sources.manifests import items

PROXY = "istio-proxy"


class Workload(NamedTuple):
    """One pod: how many of its containers are ready, in which phase it is, and whether it has a proxy."""

    namespace: str
    name: str
    ready: int
    containers: int
    phase: str
    restarts: int
    proxy: bool


class Overview(NamedTuple):
    """`troubles` are those of pods, a sentence each."""

    workloads: tuple[Workload, ...]
    problems: tuple[Problem, ...]
    troubles: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.troubles


async def problems(access: Access, settings: Settings = Settings()) -> tuple[Problem, ...]:  # noqa: B008 - frozen.
    """Everything that is wrong with the mesh's objects. Raises `sources.api.FAILURES` if they cannot be read."""
    db = Engine()
    store = Store(db)
    with db.write() as write:
        write.set(settings_input, "", settings)
    source = KubernetesSource(access, cluster=settings.cluster)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(source.run(store.apply))
        await source.synced.wait()
        reading.cancel()
    found = (*authority_problems(db, time.time()), *findings(db))
    return tuple(sorted(found, key=lambda each: ORDER[each.level]))


def located(found: Iterable[Problem], memory: Memory) -> tuple[Problem, ...]:
    """The problems with the places in the files that brought their objects, as far as they are known."""
    files = {(each.identity.kind, each.identity.namespace, each.identity.name): each.file for each in memory.all()}
    placed = []
    for problem in found:
        key = problem.object
        file = files.get((key.kind, key.namespace, key.name)) if key is not None else None
        document = _document(file, problem) if file else None
        placed.append(problem if document is None else problem._replace(origin=document.origin(problem.field)))
    return tuple(placed)


def _document(file: str, problem: Problem) -> Document | None:
    try:
        text = Path(file).read_bytes()
    except OSError:
        return None
    for document in read_documents(text, os.path.relpath(file)):
        for item in items(document) if isinstance(document, Document) else ():
            value = item.value if isinstance(item.value, Mapping) else {}
            metadata = value.get("metadata") or {}
            key = problem.object
            if key is not None and (value.get("kind"), metadata.get("name")) == (key.kind, key.name):
                return item
    return None


async def overview(api: Api, access: Access, folder: Path) -> Overview:
    """All of it; `folder` is where the mesh keeps its state. Raises ApiError and `sources.api.FAILURES`."""
    workloads, troubles = await pods(api)
    found = located(await problems(access), Memory(folder / BROUGHT))
    # What was applied last may have the same fault as what is not applied now; it is told once, at the newer place.
    waiting = unapplied.read(folder / unapplied.NAME)
    return Overview(workloads, tuple(dict.fromkeys((*waiting, *found))), troubles)


async def pods(api: Api) -> tuple[tuple[Workload, ...], tuple[str, ...]]:
    """All pods, and what is wrong with them. Raises ApiError and `sources.api.FAILURES`."""
    found = msgspec.json.decode(await api.get("/api/v1/pods")).get("items") or ()
    return tuple(map(workload, found)), pod_troubles(found)


def workload(pod: Mapping[str, Any]) -> Workload:
    """A pod in short; a sidecar that is an init container that goes on counts as one, as with kubectl."""
    spec, status, meta = pod["spec"], pod.get("status") or {}, pod["metadata"]
    resident = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    names = [each["name"] for each in (*spec["containers"], *resident)]
    states: Sequence[Mapping[str, Any]] = (
        *(status.get("containerStatuses") or ()),
        *(status.get("initContainerStatuses") or ()),
    )
    counted = [each for each in states if each.get("name") in names]
    return Workload(
        meta["namespace"],
        meta["name"],
        sum(bool(each.get("ready")) for each in counted),
        len(names),
        "Terminating" if meta.get("deletionTimestamp") else str(status.get("phase", "Pending")),
        sum(int(each.get("restartCount", 0)) for each in counted),
        PROXY in names,
    )
