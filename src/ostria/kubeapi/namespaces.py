"""What a namespace or a definition takes with it when it goes: everything in it, before itself. Pure decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ostria.kubeapi.deletion import CLEANUP
from ostria.kubeapi.garbage import Place
from ostria.kubeapi.kinds import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from ostria.kubeapi.requests import Document, Reader, ResourceKey

FINALIZER = "kubernetes"
"""What a namespace's `spec.finalizers` holds until it is empty."""

FIRST = ("default", "kube-node-lease", "kube-public", "kube-system")
"""The namespaces that are there from the first start on."""


class Kept(Reader, Protocol):
    """A reader that also knows of which resources there are objects."""

    def resources(self) -> Iterable[ResourceKey]:
        """Every resource of which something is kept."""


class Drain(NamedTuple):
    """What is left of a container that goes: what is still to be deleted, and how much waits to go."""

    to_delete: tuple[Place, ...]
    waiting: int

    @property
    def is_empty(self) -> bool:
        """Whether the container itself may go."""
        return not self.to_delete and not self.waiting


def is_draining(key: ResourceKey, document: Document) -> bool:
    """Whether an object is a container that goes, and has not been let go yet."""
    metadata = document["metadata"]
    if not metadata.get("deletionTimestamp"):
        return False
    if key == NAMESPACES:
        return FINALIZER in ((document.get("spec") or {}).get("finalizers") or ())
    return key == CUSTOM_RESOURCE_DEFINITIONS and CLEANUP in (metadata.get("finalizers") or ())


def drain(container: Document, key: ResourceKey, kept: Kept) -> Drain:
    """What is left in a container."""
    found = []
    waiting = 0
    if key == NAMESPACES:
        name = container["metadata"]["name"]
        inside = [(each, kept.list(each, name)) for each in kept.resources()]
    else:
        spec = container["spec"]
        each = ResourceKey(spec["group"], spec["names"]["plural"])
        inside = [(each, kept.list(each))]
    for resource, documents in inside:
        for document in documents:
            metadata = document["metadata"]
            if metadata.get("deletionTimestamp"):
                waiting += 1
            else:
                found.append(Place(resource, metadata.get("namespace") or "", metadata["name"]))
    return Drain(tuple(found), waiting)


def let_go(key: ResourceKey, container: Document) -> Document:
    """The container without what has held it."""
    if key == NAMESPACES:
        spec = container.get("spec") or {}
        rest = [each for each in spec.get("finalizers") or () if each != FINALIZER]
        return {**container, "spec": {**spec, "finalizers": rest}}
    metadata = container["metadata"]
    rest = [each for each in metadata.get("finalizers") or () if each != CLEANUP]
    return {**container, "metadata": {**metadata, "finalizers": rest}}
