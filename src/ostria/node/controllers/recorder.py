"""Events, as `kubectl describe` shows them: each said once, and counted when it is said again.

What repeats faster than it can be written is counted here and written when it is its turn. Events are a courtesy: what
the API refuses is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from ostria.base.clock import Clock
from ostria.base.times import timestamp
from ostria.node.controllers.objects import EVENT, Document
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.reflector import collection_path

log = logging.getLogger(__name__)

REMEMBERED = 2000
"""Events whose counts are remembered."""
PENDING = 1000
"""Events that may wait to be written; one more is dropped."""


class Note(NamedTuple):
    """One event. Equal ones are one event with a count. `field` is the part of the object, such as a container's."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    type: str
    reason: str
    message: str
    component: str
    field: str = ""


def note_about(about: Document, type_: str, reason: str, message: str, component: str) -> Note:
    """An event about an object."""
    meta = about["metadata"]
    return Note(
        about["apiVersion"],
        about["kind"],
        meta.get("namespace", ""),
        meta["name"],
        meta.get("uid", ""),
        type_,
        reason,
        message,
        component,
    )


class _Written(NamedTuple):
    name: str
    times: int


class Recorder:
    """Writes events, one after the other. `say` does not wait."""

    def __init__(self, api: Api, clock: Clock, host: str) -> None:
        self._api = api
        self._clock = clock
        self._host = host
        self._pending: dict[Note, int] = {}
        self._written: OrderedDict[Note, _Written] = OrderedDict()
        self._wake = asyncio.Event()
        self._writes = False

    def say(self, note: Note) -> None:
        """Say something, once more."""
        if note in self._pending or len(self._pending) < PENDING:
            self._pending[note] = self._pending.get(note, 0) + 1
            self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be written, and nothing is being."""
        return not self._pending and not self._writes

    async def run(self) -> None:
        """Write what is said, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                note = next(iter(self._pending))
                times = self._pending.pop(note)
                self._writes = True
                try:
                    await self._write(note, times)
                except (ApiError, *FAILURES) as error:
                    log.debug("an event about %s/%s is lost: %s", note.namespace, note.name, error)
                finally:
                    self._writes = False

    async def _write(self, note: Note, times: int) -> None:
        path = collection_path(EVENT, "v1", note.namespace or "default")
        known = self._written.get(note)
        now = timestamp(self._clock.now())
        if known is not None:
            count = known.times + times
            patch = msgspec.json.encode({"count": count, "lastTimestamp": now})
            try:
                await self._api.send(
                    "PATCH", f"{path}/{known.name}", patch, content_type="application/merge-patch+json"
                )
            except ApiError as error:
                if error.status != 404:
                    raise
            else:
                self._remember(note, _Written(known.name, count))
                return
        name = f"{note.name[:200]}.{secrets.token_hex(8)}"
        await self._api.send("POST", path, msgspec.json.encode(self._document(note, name, times, now)))
        self._remember(note, _Written(name, times))

    def _remember(self, note: Note, written: _Written) -> None:
        self._written[note] = written
        self._written.move_to_end(note)
        while len(self._written) > REMEMBERED:
            self._written.popitem(last=False)

    def _document(self, note: Note, name: str, count: int, now: str) -> Mapping[str, Any]:
        involved = {
            "apiVersion": note.api_version,
            "kind": note.kind,
            "namespace": note.namespace,
            "name": note.name,
            "uid": note.uid,
            "fieldPath": note.field,
        }
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": note.namespace or "default"},
            "involvedObject": {field: value for field, value in involved.items() if value},
            "type": note.type,
            "reason": note.reason,
            "message": note.message[:1024],
            "source": {"component": note.component, "host": self._host},
            "reportingComponent": note.component,
            "reportingInstance": self._host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": count,
        }
