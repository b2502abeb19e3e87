"""What follows from deletions, done: namespaces and definitions drained, what lost its owners deleted.

    every event -> Graph, draining containers -> duties -> the pipeline, like anybody's requests

A duty that fails (an admission webhook that does not answer) is tried again a little later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ostria.kubeapi.calls import Call, DeleteOptions, Options
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.garbage import Duty, Graph, Place
from ostria.kubeapi.kinds import NAMESPACES
from ostria.kubeapi.namespaces import drain, is_draining, let_go
from ostria.kubeapi.requests import Document, ResourceKey, User
from ostria.kubeapi.service import Service
from ostria.kubeapi.store import Event

log = logging.getLogger("ostria.apiserver")

COLLECTOR = User("system:serviceaccount:kube-system:generic-garbage-collector", ("system:masters",))
AGAIN = 1.0
"""Seconds until what failed is tried again."""


class Housekeeper:
    """Keeps house for one service; `run` until cancelled."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._graph = Graph()
        self._draining: dict[tuple[ResourceKey, str], None] = {}
        self._failed: list[Duty] = []
        self._stuck = False
        self._woken = asyncio.Event()
        store = service.store
        for key in store.resources():
            for document in store.list(key):
                self._see(key, document)
        store.follow(self._note)

    def _note(self, key: ResourceKey, event: Event) -> None:
        if event.type == "DELETED":
            self._graph.lose(event.document)
            self._draining.pop((key, event.name), None)
        else:
            self._see(key, event.document)
        self._woken.set()

    def _see(self, key: ResourceKey, document: Document) -> None:
        self._graph.see(key, document)
        if is_draining(key, document):
            self._draining[key, document["metadata"]["name"]] = None

    async def run(self) -> None:
        """Do what is to be done, now and whenever something has changed."""
        self._woken.set()
        while True:
            try:
                async with asyncio.timeout(AGAIN if self._failed or self._stuck else None):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            again, self._failed = self._failed, []
            for duty in (*again, *self._graph.duties()):
                if not await self._tried(duty.place, partial(self._do, duty)):
                    self._failed.append(duty)
            self._stuck = False
            for key, name in list(self._draining):
                await self._drain(key, name)

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

    async def _drain(self, key: ResourceKey, name: str) -> None:
        place = Place(key, "", name)
        container = self._service.store.get(*place)
        call = self._call(place)
        if container is None or call is None or not is_draining(key, container):
            self._draining.pop((key, name), None)
            return
        left = drain(container, key, self._service.store)
        for each in left.to_delete:
            inner = self._call(each)
            if inner is not None:
                wished = DeleteOptions(propagation="Background")
                self._stuck |= not await self._tried(each, partial(self._service.delete, inner, wished))
        # What waits to go wakes us when it has gone.
        if drain(container, key, self._service.store).is_empty:
            part = "finalize" if key == NAMESPACES else ""
            ending = call._replace(subresource=part)
            done = await self._tried(place, lambda: self._service.patch(ending, lambda live: let_go(key, live)))
            self._stuck |= not done


def _disowned(document: Document, owners: frozenset[str]) -> Document:
    rest = [each for each in document["metadata"].get("ownerReferences") or () if each["uid"] not in owners]
    return _with(document, "ownerReferences", rest)


def _released(document: Document, finalizer: str) -> Document:
    rest = [each for each in document["metadata"].get("finalizers") or () if each != finalizer]
    return _with(document, "finalizers", rest)


def _with(document: Document, field: str, listed: list[object]) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key != field}
    return {**document, "metadata": {**metadata, field: listed} if listed else metadata}
