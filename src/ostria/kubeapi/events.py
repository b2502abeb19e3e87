"""Events in the words of either of their groups: they are stored once, and read and written as both.

See https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/, whose `deprecated` fields are those
of the older form.
"""

from __future__ import annotations

from ostria.kubeapi.kinds import EVENTS
from ostria.kubeapi.requests import Document, Resource

_NEWER = {
    "count": "deprecatedCount",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "involvedObject": "regarding",
    "lastTimestamp": "deprecatedLastTimestamp",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
}
_OLDER = {newer: older for older, newer in _NEWER.items()}


def converted(resource: Resource, event: Document) -> Document:
    """An event of either group, as an object of `resource`."""
    words = _NEWER if resource.group == EVENTS else _OLDER
    found = {words.get(name, name): value for name, value in event.items()}
    return {**found, "apiVersion": resource.api_version, "kind": resource.kind}
