"""Events in the words of either of their groups: they are stored once, and read and written as both.

See https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/, whose `deprecated` fields are those
of the older form.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ostria.kubeapi.fields import at
from ostria.kubeapi.kinds import EVENTS
from ostria.kubeapi.requests import Document, Resource

KEPT = timedelta(hours=1)
"""How long an event is kept after it was seen last, as with Kubernetes."""

_SEEN = (("lastTimestamp",), ("series", "lastObservedTime"), ("eventTime",), ("metadata", "creationTimestamp"))

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


def is_over(event: Document, now: datetime) -> bool:
    """Whether an event, in the words of the core group, has been kept long enough; one without any time has not."""
    times = [text for path in _SEEN if (text := at(event, *path))]
    return bool(times) and all(now - datetime.fromisoformat(text) > KEPT for text in times)
