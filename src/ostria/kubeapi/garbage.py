"""Who owns whom, and what follows when owners go. A pure index: events in, duties out.

Owners are known by their uid. What is owned goes when the last of its owners has gone; how an owner waits for what it
owns, or lets it be, its finalizers say (https://kubernetes.io/docs/concepts/architecture/garbage-collection/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.kubeapi.deletion import FOREGROUND, ORPHAN
from ostria.kubeapi.requests import Document, ResourceKey


class Place(NamedTuple):
    """Where an object is stored."""

    key: ResourceKey
    namespace: str
    name: str


class Duty(NamedTuple):
    """What is to be done with one object, if it is still the one with this uid.

    `action` is `delete` (with `propagation`), `disown` (take the references to `owners` away) or `release` (take the
    finalizer `finalizer` away).
    """

    action: str
    place: Place
    uid: str
    propagation: str = ""
    owners: frozenset[str] = frozenset()
    finalizer: str = ""


class _Node(NamedTuple):
    place: Place
    owners: frozenset[str]
    blocks: frozenset[str]
    finalizers: frozenset[str]
    going: bool


class Graph:
    """Every object by its uid, and what it owns. `see` and `lose` keep it; `duties` is asked for what changed."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._owned: dict[str, set[str]] = {}
        # Uids to look at again; a dict keeps their order.
        self._due: dict[str, None] = {}

    def see(self, key: ResourceKey, document: Document) -> None:
        """An object is there, or has changed."""
        metadata = document["metadata"]
        uid = metadata.get("uid", "")
        before = self._nodes.get(uid)
        references = metadata.get("ownerReferences") or ()
        node = _Node(
            Place(key, metadata.get("namespace") or "", metadata["name"]),
            frozenset(each["uid"] for each in references),
            frozenset(each["uid"] for each in references if each.get("blockOwnerDeletion")),
            frozenset(metadata.get("finalizers") or ()),
            bool(metadata.get("deletionTimestamp")),
        )
        if node == before:
            return
        self._nodes[uid] = node
        for owner in (before.owners if before else frozenset()) - node.owners:
            self._unlink(owner, uid)
            self._due[owner] = None
        for owner in node.owners:
            self._owned.setdefault(owner, set()).add(uid)
            self._due[owner] = None
        self._due[uid] = None

    def lose(self, document: Document) -> None:
        """An object has gone."""
        uid = document["metadata"].get("uid", "")
        node = self._nodes.pop(uid, None)
        for owner in node.owners if node else ():
            self._unlink(owner, uid)
            self._due[owner] = None
        for owned in self._owned.get(uid, ()):
            self._due[owned] = None

    def duties(self) -> Iterator[Duty]:
        """What is to be done because of what was seen and lost since the last call. Each duty done is seen again."""
        due, self._due = list(self._due), {}
        for uid in due:
            node = self._nodes.get(uid)
            if node is not None:
                yield from self._of_owned(uid, node)
                yield from self._of_owner(uid, node)

    def _of_owned(self, uid: str, node: _Node) -> Iterator[Duty]:
        if not node.owners or node.going:
            return
        there = frozenset(owner for owner in node.owners if owner in self._nodes)
        if not there:
            yield Duty("delete", node.place, uid, "Background")
            return
        waiting = frozenset(owner for owner in there if self._waits(owner))
        if waiting == there and waiting & node.blocks:
            yield Duty("delete", node.place, uid, "Foreground" if self._owned.get(uid) else "Background")
            return
        # Others still own it: those that have gone, or wait for it, are owners no longer.
        past = (node.owners - there) | waiting
        if past:
            yield Duty("disown", node.place, uid, owners=past)

    def _of_owner(self, uid: str, node: _Node) -> Iterator[Duty]:
        if not node.going:
            return
        owned = self._owned.get(uid, set())
        if ORPHAN in node.finalizers:
            for each in sorted(owned):
                yield Duty("disown", self._nodes[each].place, each, owners=frozenset({uid}))
            if not owned:
                yield Duty("release", node.place, uid, finalizer=ORPHAN)
        elif FOREGROUND in node.finalizers:
            blocking = [each for each in owned if uid in self._nodes[each].blocks]
            if not blocking:
                yield Duty("release", node.place, uid, finalizer=FOREGROUND)
            for each in sorted(owned):
                yield from self._of_owned(each, self._nodes[each])

    def _waits(self, uid: str) -> bool:
        node = self._nodes.get(uid)
        return node is not None and node.going and FOREGROUND in node.finalizers

    def _unlink(self, owner: str, uid: str) -> None:
        owned = self._owned.get(owner)
        if owned is not None:
            owned.discard(uid)
            if not owned:
                del self._owned[owner]
