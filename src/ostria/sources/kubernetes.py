"""The objects of a Kubernetes API, as a source: one mirror a kind, one first batch for all.

    Reflector(kind) --\\
    Reflector(kind) ----> Outbox -> apply
    Reflector(kind) --/

The first batch waits for every kind: listed, or known to be absent or forbidden. A kind that cannot be reached holds
it back, since half a mesh is worse than the one that Envoys still hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ostria.base import Level, Origin, Problem
from ostria.base.clock import Clock, SystemClock
from ostria.resources import KINDS, Kind
from ostria.sources.access import Access
from ostria.sources.api import Api
from ostria.sources.reflector import Discovery, Pace, Reading, Reflector
from ostria.sources.source import Apply, Outbox, Part, Statistics


class KubernetesSource:
    """Mirrors all objects of some kinds. `cluster` is the cluster's name in keys, "" for the mesh's own.

    `reading` says what objects are read as, where the types of `resources` are not wanted.
    """

    def __init__(
        self,
        access: Access,
        *,
        kinds: Iterable[Kind] = tuple(KINDS.values()),
        cluster: str = "",
        pace: Pace | None = None,
        clock: Clock | None = None,
        reading: Reading | None = None,
    ) -> None:
        self._access = access
        self._reading = reading
        self._kinds = tuple(kinds)
        self._cluster = cluster
        self._pace = pace or Pace()
        self._clock = clock or SystemClock()
        self._outbox = Outbox()
        self._reflectors: list[Reflector] = []
        self._missing = {kind.name for kind in self._kinds}

    @property
    def synced(self) -> asyncio.Event:
        """Set once what every kind held at the start has been applied."""
        return self._outbox.synced

    def statistics(self) -> Statistics:
        """What has been read so far, kind by kind; a kind that may not be read is a problem."""
        outbox = self._outbox
        parts = tuple(reflector.statistics() for reflector in self._reflectors)
        problems = tuple(self._forbidden(part) for part in parts if part.state == "forbidden")
        objects = sum(part.objects for part in parts)
        return Statistics(outbox.synced.is_set(), objects, outbox.batches, outbox.changes, problems, parts)

    async def run(self, apply: Apply) -> None:
        """Mirror until cancelled."""
        async with Api(self._access) as api:
            discovery = Discovery(api)
            self._reflectors = [
                Reflector(
                    api,
                    kind,
                    discovery,
                    self._outbox.put,
                    lambda kind=kind: self._has_arrived(kind),  # type: ignore[misc]
                    pace=self._pace,
                    clock=self._clock,
                    cluster=self._cluster,
                    reading=self._reading,
                )
                for kind in self._kinds
            ]
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._outbox.run(apply))
                for reflector in self._reflectors:
                    tasks.create_task(reflector.run())

    def _has_arrived(self, kind: Kind) -> None:
        if kind.name in self._missing:
            self._missing.discard(kind.name)
            if not self._missing:
                self._outbox.release()

    def _forbidden(self, part: Part) -> Problem:
        kind = next(kind for kind in self._kinds if kind.name == part.name)
        return Problem(
            "kind-forbidden",
            Level.ERROR,
            f"{kind.plural} may not be read: {part.error}",
            origin=Origin(self._access.name or self._access.server),
            hint=f"allow get, list and watch of {kind.plural}{f'.{kind.group}' if kind.group else ''}",
        )
