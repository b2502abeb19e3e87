"""Pods and what makes them, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import APPS, BATCH, CORE
from ostria.kubeapi.requests import Document
from ostria.kubeapi.tables.printing import (
    NONE,
    Printer,
    age,
    columns,
    condition,
    containers,
    duration,
    labels,
    number,
    seconds,
    selector,
    shown,
    since,
)


class _Restarts:
    """How often containers began again, and when the last time was."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0

    def add(self, status: Document) -> None:
        self.count += number(status.get("restartCount"))
        self.last = max(self.last, seconds(at(status, "lastState", "terminated", "finishedAt")) or 0.0)

    def told(self, now: float) -> str:
        return f"{self.count} ({duration(now - self.last)} ago)" if self.count and self.last else str(self.count)


def _pod(pod: Document, now: float) -> Sequence[Any]:
    status = mapping(pod, "status")
    reason = str(status.get("reason") or status.get("phase") or "")
    if condition(pod, "PodScheduled").get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    sidecars = {
        each.get("name") for each in objects(pod, "spec", "initContainers") if each.get("restartPolicy") == "Always"
    }
    ready, total = 0, len(objects(pod, "spec", "containers")) + len(sidecars)
    restarts, of_sidecars = _Restarts(), _Restarts()
    initializing = ""
    for place, each in enumerate(objects(status, "initContainerStatuses")):
        restarts.add(each)
        if each.get("name") in sidecars:
            of_sidecars.add(each)
        ended = at(each, "state", "terminated")
        if isinstance(ended, dict) and not ended.get("exitCode"):
            continue
        if each.get("name") in sidecars and each.get("started"):
            ready += bool(each.get("ready"))
            continue
        initializing = _initializing(pod, each, place)
        break
    if initializing:
        reason = initializing
    if not initializing or condition(pod, "Initialized").get("status") == "True":
        restarts = of_sidecars
        running = False
        # From the last to the first, so that the first container that says something is heard.
        for each in reversed(objects(status, "containerStatuses")):
            restarts.add(each)
            told = _said(each)
            if told:
                reason = told
            elif each.get("ready") and isinstance(at(each, "state", "running"), dict):
                running = True
                ready += 1
        if reason == "Completed" and running:
            reason = "Running" if condition(pod, "Ready").get("status") == "True" else "NotReady"
    if at(pod, "metadata", "deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Failed", "Succeeded"):
            reason = "Terminating"
    address = next((each.get("ip") for each in objects(status, "podIPs")), None) or status.get("podIP")
    return [
        f"{ready}/{total}",
        reason,
        restarts.told(now),
        age(pod, now),
        shown(address),
        shown(at(pod, "spec", "nodeName")),
        shown(status.get("nominatedNodeName")),
        _gates(pod),
    ]


def _initializing(pod: Document, status: Document, place: int) -> str:
    ended = at(status, "state", "terminated")
    if isinstance(ended, dict):
        return f"Init:{ended.get('reason') or _exit(ended)}"
    waiting = at(status, "state", "waiting", "reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{place}/{len(objects(pod, 'spec', 'initContainers'))}"


def _said(status: Document) -> str:
    """What a container waits for or ended with; "" while it runs."""
    waiting = at(status, "state", "waiting", "reason")
    if waiting:
        return str(waiting)
    ended = at(status, "state", "terminated")
    return str(ended.get("reason") or _exit(ended)) if isinstance(ended, dict) else ""


def _exit(ended: Document) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{number(ended.get('exitCode'))}"


def _gates(pod: Document) -> str:
    gates = objects(pod, "spec", "readinessGates")
    if not gates:
        return NONE
    held = sum(condition(pod, str(gate.get("conditionType"))).get("status") == "True" for gate in gates)
    return f"{held}/{len(gates)}"


def _finished(pod: Document) -> Document:
    told = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}
    phase = at(pod, "status", "phase")
    return {"reason": phase, "message": told[phase]} if phase in told else {}


