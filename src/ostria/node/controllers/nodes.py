"""The Node object: what this machine is, where it is reached, and that it is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ostria.node.controllers.objects import (
    NODE,
    Condition,
    Key,
    View,
    condition_of,
    is_deleted,
    key_of,
    labels_of,
    status_of,
    with_metadata,
)
from ostria.node.controllers.writes import NOTHING, Changed, Controller, Create, Outcome, Update, Write

_CONDITIONS = (
    Condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    Condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    Condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    Condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


class Facts(NamedTuple):
    """What is told of this machine. `memory` is in bytes; `addresses` are of the pods' gateway, both families."""

    name: str
    addresses: tuple[str, ...]
    cpus: int
    memory: int
    pods: int
    pod_ranges: tuple[str, ...]
    architecture: str
    version: str
    system: Mapping[str, str] = {}


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The node."""
    for document in (changed.before, changed.after):
        if document is not None and changed.kind == NODE:
            yield key_of(document)


def reconcile(facts: Facts, view: View, key: Key, now: float) -> Outcome:
    """What the node's object needs."""
    if key.name != facts.name:
        return NOTHING
    known = view.get(NODE, *key)
    labels = {
        "beta.kubernetes.io/arch": facts.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": facts.architecture,
        "kubernetes.io/hostname": facts.name,
        "kubernetes.io/os": "linux",
        "node-role.kubernetes.io/control-plane": "",
    }
    spec = {"podCIDR": facts.pod_ranges[0], "podCIDRs": list(facts.pod_ranges)}
    if known is None:
        made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": facts.name, "labels": labels}, "spec": spec}
        return Outcome((Create(NODE, made),))
    if is_deleted(known):
        return NOTHING
    writes: list[Write] = []
    if not labels.items() <= labels_of(known).items():
        known = with_metadata(known, labels={**labels_of(known), **labels})
        writes.append(Update(NODE, known))
    status = {**status_of(known), **_status(facts)}
    others = [each for each in status.get("conditions") or () if each["type"] not in {one.type for one in _CONDITIONS}]
    ours = [_with_heartbeat(one.over(condition_of(known, one.type), now)) for one in _CONDITIONS]
    status["conditions"] = [*ours, *others]
    if status != status_of(known):
        writes.append(Update(NODE, {**known, "status": status}, "status"))
    return Outcome(tuple(writes))


def _with_heartbeat(condition: dict[str, Any]) -> dict[str, Any]:
    """The Lease is what tells that the node lives: here only changes are written."""
    return {"lastHeartbeatTime": condition["lastTransitionTime"], **condition}


def _status(facts: Facts) -> dict[str, Any]:
    room = {"cpu": str(facts.cpus), "memory": f"{facts.memory // 1024}Ki", "pods": str(facts.pods)}
    addresses = [{"type": "InternalIP", "address": address} for address in facts.addresses]
    return {
        "addresses": [*addresses, {"type": "Hostname", "address": facts.name}],
        "capacity": room,
        "allocatable": room,
        "nodeInfo": {
            "architecture": facts.architecture,
            "operatingSystem": "linux",
            "kubeletVersion": facts.version,
            "kubeProxyVersion": facts.version,
            "containerRuntimeVersion": "ostria://namespaces",
            "bootID": "",
            "machineID": "",
            "systemUUID": "",
            "kernelVersion": "",
            "osImage": "",
            **facts.system,
        },
    }


def controller(facts: Facts) -> Controller:
    """The controller that keeps this node's object."""
    return Controller("node", concerned, partial(reconcile, facts), (Key("", facts.name),))
