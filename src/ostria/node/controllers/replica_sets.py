"""ReplicaSets: as many pods of a template as are wished for, and a status that counts them.

Pods of nobody that the selector matches are adopted, and a pod whose labels do not match any more is let go.
When there are too many, those go first that serve least: unscheduled, not ready, the youngest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ostria.node.controllers.objects import (
    POD,
    REPLICA_SET,
    Document,
    Key,
    View,
    available_at,
    created,
    is_active,
    is_deleted,
    is_ready,
    key_of,
    labels_of,
    status_of,
)
from ostria.node.controllers.owners import claim, owner_reference, owners_to_ask
from ostria.node.controllers.writes import (
    NOTHING,
    Changed,
    Controller,
    Create,
    Delete,
    Outcome,
    Update,
    Write,
    earliest,
)

BURST = 100
"""Pods that are made or deleted in one go; the rest follows when these are known."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The ReplicaSet itself, or whose pod has changed."""
    for document in (changed.before, changed.after):
        if document is None:
            continue
        if changed.kind == REPLICA_SET:
            yield key_of(document)
        elif changed.kind == POD:
            yield from owners_to_ask(view, document, REPLICA_SET)


def reconcile(view: View, key: Key, now: float) -> Outcome:
    """What one ReplicaSet needs."""
    replica_set = view.get(REPLICA_SET, *key)
    if replica_set is None:
        return NOTHING
    writes: list[Write] = []
    pods = claim(view, POD, replica_set, is_active, writes)
    active = [pod for pod in pods if is_active(pod)]
    if not is_deleted(replica_set):
        wished = replica_set["spec"].get("replicas", 1)
        missing = wished - len(active)
        if missing > 0:
            made = pod_of(replica_set, replica_set["spec"]["template"])
            writes += [Create(POD, made, replica_set)] * min(missing, BURST)
        elif missing < 0:
            first_to_go = sorted(active, key=_usefulness)[: min(-missing, BURST)]
            writes += [Delete(POD, pod, replica_set) for pod in first_to_go]
    status, again = _status(replica_set, active, now)
    if status != status_of(replica_set):
        writes.append(Update(REPLICA_SET, {**replica_set, "status": status}, "status"))
    return Outcome(tuple(writes), again)


def pod_of(owner: Document, template: Document) -> dict[str, Any]:
    """A pod of an owner's template, named after the owner."""
    given = template.get("metadata") or {}
    key = key_of(owner)
    meta: dict[str, Any] = {name: given[name] for name in ("labels", "annotations", "finalizers") if given.get(name)}
    meta |= {
        "generateName": f"{key.name[:57]}-",
        "namespace": key.namespace,
        "ownerReferences": [owner_reference(owner)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def _usefulness(pod: Document) -> tuple[bool, bool, bool, int, int, float]:
    """The order in which pods are given up, the least useful first."""
    status = status_of(pod)
    restarts = max((each.get("restartCount", 0) for each in status.get("containerStatuses") or ()), default=0)
    try:
        cost = int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0"))
    except ValueError:
        cost = 0
    return (
        bool(pod["spec"].get("nodeName")),
        status.get("phase") == "Running",
        is_ready(pod),
        cost,
        -restarts,
        -created(pod),
    )


def _status(replica_set: Document, active: Sequence[Document], now: float) -> tuple[dict[str, Any], float | None]:
    """The status, and when a pod becomes available by waiting alone."""
    spec = replica_set["spec"]
    delay = spec.get("minReadySeconds", 0)
    wanted = ((spec["template"].get("metadata") or {}).get("labels") or {}).items()
    moments = [moment for pod in active if (moment := available_at(pod, delay)) is not None]
    counts = {
        "fullyLabeledReplicas": sum(wanted <= labels_of(pod).items() for pod in active),
        "readyReplicas": len(moments),
        "availableReplicas": sum(moment <= now for moment in moments),
    }
    status: dict[str, Any] = {"replicas": len(active)}
    status |= {name: count for name, count in counts.items() if count}
    status["observedGeneration"] = replica_set["metadata"].get("generation", 0)
    conditions = status_of(replica_set).get("conditions")
    if conditions:
        status["conditions"] = conditions
    return status, earliest(*(moment for moment in moments if moment > now))


CONTROLLER = Controller("replicaset", concerned, reconcile)
