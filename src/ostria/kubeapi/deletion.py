"""What it means to delete an object: at once, after a grace, or when its finalizers are through. Pure decisions.

See https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/ and
https://kubernetes.io/docs/concepts/architecture/garbage-collection/.
"""

from __future__ import annotations

from datetime import datetime

from ostria.base.times import timestamp
from ostria.kubeapi.calls import DeleteOptions
from ostria.kubeapi.errors import conflict
from ostria.kubeapi.kinds import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, PODS
from ostria.kubeapi.requests import Document, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that holds a CustomResourceDefinition until its objects are gone."""


def insisted(resource: Resource, document: Document, wished: DeleteOptions) -> None:
    """Raises StatusError (409) if the caller means another object, or another state of it."""
    metadata = document["metadata"]
    for said, found, what in (
        (wished.uid, metadata["uid"], "UID"),
        (wished.revision, metadata["resourceVersion"], "ResourceVersion"),
    ):
        if said and said != found:
            words = f"Precondition failed: {what} in precondition: {said}, {what} in object meta: {found}"
            raise conflict(resource.plural, metadata["name"], words, resource.group)


def begun(resource: Resource, document: Document, wished: DeleteOptions, now: datetime) -> Document | None:
    """What becomes of an object that is to go: None if it goes now, else its new state, in which it waits.

    The new state may equal the old one: then nothing is to be written.
    """
    metadata = document["metadata"]
    finalizers = _finalizers(resource, document, wished)
    grace = _grace(resource, document, wished)
    if not grace and not finalizers and not _is_draining(resource, document):
        return None
    before = metadata.get("deletionGracePeriodSeconds")
    if metadata.get("deletionTimestamp") and (before is None or grace >= before):
        grace, until = before or 0, metadata["deletionTimestamp"]
    else:
        until = timestamp(now.timestamp() + grace)
    marked: Document = {**metadata, "deletionTimestamp": until, "deletionGracePeriodSeconds": grace}
    if finalizers:
        marked["finalizers"] = finalizers
    else:
        marked.pop("finalizers", None)
    if not metadata.get("deletionTimestamp") and "generation" in metadata:
        marked["generation"] = metadata["generation"] + 1
    waiting = {**document, "metadata": marked}
    if resource.key == NAMESPACES:
        waiting["status"] = {**(document.get("status") or {}), "phase": "Terminating"}
    return document if waiting == document else waiting


def is_over(resource: Resource, document: Document) -> bool:
    """Whether an object that waits to go has nothing left to wait for."""
    metadata = document["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    return not metadata.get("deletionGracePeriodSeconds") and not _is_draining(resource, document)


def _finalizers(resource: Resource, document: Document, wished: DeleteOptions) -> list[str]:
    found = list(document["metadata"].get("finalizers") or ())
    if wished.propagation:
        found = [each for each in found if each not in (FOREGROUND, ORPHAN)]
        asked = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(wished.propagation)
        found += [asked] if asked else []
    if resource.key == CUSTOM_RESOURCE_DEFINITIONS and not document["metadata"].get("deletionTimestamp"):
        found += [CLEANUP] if CLEANUP not in found else []
    return found


def _grace(resource: Resource, document: Document, wished: DeleteOptions) -> int:
    if resource.key != PODS:
        return 0
    spec = document.get("spec") or {}
    phase = (document.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        # Nothing of it runs, so there is nothing to wait for.
        return 0
    if wished.grace is not None:
        return wished.grace
    return int(spec.get("terminationGracePeriodSeconds", 30))


def _is_draining(resource: Resource, document: Document) -> bool:
    return resource.key == NAMESPACES and bool((document.get("spec") or {}).get("finalizers"))
