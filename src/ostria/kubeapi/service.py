"""The pipeline of one request, without its wire: read, decide, write.

    create/update/patch -> Forming (decode, default, check, own) -> Gate (admission) -> Forming once more -> Store
    delete              -> Gate -> deletion (now, or a state to wait in)                                  -> Store

Who may do what has been decided before (authorization sees the path, not the object). A write is made from the state
that was read; where another write came in between, patches are made anew, and what insists on a revision is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from ostria.kubeapi import deletion, scale
from ostria.kubeapi.calls import (
    Answer,
    Call,
    DeleteOptions,
    ListOptions,
    Surroundings,
    WatchOptions,
)
from ostria.kubeapi.errors import (
    Cause,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    method_not_allowed,
    not_found,
)
from ostria.kubeapi.forming import Forming
from ostria.kubeapi.kinds import CUSTOM_RESOURCE_DEFINITIONS
from ostria.kubeapi.registry import Registry
from ostria.kubeapi.representation import of_version
from ostria.kubeapi.requests import Document, Resource
from ostria.kubeapi.selection import Predicate, predicate
from ostria.kubeapi.store import Stale, Store, Watcher

_ATTEMPTS = 10


class Gate(Protocol):
    """Admission: what may change an object, or refuse it, before it is written. Raises StatusError.

    `operation` is CREATE, UPDATE or DELETE; a DELETE has an old object and no new one.
    """

    async def mutate(
        self, call: Call, operation: str, document: Document, old: Document | None
    ) -> tuple[Document, tuple[str, ...]]:
        """The object as the plugins and webhooks leave it, and their warnings."""

    async def validate(
        self, call: Call, operation: str, document: Document | None, old: Document | None
    ) -> tuple[str, ...]:
        """Warnings, if nobody refuses the object as it would be stored."""


class Listed(NamedTuple):
    """A list as it is answered: objects, and the list's own metadata."""

    documents: Sequence[Document]
    metadata: Document


class Watch(NamedTuple):
    """A watch that has begun: what is there now, if that was asked for, and what will tell the rest.

    `marked` says that the end of the beginning is to be told with a bookmark (sendInitialEvents).
    """

    revision: int
    watcher: Watcher
    wanted: Predicate | None
    initial: Sequence[Document] = ()
    marked: bool = False


