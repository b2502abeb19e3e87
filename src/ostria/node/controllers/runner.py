"""Runs the controllers: a queue of what may have to be done, and the writes that come of it.

    a change -> keys, by each controller's `concerned` -> reconcile -> writes -> seen at once in the Mirror

A key is worked on once at a time. What fails is tried again, later each time; what is in conflict is read anew first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ostria.base.clock import Clock
from ostria.node.controllers.mirror import Mirror
from ostria.node.controllers.objects import POD, Document, Key, key_of, uid_of, with_metadata
from ostria.node.controllers.recorder import Recorder, note_about
from ostria.node.controllers.writes import Bind, Changed, Controller, Create, Delete, Say, Update, Write
from ostria.resources import Kind
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.reflector import collection_path

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Keys that are worked on at a time."""
FIRST_RETRY, LAST_RETRY = 0.02, 15.0
"""Seconds before a key that has failed is tried again; doubled with each failure."""
EXPIRY = 10.0
"""Seconds between looks for writes whose echo has never come."""
_COMPONENTS = {"scheduler": "default-scheduler"}


class _Item(NamedTuple):
    controller: str
    key: Key


class Runner:
    """See the module. `told` is called with every change that our own writes make."""

    def __init__(
        self,
        api: Api,
        mirror: Mirror,
        controllers: Sequence[Controller],
        recorder: Recorder,
        clock: Clock,
        told: Callable[[Iterable[Changed]], None] | None = None,
    ) -> None:
        self._api = api
        self._mirror = mirror
        self._controllers = {controller.name: controller for controller in controllers}
        self._recorder = recorder
        self._clock = clock
        self._told = told or self.hear
        self._queue: dict[_Item, None] = {}
        self._running: set[_Item] = set()
        self._failures: dict[_Item, int] = {}
        self._alarms: dict[_Item, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._group: asyncio.TaskGroup
        self._begun = False

    def hear(self, changes: Iterable[Changed]) -> None:
        """Objects have changed; nothing is done before `run`, and `begin` has been called."""
        for changed in changes:
            for controller in self._controllers.values():
                for key in controller.concerned(self._mirror, changed):
                    self.ask(controller.name, key)

    def ask(self, controller: str, key: Key) -> None:
        """Look at a key again."""
        self._queue[_Item(controller, key)] = None
        self._wake.set()

    def begin(self) -> None:
        """All that was there at the start is known: what is missing may be made."""
        self._begun = True
        for controller in self._controllers.values():
            for key in controller.always:
                self.ask(controller.name, key)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done at the moment."""
        return not self._queue and not self._running

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self._expire())
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._begun:
                    self._start()

    def _start(self) -> None:
        for item in list(self._queue):
            if len(self._running) >= AT_ONCE:
                return
            if item not in self._running:
                del self._queue[item]
                self._running.add(item)
                self._group.create_task(self._work(item))

    async def _work(self, item: _Item) -> None:
        controller = self._controllers[item.controller]
        if (alarm := self._alarms.pop(item, None)) is not None:
            alarm.cancel()
        try:
            outcome = controller.reconcile(self._mirror, item.key, self._clock.now())
            await self._make(outcome.writes, _COMPONENTS.get(controller.name, f"{controller.name}-controller"))
        except (ApiError, *FAILURES) as error:
            log.debug("%s of %s/%s: %s", controller.name, *item.key, error)
            self._retry(item)
        except Exception:
            # A fault over one object must not end the work on the others.
            log.exception("%s of %s/%s has failed", controller.name, *item.key)
            self._retry(item)
        else:
            self._failures.pop(item, None)
            if outcome.again is not None:
                self._later(item, outcome.again - self._clock.now())
        finally:
            self._running.discard(item)
            self._wake.set()

    def _retry(self, item: _Item) -> None:
        failures = self._failures[item] = self._failures.get(item, 0) + 1
        self._later(item, min(LAST_RETRY, FIRST_RETRY * 2 ** min(failures, 20)))

    def _later(self, item: _Item, seconds: float) -> None:
        async def wait() -> None:
            await self._clock.sleep(max(0.0, seconds))
            del self._alarms[item]
            self.ask(*item)

        self._alarms[item] = self._group.create_task(wait())

    async def _expire(self) -> None:
        while True:
            await self._clock.sleep(EXPIRY)
            self._told(list(self._mirror.expire(self._clock.now())))

    # --- writes ----------------------------------------------------------------------------------------------------

    async def _make(self, writes: Sequence[Write], component: str) -> None:
        """Make writes in their order; pods that are made or deleted in a row, all at once."""
        versions: dict[tuple[str, Key], str] = {}
        at = 0
        while at < len(writes):
            write = writes[at]
            row = [write]
            while isinstance(write, Create | Delete) and write.kind == POD and at + len(row) < len(writes):
                following = writes[at + len(row)]
                if type(following) is not type(write) or getattr(following, "kind", None) != POD:
                    break
                row.append(following)
            at += len(row)
            if len(row) == 1:
                await self._one(write, component, versions)
                continue
            results = await asyncio.gather(
                *(self._one(each, component, versions) for each in row), return_exceptions=True
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    def _one(self, write: Write, component: str, versions: dict[tuple[str, Key], str]) -> Awaitable[None]:
        if isinstance(write, Create):
            return self._create(write, component)
        if isinstance(write, Update):
            return self._update(write, versions)
        if isinstance(write, Delete):
            return self._delete(write, component)
        if isinstance(write, Bind):
            return self._bind(write)
        return self._say(write, component)

    async def _say(self, said: Say, component: str) -> None:
        self._recorder.say(note_about(said.about, said.type, said.reason, said.message, component))

    async def _create(self, write: Create, component: str) -> None:
        document, owner = write.document, write.owner
        namespace = document["metadata"].get("namespace", "")
        try:
            body = await self._api.send(
                "POST", collection_path(write.kind, write.kind.versions[0], namespace), msgspec.json.encode(document)
            )
        except ApiError as error:
            if owner is not None:
                name = document["metadata"].get("name", "")
                words = f"Error creating: {write.kind.plural}{f' {name}' if name else ''}: {error.message or error}"
                await self._say(Say(owner, "FailedCreate", words, "Warning"), component)
            raise
        made = msgspec.json.decode(body)
        self._note(write.kind, made)
        if owner is not None:
            words = f"Created {write.kind.singular}: {made['metadata']['name']}"
            await self._say(Say(owner, "SuccessfulCreate", words), component)

    async def _update(self, write: Update, versions: dict[tuple[str, Key], str]) -> None:
        kind, document = write.kind, write.document
        slot = (kind.name, key_of(document))
        if slot in versions:
            document = with_metadata(document, resourceVersion=versions[slot])
        path = f"{self._path(kind, document)}/{write.subresource}".rstrip("/")
        try:
            body = await self._api.send("PUT", path, msgspec.json.encode(document))
        except ApiError as error:
            if error.status in (404, 409):
                await self._read_anew(kind, document)
            raise
        written = msgspec.json.decode(body)
        versions[slot] = written["metadata"].get("resourceVersion", "")
        self._note(kind, written)

    async def _delete(self, write: Delete, component: str) -> None:
        document = write.document
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid_of(document)},
            "propagationPolicy": write.propagation,
        }
        try:
            body = await self._api.send("DELETE", self._path(write.kind, document), msgspec.json.encode(options))
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            # It is gone, or there is another one of this name.
            await self._read_anew(write.kind, document)
            return
        left = msgspec.json.decode(body)
        meta = left.get("metadata") or {}
        if meta.get("deletionTimestamp") and (meta.get("finalizers") or meta.get("deletionGracePeriodSeconds")):
            self._note(write.kind, left)
        else:
            self._note_gone(write.kind, document)
        if write.owner is not None:
            words = f"Deleted {write.kind.singular}: {document['metadata']['name']}"
            await self._say(Say(write.owner, "SuccessfulDelete", words), component)

    async def _bind(self, write: Bind) -> None:
        namespace, name = key_of(write.pod)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid_of(write.pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": write.node},
        }
        await self._api.send("POST", f"{self._path(POD, write.pod)}/binding", msgspec.json.encode(binding))

    async def _read_anew(self, kind: Kind, document: Document) -> None:
        try:
            body = await self._api.get(self._path(kind, document))
        except ApiError as error:
            if error.status == 404:
                self._note_gone(kind, document)
            return
        read: dict[str, Any] = msgspec.json.decode(body)
        self._note(kind, read)
        if uid_of(read) != uid_of(document):
            self._note_gone(kind, document)

    def _path(self, kind: Kind, document: Document) -> str:
        namespace, name = key_of(document)
        return f"{collection_path(kind, kind.versions[0], namespace)}/{name}"

    def _note(self, kind: Kind, document: Document) -> None:
        changed = self._mirror.note(kind, document, self._clock.now())
        if changed is not None:
            self._told([changed])

    def _note_gone(self, kind: Kind, document: Document) -> None:
        changed = self._mirror.note_gone(kind, *key_of(document), uid_of(document), self._clock.now())
        if changed is not None:
            self._told([changed])
