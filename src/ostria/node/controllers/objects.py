"""Objects as controllers read them: whole documents, the kinds they are of, and the questions that are asked of all.

Pure. A document is never changed in place; times are RFC 3339 texts in documents and seconds since 1970 elsewhere.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from ostria.base.selectors import Selector, of_expressions
from ostria.base.times import timestamp
from ostria.resources import Kind
from ostria.sources.documents import Document as _Whole

Document = Mapping[str, Any]
"""An object as JSON."""


def _kind(name: str, plural: str, group: str = "", version: str = "v1", *, namespaced: bool = True) -> Kind:
    return Kind(name, group, (version,), version, plural, name.lower(), _Whole, namespaced=namespaced)


NAMESPACE = _kind("Namespace", "namespaces", namespaced=False)
NODE = _kind("Node", "nodes", namespaced=False)
POD = _kind("Pod", "pods")
SERVICE = _kind("Service", "services")
ENDPOINTS = _kind("Endpoints", "endpoints")
ENDPOINT_SLICE = _kind("EndpointSlice", "endpointslices", "discovery.k8s.io")
SERVICE_ACCOUNT = _kind("ServiceAccount", "serviceaccounts")
CONFIG_MAP = _kind("ConfigMap", "configmaps")
SECRET = _kind("Secret", "secrets")
DEPLOYMENT = _kind("Deployment", "deployments", "apps")
REPLICA_SET = _kind("ReplicaSet", "replicasets", "apps")
JOB = _kind("Job", "jobs", "batch")
EVENT = _kind("Event", "events")
LEASE = _kind("Lease", "leases", "coordination.k8s.io")

WATCHED = (
    NAMESPACE, NODE, POD, SERVICE, ENDPOINTS, ENDPOINT_SLICE, SERVICE_ACCOUNT, CONFIG_MAP, SECRET, DEPLOYMENT,
    REPLICA_SET, JOB,
)  # fmt: skip
"""What is mirrored."""


class Key(NamedTuple):
    """Which object of a controller's kind; namespace "" for those of the cluster."""

    namespace: str
    name: str


class View(Protocol):
    """Objects as they are known now, with what has been written already."""

    def get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        """One object."""

    def list(self, kind: Kind, namespace: str | None = None) -> Iterable[Document]:
        """All objects of a kind, or those of one namespace, in no order."""


def key_of(document: Document) -> Key:
    """Its namespace and name."""
    meta = document["metadata"]
    return Key(meta.get("namespace", ""), meta["name"])


def uid_of(document: Document) -> str:
    """Its uid."""
    return str(document["metadata"].get("uid", ""))


def labels_of(document: Document) -> Mapping[str, str]:
    """Its labels."""
    return document["metadata"].get("labels") or {}


def annotations_of(document: Document) -> Mapping[str, str]:
    """Its annotations."""
    return document["metadata"].get("annotations") or {}


def status_of(document: Document) -> Mapping[str, Any]:
    """Its status."""
    return document.get("status") or {}


def is_deleted(document: Document) -> bool:
    """Whether somebody has asked for its end."""
    return bool(document["metadata"].get("deletionTimestamp"))


def with_metadata(document: Document, **changes: Any) -> dict[str, Any]:
    """The document with other fields of metadata (in the API's spelling); None takes a field away."""
    meta = {**document["metadata"], **changes}
    return {**document, "metadata": {name: value for name, value in meta.items() if value is not None}}


# --- selectors, conditions, times ------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _selector(encoded: bytes) -> Selector | None:
    given = msgspec.json.decode(encoded)
    expressions = given.get("matchExpressions") or ()
    try:
        return of_expressions(
            given.get("matchLabels") or {},
            [(each["key"], each["operator"], each.get("values") or ()) for each in expressions],
        )
    except ValueError:
        return None


def selector_of(document: Document) -> Selector | None:
    """The selector of a workload; None if it has none, or one that cannot be: that selects nothing."""
    given = document["spec"].get("selector")
    found = _selector(msgspec.json.encode(given, order="sorted")) if given else None
    return found if found and found.requirements else None


def condition_of(document: Document, kind: str) -> Mapping[str, Any] | None:
    """One condition of its status."""
    return next((each for each in status_of(document).get("conditions") or () if each["type"] == kind), None)


def is_true(document: Document, kind: str) -> bool:
    """Whether a condition holds."""
    found = condition_of(document, kind)
    return found is not None and found.get("status") == "True"


def moment(text: str | None) -> float:
    """A time of a document in seconds since 1970; 0 if there is none."""
    if not text:
        return 0.0
    return datetime.datetime.fromisoformat(text).timestamp()


def created(document: Document) -> float:
    """When it was made."""
    return moment(document["metadata"].get("creationTimestamp"))


class Condition(NamedTuple):
    """A condition to be written."""

    type: str
    status: str
    reason: str = ""
    message: str = ""

    def over(self, before: Mapping[str, Any] | None, now: float, *, updates: bool = False) -> dict[str, Any]:
        """As it is written over the one before: times stay as long as nothing changes.

        `updates` says that its kind has a lastUpdateTime beside the time of the last change of status.
        """
        said = {"reason": self.reason, "message": self.message}
        new: dict[str, Any] = {"type": self.type, "status": self.status}
        new |= {name: value for name, value in said.items() if value}
        if before is not None and all(before.get(name, "") == new.get(name, "") for name in (*new, *said)):
            return dict(before)
        same = before is not None and before.get("status") == self.status
        new["lastTransitionTime"] = before["lastTransitionTime"] if before and same else timestamp(now)
        if updates:
            new["lastUpdateTime"] = timestamp(now)
        return new


# --- pods ------------------------------------------------------------------------------------------------------------


def is_active(pod: Document) -> bool:
    """Whether a pod counts: it has not ended and nobody ends it."""
    return not is_deleted(pod) and status_of(pod).get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Document) -> bool:
    """Whether a pod says that it is ready."""
    return is_true(pod, "Ready")


def available_at(pod: Document, min_ready_seconds: int) -> float | None:
    """Since (or from) when a pod counts as available; None if it is not ready."""
    ready = condition_of(pod, "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    return moment(ready.get("lastTransitionTime")) + min_ready_seconds if min_ready_seconds else 0.0
