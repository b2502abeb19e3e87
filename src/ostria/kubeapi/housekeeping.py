"""What follows from deletions, done: namespaces and definitions drained, what lost its owners deleted; old events too.

    every event -> Graph, draining containers -> duties -> the pipeline, like anybody's requests

A duty that fails (an admission webhook that does not answer) is tried again a little later, and later each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ostria.kubeapi.calls import Call, DeleteOptions, Options
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.events import is_over
from ostria.kubeapi.garbage import Duty, Graph, Place
from ostria.kubeapi.kinds import EVENT, NAMESPACES
from ostria.kubeapi.namespaces import drain, is_draining, let_go
from ostria.kubeapi.requests import Document, ResourceKey, User
from ostria.kubeapi.retries import Retries
from ostria.kubeapi.service import Service
from ostria.kubeapi.store import Event

log = logging.getLogger("ostria.apiserver")

COLLECTOR = User("system:serviceaccount:kube-system:generic-garbage-collector", ("system:masters",))
SWEEP = 60.0
"""Seconds between two looks for events that have been kept long enough."""


class Housekeeper:
    """Keeps house for one service; `run` until cancelled."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._graph = Graph()
        self._draining: dict[Place, None] = {}
        self._duties: Retries[Duty] = Retries()
        self._drains: Retries[Place] = Retries()
        self._woken = asyncio.Event()
        store = service.store
        for key in store.resources():
            for document in store.list(key):
                self._see(key, document)
        store.follow(self._note)

    def _note(self, key: ResourceKey, event: Event) -> None:
        if event.type == "DELETED":
            self._graph.lose(event.document)
            self._forget(Place(key, "", event.name))
        else:
            self._see(key, event.document)
        self._woken.set()

    def _see(self, key: ResourceKey, document: Document) -> None:
        self._graph.see(key, document)
        if is_draining(key, document):
            self._draining[Place(key, "", document["metadata"]["name"])] = None

    def _forget(self, place: Place) -> None:
        self._draining.pop(place, None)
        self._drains.done(place)

    async def run(self) -> None:
        """Do what is to be done, now and whenever something has changed."""
        self._woken.set()
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while True:
            now = loop.time()
            pauses = (self._duties.wait(now), self._drains.wait(now), swept + SWEEP - now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(min(each for each in pauses if each is not None), 0)):
                    await self._woken.wait()
            self._woken.clear()
            for duty in dict.fromkeys((*self._duties.due(loop.time()), *self._graph.duties())):
                if await self._tried(duty.place, partial(self._do, duty)):
                    self._duties.done(duty)
                else:
                    self._duties.failed(duty, loop.time())
            for place in [each for each in self._draining if not self._drains.rests(each, loop.time())]:
                if await self._drain(place):
                    self._drains.done(place)
                else:
                    self._drains.failed(place, loop.time())
            if loop.time() - swept >= SWEEP:
                swept = loop.time()
                await self._sweep()

    async def _sweep(self) -> None:
        """Delete the events that have been kept long enough."""
        now = self._service.surroundings.now()
        for event in [each for each in self._service.store.list(EVENT.key) if is_over(each, now)]:
            metadata = event["metadata"]
            place = Place(EVENT.key, metadata["namespace"], metadata["name"])
            if call := self._call(place):
                await self._tried(place, partial(self._service.delete, call, DeleteOptions(uid=metadata["uid"])))

    async def _tried(self, place: Place, act: Callable[[], Awaitable[object]]) -> bool:
        """Whether it is done, or need not be done any more."""
        try:
            await act()
        except StatusError as error:
            if error.code == 404:
                return True
            log.warning("%s/%s in %s: %s", place.key.plural, place.name, place.namespace or "the cluster", error)
            return False
        except Exception:
            # One object's fault must not end the server, and may be gone when it is tried again.
            log.exception("%s/%s in %s", place.key.plural, place.name, place.namespace or "the cluster")
            return False
        return True

    def _call(self, place: Place) -> Call | None:
        resource = self._service.registry.stored(place.key)
        if resource is None:
            return None
        return Call(COLLECTOR, resource, place.namespace, place.name, "", Options(manager="kube-controller-manager"))

    async def _do(self, duty: Duty) -> None:
        call = self._call(duty.place)
        found = self._service.store.get(*duty.place)
        if call is None or found is None or found["metadata"].get("uid") != duty.uid:
            return
        if duty.action == "delete":
            await self._service.delete(call, DeleteOptions(propagation=duty.propagation, uid=duty.uid))
        elif duty.action == "disown":
            await self._service.patch(call, lambda live: _disowned(live, duty.owners))
        else:
            await self._service.patch(call, lambda live: _released(live, duty.finalizer))

    async def _drain(self, place: Place) -> bool:
        """Go on with emptying a container; whether nothing has failed on the way."""
        key = place.key
        container = self._service.store.get(*place)
        call = self._call(place)
        if container is None or call is None or not is_draining(key, container):
            self._forget(place)
            return True
        well = True
        left = drain(container, key, self._service.store)
        for each in left.to_delete:
            inner = self._call(each)
            if inner is not None:
                wished = DeleteOptions(propagation="Background")
                well &= await self._tried(each, partial(self._service.delete, inner, wished))
        # What waits to go wakes us when it has gone.
        if drain(container, key, self._service.store).is_empty:
            part = "finalize" if key == NAMESPACES else ""
            ending = call._replace(subresource=part)
            well &= await self._tried(place, lambda: self._service.patch(ending, lambda live: let_go(key, live)))
        return well


def _disowned(document: Document, owners: frozenset[str]) -> Document:
    rest = [each for each in document["metadata"].get("ownerReferences") or () if each["uid"] not in owners]
    return _with(document, "ownerReferences", rest)


def _released(document: Document, finalizer: str) -> Document:
    rest = [each for each in document["metadata"].get("finalizers") or () if each != finalizer]
    return _with(document, "finalizers", rest)


def _with(document: Document, field: str, listed: list[object]) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key != field}
    return {**document, "metadata": {**metadata, field: listed} if listed else metadata}