class Service:
    """All verbs on all resources."""

    def __init__(
        self, store: Store, registry: Registry, forming: Forming, gate: Gate, surroundings: Surroundings
    ) -> None:
        self.store = store
        self.registry = registry
        self.forming = forming
        self.gate = gate
        self.surroundings = surroundings
        for crd in store.list(CUSTOM_RESOURCE_DEFINITIONS):
            registry.define(crd)

    # Reading.

    def get(self, call: Call) -> Document:
        """One object, or its subresource."""
        document = of_version(call.resource, self._read(call))
        if call.subresource == "scale":
            return scale.read(document, self._scale_paths(call.resource))
        if call.subresource not in ("", "status", "approval"):
            raise method_not_allowed()
        return document

    def list(self, call: Call, wished: ListOptions) -> Listed:
        """Objects in the order of their names, in pages if that is wished; pages show one and the same moment."""
        wanted = self._wanted(call, wished.label_selector, wished.field_selector)
        key, revision = call.resource.key, self.store.revision
        after: list[str] | None = None
        if wished.resume:
            revision, after = _resumed(wished.resume)
        elif wished.revision not in ("", "0"):
            asked = _revision(wished.revision)
            self.store.known(asked)
            if wished.match == "Exact":
                revision = asked
        current = revision == self.store.revision
        namespace = call.namespace
        found = self.store.list(key, namespace) if current else self.store.list_at(key, namespace, revision)
        if wanted is not None:
            found = [document for document in found if wanted(document)]
        if after is not None:
            found = [document for document in found if _place(document) > after]
        metadata: Document = {"resourceVersion": str(revision)}
        if wished.limit and len(found) > wished.limit:
            # A count over a selection would have to be guessed by a real server, which therefore leaves it out.
            if wanted is None:
                metadata["remainingItemCount"] = len(found) - wished.limit
            found = found[: wished.limit]
            metadata["continue"] = _token(revision, _place(found[-1]))
        return Listed(found, metadata)

    def watch(self, call: Call, wished: WatchOptions) -> Watch:
        """What happens to objects from a revision on. The watcher is to be given back to `Store.leave`."""
        wanted = self._wanted(call, wished.label_selector, wished.field_selector)
        store, key = self.store, call.resource.key
        fresh = wished.revision in ("", "0")
        if not fresh:
            store.known(_revision(wished.revision))
        if wished.initial or (wished.initial is None and fresh):
            shown = [each for each in store.list(key, call.namespace) if wanted is None or wanted(each)]
            marked = bool(wished.initial and wished.bookmarks)
            return Watch(store.revision, store.watch(key, store.revision), wanted, shown, marked=marked)
        since = store.revision if fresh else _revision(wished.revision)
        return Watch(since, store.watch(key, since), wanted)

    # Writing.

    async def create(self, call: Call, document: Document) -> Answer:
        """A new object. `call.name` is "" here: the object says its name, or what it begins with."""
        return await self._create(call, document, "Update")

    async def _create(self, call: Call, document: Document, manner: str) -> Answer:
        resource, name = call.resource, ""
        definition = self.registry.definition(resource)
        if definition is not None and definition["metadata"].get("deletionTimestamp"):
            # It would never be drained if objects kept coming.
            words = f"create not allowed while custom resource definition is terminating: {resource.crd}"
            raise StatusError(405, "MethodNotAllowed", words)
        # A generated name is tried again where it meets another, a given one is not.
        for _ in range(_ATTEMPTS):
            formed, warnings = self.forming.new(call, document)
            admitted, mutating = await self.gate.mutate(call, "CREATE", formed, None)
            ready = self.forming.complete_new(call, admitted, self.store, manner)
            validating = await self.gate.validate(call, "CREATE", ready, None)
            warnings = (*warnings, *mutating, *validating, *self._unheeded(resource))
            name = ready["metadata"]["name"]
            if self.store.get(resource.key, ready["metadata"].get("namespace", ""), name) is not None:
                if (document.get("metadata") or {}).get("name"):
                    break
                continue
            if call.options.dry_run:
                return Answer(201, of_version(resource, ready), warnings)
            kept = self.store.create(resource.key, self._stored(resource, ready))
            self._after(resource, kept)
            return Answer(201, of_version(resource, kept), warnings)
        raise already_exists(resource.plural, name, resource.group)

    async def update(self, call: Call, document: Document) -> Answer:
        """Replace an object, or its status or scale, by what the caller sends."""
        metadata = document.setdefault("metadata", {})
        if not metadata.setdefault("name", call.name):
            raise bad_request("name must be provided")
        if metadata["name"] != call.name:
            words = f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.name})"
            raise bad_request(words)
        live = self.store.get(call.resource.key, call.namespace, call.name)
        if live is None and call.resource.key.plural == "leases":
            # Leases may be made by an update (AllowCreateOnUpdate), as those who hold them do.
            return await self.create(call._replace(name=""), document)
        return await self._replace(call, lambda _: document, "Update")

    async def patch(self, call: Call, make: Callable[[Document], Document]) -> Answer:
        """Change an object by what `make` does to the state that it is in."""
        return await self._replace(call, make, "Update")

    async def apply(self, call: Call, applied: Document) -> Answer:
        """Server-side apply: merge what a manager wishes, and make the object if it is not there."""
        resource = call.resource
        metadata = applied.setdefault("metadata", {})
        if metadata.setdefault("name", call.name) != call.name:
            raise bad_request("the name of the applied object does not match the name on the URL")
        if metadata.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if self.store.get(resource.key, call.namespace, call.name) is None:
            if call.subresource:
                raise not_found(resource.plural, call.name, resource.group)
            made = self.forming.applied(call, None, applied)
            return await self._create(call._replace(name=""), made, "Apply")
        return await self._replace(call, lambda live: self.forming.applied(call, live, applied), "Apply")

    async def _replace(self, call: Call, make: Callable[[Document], Document], manner: str) -> Answer:
        resource = call.resource
        for _ in range(_ATTEMPTS):
            read = self._read(call)
            live = of_version(resource, read)
            document = self._made(call, live, make)
            formed, warnings = self.forming.changed(call, live, document, manner)
            admitted, mutating = await self.gate.mutate(call, "UPDATE", formed, live)
            ready = self.forming.complete_changed(call, live, admitted, self.store, manner)
            validating = await self.gate.validate(call, "UPDATE", ready, live)
            warnings = (*warnings, *mutating, *validating)
            if not call.subresource:
                warnings += self._unheeded(resource)
            if _same(ready, live) or call.options.dry_run:
                return self._answer(call, live if _same(ready, live) else ready, warnings)
            try:
                if deletion.is_over(resource, ready):
                    kept = self.store.delete(resource.key, read)
                    self._after_removal(resource, kept)
                else:
                    kept = self.store.update(resource.key, self._stored(resource, ready), read)
                    self._after(resource, kept)
            except Stale:
                # Made anew from the newer state; what insists on a revision is refused in the next round.
                continue
            return self._answer(call, of_version(resource, kept), warnings)
        raise _modified(call)

    def _made(self, call: Call, live: Document, make: Callable[[Document], Document]) -> Document:
        if call.subresource == "scale":
            where = self._scale_paths(call.resource)
            wished = make(scale.read(live, where))
            replicas = (wished.get("spec") or {}).get("replicas", 0)
            if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
                cause = Cause("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0")
                raise invalid("Scale", call.name, [cause], "autoscaling")
            return scale.written(live, wished, where)
        return make(live)

    def _answer(self, call: Call, document: Document, warnings: tuple[str, ...]) -> Answer:
        if call.subresource == "scale":
            return Answer(200, scale.read(document, self._scale_paths(call.resource)), warnings)
        return Answer(200, document, warnings)

    async def delete(self, call: Call, wished: DeleteOptions) -> Answer:
        """Delete an object, or begin to. Answers its last or waiting state, or a Status if it was gone at once."""
        resource = call.resource
        for _ in range(_ATTEMPTS):
            read = self._read(call)
            deletion.insisted(resource, read, wished)
            warnings = await self.gate.validate(call, "DELETE", None, of_version(resource, read))
            waiting = deletion.begun(resource, read, wished, self.surroundings.now())
            if call.options.dry_run or waiting is read:
                return Answer(200, of_version(resource, waiting or read), warnings)
            try:
                if waiting is not None:
                    kept = self.store.update(resource.key, waiting, read)
                    self._after(resource, kept)
                    return Answer(200, of_version(resource, kept), warnings)
                last = self.store.delete(resource.key, read)
            except Stale:
                continue
            self._after_removal(resource, last)
            return Answer(200, _deleted(resource, last), warnings)
        raise _modified(call)

    async def delete_collection(self, call: Call, selection: ListOptions, wished: DeleteOptions) -> Listed:
        """Delete every object of a selection; the list is that of the objects before."""
        listed = self.list(call, selection)
        for document in listed.documents:
            metadata = document["metadata"]
            each = call._replace(name=metadata["name"], namespace=metadata.get("namespace", ""))
            try:
                await self.delete(each, wished._replace(uid="", revision=""))
            except StatusError as error:
                if error.code != 404:
                    raise
        return listed

    def _read(self, call: Call) -> Document:
        found = self.store.get(call.resource.key, call.namespace, call.name)
        if found is None:
            raise not_found(call.resource.plural, call.name, call.resource.group)
        return found

    def _wanted(self, call: Call, labels: str, fields: str) -> Predicate | None:
        wanted = predicate(call.resource, labels, fields)
        if not call.name:
            return wanted
        # Watching one object by its path is the same as selecting its name.
        name = call.name
        return lambda each: each["metadata"]["name"] == name and (wanted is None or wanted(each))

    def _scale_paths(self, resource: Resource) -> scale.Paths:
        return scale.paths(resource, self.registry.definition(resource))

    def _stored(self, resource: Resource, document: Document) -> Document:
        return of_version(self.registry.stored(resource.key) or resource, document)

    def _unheeded(self, resource: Resource) -> tuple[str, ...]:
        return (resource.not_acted_on,) if resource.not_acted_on else ()

    def _after(self, resource: Resource, kept: Document) -> None:
        if resource.key == CUSTOM_RESOURCE_DEFINITIONS:
            self.registry.define(kept)

    def _after_removal(self, resource: Resource, last: Document) -> None:
        if resource.key == CUSTOM_RESOURCE_DEFINITIONS:
            for each in self.registry.undefine(last["metadata"]["name"]):
                self.store.forget(each.key)


