"""Which node a pod runs on: this one, if the pod can be here at all.

There is one node, without capacity limits: a pod waits only for its gates, for a node that its nodeSelector describes,
or for a scheduler of another name. Affinities, taints and spread constraints are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ostria.base.selectors import matches_labels
from ostria.node.controllers.objects import (
    NODE,
    POD,
    Condition,
    Key,
    View,
    condition_of,
    is_deleted,
    key_of,
    labels_of,
    status_of,
)
from ostria.node.controllers.writes import NOTHING, Bind, Changed, Controller, Outcome, Say, Update


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The pod; every pod that waits when the node has changed."""
    if changed.kind == POD and changed.after is not None and not changed.after["spec"].get("nodeName"):
        yield key_of(changed.after)
    elif changed.kind == NODE:
        yield from (key_of(pod) for pod in view.list(POD) if not pod["spec"].get("nodeName"))


def reconcile(node_name: str, view: View, key: Key, now: float) -> Outcome:
    """What one pod needs."""
    pod = view.get(POD, *key)
    if pod is None or is_deleted(pod):
        return NOTHING
    spec = pod["spec"]
    if spec.get("nodeName") or spec.get("schedulingGates"):
        return NOTHING
    if spec.get("schedulerName", "default-scheduler") != "default-scheduler":
        return NOTHING
    node = view.get(NODE, "", node_name)
    if node is None:
        return NOTHING
    if node["spec"].get("unschedulable"):
        why = "0/1 nodes are available: 1 node(s) were unschedulable."
    elif not matches_labels(spec.get("nodeSelector") or {}, labels_of(node)):
        why = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    else:
        words = f"Successfully assigned {key.namespace}/{key.name} to {node_name}"
        return Outcome((Bind(pod, node_name), Say(pod, "Scheduled", words)))
    condition = Condition("PodScheduled", "False", "Unschedulable", why).over(condition_of(pod, "PodScheduled"), now)
    if condition == condition_of(pod, "PodScheduled"):
        return NOTHING
    others = [each for each in status_of(pod).get("conditions") or () if each["type"] != "PodScheduled"]
    status = {**status_of(pod), "conditions": [*others, condition]}
    told = Say(pod, "FailedScheduling", why, "Warning")
    return Outcome((Update(POD, {**pod, "status": status}, "status"), told))


def controller(node_name: str) -> Controller:
    """The controller that gives pods to this node."""
    return Controller("scheduler", concerned, partial(reconcile, node_name))
