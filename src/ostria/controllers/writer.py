"""The one writer: takes a query of desired writes and makes them, each once, until what is read says the same.

    query(db) -> (DesiredWrite, ...)   what differs between what should be and what has been read
    Desk: send what is new there; what has been sent waits for its echo; what failed waits and is sent again

A desired write vanishes from its query when the source has read it back. So nothing is remembered across restarts,
nothing is written that is already so, and whatever undoes a write brings it back.

It must not know what is written or why, nor how objects are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from ostria.base import ObjectKey
from ostria.base.clock import Clock, SystemClock
from ostria.base.merge_patch import merge_patch
from ostria.base.times import timestamp
from ostria.engine import Engine, Query
from ostria.resources import KINDS
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.memory import MemorySource
from ostria.sources.reflector import Discovery, collection_path

if TYPE_CHECKING:
    # Istiod, which writes to an API, need not load what watches files.
    from ostria.sources.folder import FolderSource

_log = logging.getLogger(__name__)


class WriteError(Exception):
    """A write that was refused. `status` is HTTP's: 404 gone, 409 in conflict, 403 not permitted, 0 not reached."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Writer(Protocol):
    """A place that can be written to, by key. All methods raise WriteError and nothing else."""

    async def patch(self, key: ObjectKey, patch: Mapping[str, Any], *, subresource: str = "") -> None:
        """Change parts of an object by a JSON merge patch (RFC 7396)."""

    async def create(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """Make an object; 409 if it is there."""

    async def update(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """Put another content in the place of an object's; 404 if it is not there, 409 if it was changed meanwhile."""

    async def delete(self, key: ObjectKey) -> None:
        """Take an object away; 404 if it is not there."""


class KubernetesWriter:
    """Writes to a Kubernetes API, in the version of each kind that it serves."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._discovery = Discovery(api)

    async def patch(self, key: ObjectKey, patch: Mapping[str, Any], *, subresource: str = "") -> None:
        """PATCH the object or one of its subresources."""
        await self._send("PATCH", key, patch, f"/{key.name}/{subresource}".rstrip("/"), "application/merge-patch+json")

    async def create(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """POST the object."""
        await self._send("POST", key, document, "")

    async def update(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """PUT the object."""
        await self._send("PUT", key, document, f"/{key.name}")

    async def delete(self, key: ObjectKey) -> None:
        """DELETE the object."""
        await self._send("DELETE", key, None, f"/{key.name}")

    async def _send(
        self,
        method: str,
        key: ObjectKey,
        body: Mapping[str, Any] | None,
        below: str,
        content_type: str = "application/json",
    ) -> None:
        kind = KINDS[key.kind]
        try:
            version, *_ = await self._discovery.versions(kind)
            path = collection_path(kind, version, key.namespace) + below
            encoded = None if body is None else msgspec.json.encode(body)
            await self._api.send(method, path, encoded, content_type=content_type)
        except ApiError as error:
            raise WriteError(error.status, str(error)) from error
        except FAILURES as error:
            raise WriteError(0, f"{type(error).__name__}: {error}") from error


class MemoryWriter:
    """Writes to a memory, which the source then passes on like any other change."""

    def __init__(self, memory: MemorySource) -> None:
        self._memory = memory

    async def patch(self, key: ObjectKey, patch: Mapping[str, Any], *, subresource: str = "") -> None:
        """Patch the object; a status is a part of it like any other."""
        await self.update(key, merge_patch(self._document(key), patch))

    async def create(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """Put the object in."""
        if key in self._memory:
            raise WriteError(409, f"{key} exists")
        self._put(key, document)

    async def update(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """Put the object in the place of what is there."""
        self._document(key)
        self._put(key, document)

    async def delete(self, key: ObjectKey) -> None:
        """Take the object out."""
        self._document(key)
        self._memory.delete(key)

    def _document(self, key: ObjectKey) -> Mapping[str, Any]:
        try:
            return self._memory.document(key)
        except KeyError:
            raise WriteError(404, f"{key} is not there") from None

    def _put(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        change = self._memory.put_document(key, document)
        if change.object is None:
            raise WriteError(422, "; ".join(problem.message for problem in change.problems))


class FolderWriter:
    """Keeps annotations beside a folder's files; the files themselves are their author's, and all else is refused."""

    def __init__(self, folder: FolderSource) -> None:
        self._folder = folder

    async def patch(self, key: ObjectKey, patch: Mapping[str, Any], *, subresource: str = "") -> None:
        """Remember the annotations that are patched."""
        annotations = (patch.get("metadata") or {}).get("annotations") or {}
        if subresource or patch != {"metadata": {"annotations": annotations}}:
            raise _refuse(key)
        try:
            self._folder.annotate(key, annotations)
        except KeyError:
            raise WriteError(404, f"{key} is not there") from None
        except OSError as error:
            raise WriteError(0, str(error)) from error

    async def create(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """Refused."""
        raise _refuse(key)

    async def update(self, key: ObjectKey, document: Mapping[str, Any]) -> None:
        """Refused."""
        raise _refuse(key)

    async def delete(self, key: ObjectKey) -> None:
        """Refused."""
        raise _refuse(key)


def _refuse(key: ObjectKey) -> WriteError:
    return WriteError(405, f"{key} stands in a file, which only its author changes")


NOW = "\0now"
"""Stands in a patch for the moment at which it is written, which a query cannot know."""
_NOW = msgspec.json.encode(NOW)


class DesiredWrite(NamedTuple):
    """One merge patch that would make what is read equal to what should be. `patch` is canonical JSON.

    `create` says that the object has not been read at all: `patch` is then the whole of it.
    """

    key: ObjectKey
    patch: bytes
    subresource: str = ""
    create: bool = False


def annotate(key: ObjectKey, annotation: str, value: str | None) -> DesiredWrite:
    """The write that sets an annotation, or takes it away."""
    return DesiredWrite(key, msgspec.json.encode({"metadata": {"annotations": {annotation: value}}}))


class Pace(NamedTuple):
    """How long to wait, in seconds: for a desire to last, for the echo of a write, after a failure, after a refusal."""

    settle: float = 0.0
    echo: float = 10.0
    failed: float = 1.0
    refused: float = 60.0


class Statistics(NamedTuple):
    """A snapshot of a desk: writes made, failures, and the last one's words for each write that waits."""

    written: int
    failed: int
    errors: Mapping[ObjectKey, str]


class Desk:
    """Makes the writes of one query. Call `wake` after each epoch: the query is free where nothing has changed."""

    def __init__(
        self,
        db: Engine,
        query: Query[[], tuple[DesiredWrite, ...]],
        writer: Writer,
        *,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._db = db
        self._query = query
        self._writer = writer
        self._pace = pace or Pace()
        self._clock = clock or SystemClock()
        self._wake = asyncio.Event()
        self._wake.set()
        # Until when a write that is still desired is left alone.
        self._resting: dict[DesiredWrite, float] = {}
        self._errors: dict[DesiredWrite, str] = {}
        self._written = 0
        self._failed = 0

    def wake(self) -> None:
        """What is read may have changed."""
        self._wake.set()

    def statistics(self) -> Statistics:
        """How it goes."""
        return Statistics(self._written, self._failed, {write.key: why for write, why in self._errors.items()})

    async def run(self) -> None:
        """Write what is desired, until cancelled."""
        while True:
            await self._wait()
            desired = dict.fromkeys(self._query(self._db))
            self._resting = {write: until for write, until in self._resting.items() if write in desired}
            self._errors = {write: why for write, why in self._errors.items() if write in desired}
            now = self._clock.monotonic()
            for write in desired:
                if self._resting.setdefault(write, now + self._pace.settle) <= now:
                    await self._send(write)

    async def _wait(self) -> None:
        """Until something may have changed, or a write has rested."""
        waits: list[Coroutine[Any, Any, object]] = [self._wake.wait()]
        if self._resting:
            waits.append(self._clock.sleep(max(0.0, min(self._resting.values()) - self._clock.monotonic())))
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(wait) for wait in waits]
            await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
            for task in started:
                task.cancel()
        self._wake.clear()

    async def _send(self, write: DesiredWrite) -> None:
        try:
            moment = msgspec.json.encode(timestamp(self._clock.now()))
            content = msgspec.json.decode(write.patch.replace(_NOW, moment))
            if write.create:
                await self._writer.create(write.key, content)
            else:
                await self._writer.patch(write.key, content, subresource=write.subresource)
        except WriteError as error:
            self._failed += 1
            self._errors[write] = str(error)
            _log.warning("%s could not be written: %s", write.key, error)
            rest = self._pace.refused if 400 <= error.status < 500 and error.status != 429 else self._pace.failed
        else:
            self._written += 1
            self._errors.pop(write, None)
            rest = self._pace.echo
        self._resting[write] = self._clock.monotonic() + rest