def _same(one: Document, other: Document) -> bool:
    """Whether a write would change nothing but the times in managedFields."""
    return one == other or _without_record(one) == _without_record(other)


def _without_record(document: Document) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    record: list[Any] = [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in document["metadata"].get("managedFields") or ()
    ]
    return {**document, "metadata": {**metadata, "managedFields": record}}


def _deleted(resource: Resource, last: Document) -> Document:
    details = {"name": last["metadata"]["name"], "group": resource.group, "kind": resource.plural}
    if uid := last["metadata"].get("uid"):
        details["uid"] = uid
    details = {key: value for key, value in details.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def _modified(call: Call) -> StatusError:
    words = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(call.resource.plural, call.name, words, call.resource.group)


def _revision(text: str) -> int:
    if not text.isdigit():
        raise bad_request(f'resourceVersion: Invalid value: "{text}": it is a number, as a list or an object had it')
    return int(text)


def _place(document: Document) -> list[str]:
    metadata = document["metadata"]
    return [metadata.get("namespace", ""), metadata["name"]]


def _token(revision: int, place: list[str]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([revision, *place])).decode().rstrip("=")


def _resumed(token: str) -> tuple[int, list[str]]:
    try:
        padded = token + "=" * (-len(token) % 4)
        revision, *place = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=tuple[int, str, str])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise bad_request("continue key is not valid") from None
    return revision, [str(step) for step in place]
