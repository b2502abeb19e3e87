"""A pod's status as kubelet writes it: pure, from the pod, its record and the time.

Shapes and reasons follow https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostria.base.times import timestamp
from ostria.node.environment import Addresses
from ostria.node.lifecycle import ContainerRecord, Past, PodRecord, State, by_name, phase, restarts
from ostria.node.pods import Container, Pod

_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def observe(pod: Pod, record: PodRecord, now: float) -> PodRecord:
    """The record with the time of every condition that has changed."""
    transitions = dict(record.transitions)
    for kind in _CONDITIONS:
        status = _condition(pod, record, kind)["status"]
        if transitions.get(kind, ("", 0.0))[0] != status:
            transitions[kind] = (status, now)
    if transitions == record.transitions:
        return record
    return msgspec.structs.replace(record, transitions=transitions)


def status_of(pod: Pod, record: PodRecord, addresses: Addresses, now: float) -> dict[str, Any]:
    """The whole PodStatus. `record` has been observed."""
    status: dict[str, Any] = {
        "phase": phase(pod, record),
        "conditions": [
            {
                **_condition(pod, record, kind),
                "lastProbeTime": None,
                "lastTransitionTime": timestamp(record.transitions[kind][1]),
            }
            for kind in _CONDITIONS
        ],
        "hostIP": addresses.host_ip,
        "hostIPs": [{"ip": ip} for ip in addresses.host_ips or (addresses.host_ip,)],
        "startTime": timestamp(record.start_time),
        "qosClass": _quality(pod),
    }
    if addresses.ips:
        status |= {"podIP": addresses.ips[0], "podIPs": [{"ip": ip} for ip in addresses.ips]}
    if record.ending:
        status |= {"reason": record.ending, "message": "Pod was active on the node longer than the specified deadline"}
    inits = {program.name for program in pod.spec.init_containers}
    every = [
        (program.name in inits, _container(pod, record, program, known, now)) for program, known in by_name(pod, record)
    ]
    if inits:
        status["initContainerStatuses"] = [one for is_init, one in every if is_init]
    status["containerStatuses"] = [one for is_init, one in every if not is_init]
    return status


def _condition(pod: Pod, record: PodRecord, kind: str) -> dict[str, Any]:
    if kind == "PodScheduled":
        return _is("PodScheduled", [])
    if kind == "PodReadyToStartContainers":
        return _is(kind, [] if record.ips else ["network"], "", "")
    if kind == "Initialized":
        waiting = (
            []
            if record.is_initialized
            else [program.name for program in pod.spec.init_containers if not _is_ready(pod, program, record)]
        )
        return _is(kind, waiting, "ContainersNotInitialized", "containers with incomplete status")
    over = phase(pod, record)
    if over in ("Succeeded", "Failed"):
        reason = "PodCompleted" if over == "Succeeded" else "PodFailed"
        return {"type": kind, "status": "False", "reason": reason}
    watched = (*pod.sidecars, *pod.spec.containers)
    unready = [program.name for program in watched if not record.containers[program.name].is_ready]
    condition = _is(kind, unready, "ContainersNotReady", "containers with unready status")
    if kind == "ContainersReady" or unready:
        return condition
    given = {each.type: each.status for each in pod.status.conditions}
    gates = [gate.condition_type for gate in pod.spec.readiness_gates if given.get(gate.condition_type) != "True"]
    return _is(kind, gates, "ReadinessGatesNotReady", "the status of pod readiness gates is not True")


def _is(kind: str, lacking: list[str], reason: str = "", message: str = "") -> dict[str, Any]:
    if not lacking:
        return {"type": kind, "status": "True"}
    said = {"reason": reason, "message": f"{message}: [{' '.join(lacking)}]"} if reason else {}
    return {"type": kind, "status": "False", **said}


def _is_ready(pod: Pod, program: Container, record: PodRecord) -> bool:
    known = record.containers[program.name]
    if program in pod.spec.init_containers and program.restart_policy != "Always":
        return known.state is State.TERMINATED and known.past is not None and known.past.code == 0
    return known.is_ready


def _container(pod: Pod, record: PodRecord, program: Container, known: ContainerRecord, now: float) -> dict[str, Any]:
    state, last = _state(pod, record, program, known, now)
    status: dict[str, Any] = {
        "name": program.name,
        "image": program.image,
        "imageID": program.image,
        "ready": _is_ready(pod, program, record),
        "started": known.has_started,
        "restartCount": known.restarts,
        "state": state,
        "lastState": last,
    }
    if known.past is not None or known.state is State.RUNNING:
        status["containerID"] = _id(pod, known.run)
    return status


def _state(
    pod: Pod, record: PodRecord, program: Container, known: ContainerRecord, now: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    last = _terminated(pod, known.last) if known.last else {}
    if known.state is State.RUNNING:
        return {"running": {"startedAt": timestamp(known.started)}}, last
    ends = pod.is_deleted or bool(record.ending)
    if known.past is not None:
        ended = _terminated(pod, known.past)
        if not ends and restarts(pod, program, known) and (known.retry_at > now or known.reason):
            return {"waiting": _waiting(pod, known)}, ended
        return ended, last
    is_init = program in pod.spec.init_containers
    waiting = (
        {"reason": known.reason, "message": known.message}
        if known.reason
        else {"reason": "PodInitializing" if pod.spec.init_containers and not is_init else "ContainerCreating"}
    )
    if is_init and not known.reason and program is not pod.spec.init_containers[0]:
        waiting = {"reason": "PodInitializing"}
    return {"waiting": {key: value for key, value in waiting.items() if value}}, last


def _waiting(pod: Pod, known: ContainerRecord) -> dict[str, Any]:
    if known.reason:
        return {key: value for key, value in (("reason", known.reason), ("message", known.message)) if value}
    where = f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
    message = f"back-off {known.delay:g}s restarting failed container={known.name} pod={where}"
    return {"reason": "CrashLoopBackOff", "message": message}


def _terminated(pod: Pod, past: Past) -> dict[str, Any]:
    ended: dict[str, Any] = {
        "exitCode": past.code,
        "reason": past.reason,
        "startedAt": timestamp(past.started or past.finished),
        "finishedAt": timestamp(past.finished),
        "containerID": _id(pod, past.run),
    }
    if past.signal:
        ended["signal"] = past.signal
    if past.message:
        ended["message"] = past.message
    return {"terminated": ended}


def _id(pod: Pod, run: str) -> str:
    return f"ostria://{pod.metadata.uid}/{run}"


def _quality(pod: Pod) -> str:
    every = [program.resources for program in pod.programs]
    if not any(each.requests or each.limits for each in every):
        return "BestEffort"
    guaranteed = all(each.limits.keys() >= {"cpu", "memory"} and each.requests in ({}, each.limits) for each in every)
    return "Guaranteed" if guaranteed else "Burstable"