def _deployment(document: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    return [
        f"{number(status.get('readyReplicas'))}/{number(spec.get('replicas'))}",
        number(status.get("updatedReplicas")),
        number(status.get("availableReplicas")),
        age(document, now),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def _replica_set(document: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    return [
        number(spec.get("replicas")),
        number(status.get("replicas")),
        number(status.get("readyReplicas")),
        age(document, now),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def _replication_controller(document: Document, now: float) -> Sequence[Any]:
    return [*_replica_set(document, now)[:-1], labels(at(document, "spec", "selector"))]


def _stateful_set(document: Document, now: float) -> Sequence[Any]:
    spec = mapping(document, "spec")
    ready = number(at(document, "status", "readyReplicas"))
    return [f"{ready}/{number(spec.get('replicas'))}", age(document, now), *containers(spec.get("template"))]


def _daemon_set(document: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    return [
        number(status.get("desiredNumberScheduled")),
        number(status.get("currentNumberScheduled")),
        number(status.get("numberReady")),
        number(status.get("updatedNumberScheduled")),
        number(status.get("numberAvailable")),
        labels(at(spec, "template", "spec", "nodeSelector")),
        age(document, now),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def _controller_revision(document: Document, now: float) -> Sequence[Any]:
    owner = next((each for each in objects(document, "metadata", "ownerReferences") if each.get("controller")), None)
    controller = NONE
    if owner is not None:
        group = str(owner.get("apiVersion")).rpartition("/")[0]
        kind = str(owner.get("kind")).lower()
        controller = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [controller, number(document.get("revision")), age(document, now)]


def _job(job: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(job, "spec"), mapping(job, "status")
    begun, ended = seconds(status.get("startTime")), seconds(status.get("completionTime"))
    done = number(status.get("succeeded"))
    if spec.get("completions") is not None:
        completions = f"{done}/{spec['completions']}"
    elif number(spec.get("parallelism")) > 1:
        completions = f"{done}/1 of {spec['parallelism']}"
    else:
        completions = f"{done}/1"
    return [
        _job_status(job),
        completions,
        "" if begun is None else duration((now if ended is None else ended) - begun),
        age(job, now),
        *containers(spec.get("template")),
        selector(spec.get("selector")),
    ]


def _job_status(job: Document) -> str:
    for kind in ("Complete", "Failed"):
        if condition(job, kind).get("status") == "True":
            return kind
    if at(job, "metadata", "deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition(job, kind).get("status") == "True":
            return kind
    return "Running"


def _cron_job(document: Document, now: float) -> Sequence[Any]:
    spec, status = mapping(document, "spec"), mapping(document, "status")
    last = status.get("lastScheduleTime")
    job = mapping(spec, "jobTemplate", "spec")
    return [
        str(spec.get("schedule") or ""),
        shown(spec.get("timeZone")),
        "True" if spec.get("suspend") else "False",
        len(objects(status, "active")),
        since(last, now) if last else NONE,
        age(document, now),
        *containers(job.get("template")),
        selector(job.get("selector")),
    ]


_TEMPLATE = ("Containers*", "Images*", "Selector*")
_COUNTS = {"desired": "integer", "current": "integer", "ready": "integer"}

PRINTERS = {
    (CORE, "pods"): Printer(
        columns(
            "Name", "Ready", "Status", "Restarts", "Age", "IP*", "Node*", "Nominated Node*", "Readiness Gates*"
        ),
        _pod,
        finished=_finished,
    ),
    (CORE, "replicationcontrollers"): Printer(
        columns("Name", "Desired", "Current", "Ready", "Age", *_TEMPLATE, **_COUNTS), _replication_controller
    ),
    (APPS, "deployments"): Printer(
        columns(
            "Name", "Ready", "Up-to-date", "Available", "Age", *_TEMPLATE, up_to_date="integer", available="integer"
        ),
        _deployment,
    ),
    (APPS, "replicasets"): Printer(
        columns("Name", "Desired", "Current", "Ready", "Age", *_TEMPLATE, **_COUNTS), _replica_set
    ),
    (APPS, "statefulsets"): Printer(columns("Name", "Ready", "Age", "Containers*", "Images*"), _stateful_set),
    (APPS, "daemonsets"): Printer(
        columns(
            "Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age", *_TEMPLATE,
            **_COUNTS, up_to_date="integer", available="integer",
        ),
        _daemon_set,
    ),
    (APPS, "controllerrevisions"): Printer(
        columns("Name", "Controller", "Revision", "Age", revision="integer"), _controller_revision
    ),
    (BATCH, "jobs"): Printer(columns("Name", "Status", "Completions", "Duration", "Age", *_TEMPLATE), _job),
    (BATCH, "cronjobs"): Printer(
        columns(
            "Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age", *_TEMPLATE, active="integer"
        ),
        _cron_job,
    ),
}  # fmt: skip
