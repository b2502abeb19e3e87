"""Jobs: pods that shall end well, so many times, so many at once, and no more failures than are allowed.

With completionMode Indexed each pod has its number. A podFailurePolicy is not followed: failures count as they do
without one. Pods are counted while they are there, without finalizers that hold them: of one that somebody takes away
after its end, the count stays in the status, but a Job that still runs may run it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ostria.base.times import timestamp
from ostria.node.controllers.objects import (
    JOB,
    POD,
    Condition,
    Document,
    Key,
    View,
    created,
    is_active,
    is_deleted,
    is_ready,
    is_true,
    key_of,
    moment,
    status_of,
    with_metadata,
)
from ostria.node.controllers.owners import owned, owner_key
from ostria.node.controllers.replica_sets import pod_of
from ostria.node.controllers.writes import (
    NOTHING,
    Changed,
    Controller,
    Create,
    Delete,
    Outcome,
    Say,
    Update,
    Write,
    earliest,
)

INDEX = "batch.kubernetes.io/job-completion-index"
FIRST_DELAY, LONGEST_DELAY = 10.0, 600.0
"""Seconds between a failure and the next pod; the delay doubles with each."""


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The Job itself, or whose pod has changed."""
    for document in (changed.before, changed.after):
        if document is None:
            continue
        if changed.kind == JOB:
            yield key_of(document)
        elif changed.kind == POD and (key := owner_key(document, JOB)) is not None:
            yield key


class _Tally(NamedTuple):
    """A Job's pods, by how they are."""

    active: list[Document]
    succeeded: list[Document]
    failed: list[Document]


def reconcile(view: View, key: Key, now: float) -> Outcome:
    """What one Job needs."""
    job = view.get(JOB, *key)
    if job is None or is_deleted(job):
        return NOTHING
    if is_finished(job):
        return _expire(job, now)
    pods = owned(view, POD, job)
    tally = _Tally(
        [pod for pod in pods if is_active(pod)],
        [pod for pod in pods if status_of(pod).get("phase") == "Succeeded"],
        [pod for pod in pods if _has_failed(pod)],
    )
    spec = job["spec"]
    writes: list[Write] = []
    before = status_of(job)
    started = before.get("startTime")
    if spec.get("suspend"):
        writes += [Delete(POD, pod, job) for pod in tally.active]
        started = None
    elif not started:
        started = timestamp(now)
    verdict = None if spec.get("suspend") else _verdict(job, tally, moment(started), now)
    again = None
    if verdict is None and not spec.get("suspend"):
        again = _run(job, tally, now, writes)
        deadline = spec.get("activeDeadlineSeconds")
        again = earliest(again, moment(started) + deadline if deadline else None)
    elif verdict is not None:
        # What is left over is of no more use.
        writes += [Delete(POD, pod, job) for pod in tally.active]
        kind = "Normal" if verdict.type == "Complete" else "Warning"
        words = verdict.message or "Job completed"
        writes.append(Say(job, "Completed" if kind == "Normal" else verdict.reason, words, kind))
    status = _status(job, tally, verdict, started, now)
    if status != before:
        writes.append(Update(JOB, {**job, "status": status}, "status"))
    return Outcome(tuple(writes), again)


def is_finished(job: Document) -> bool:
    """Whether it has completed or failed."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def _has_failed(pod: Document) -> bool:
    phase = status_of(pod).get("phase")
    # A pod that somebody has taken away has not done its part either.
    return phase == "Failed" or (is_deleted(pod) and phase != "Succeeded")


def _expire(job: Document, now: float) -> Outcome:
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return NOTHING
    done = next(
        each
        for each in status_of(job)["conditions"]
        if each["type"] in ("Complete", "Failed") and each["status"] == "True"
    )
    moment_of_end = moment(done.get("lastTransitionTime")) + seconds
    return Outcome((Delete(JOB, job),)) if now >= moment_of_end else Outcome((), moment_of_end)


def _verdict(job: Document, tally: _Tally, started: float, now: float) -> Condition | None:
    spec = job["spec"]
    limit = spec.get("backoffLimit", 6)
    if len(tally.failed) > limit:
        return Condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if spec.get("template", {}).get("spec", {}).get("restartPolicy") == "OnFailure":
        restarts = sum(
            each.get("restartCount", 0)
            for pod in (*tally.active, *tally.failed)
            for each in status_of(pod).get("containerStatuses") or ()
        )
        # The kubelet restarts these: each restart is a failure.
        if restarts > limit or (limit == 0 and restarts > 0):
            return Condition("Failed", "True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and now >= started + deadline:
        return Condition("Failed", "True", "DeadlineExceeded", "Job was active longer than specified deadline")
    if _done(job, tally) >= _wanted(job, tally):
        return Condition("Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def _is_indexed(job: Document) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def _done(job: Document, tally: _Tally) -> int:
    if _is_indexed(job):
        return len({_index(pod) for pod in tally.succeeded})
    return len(tally.succeeded)


def _wanted(job: Document, tally: _Tally) -> float:
    completions = job["spec"].get("completions")
    if completions is not None:
        return int(completions)
    # A work queue: the first success says that there is nothing left, and those that still work may end.
    return 1 if tally.succeeded and not tally.active else float("inf")


def _index(pod: Document) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "-1")
    return int(text) if text.isdecimal() else -1


def _run(job: Document, tally: _Tally, now: float, writes: list[Write]) -> float | None:
    """Start and stop pods; returns when the next may be started."""
    spec = job["spec"]
    parallelism = spec.get("parallelism", 1)
    completions = spec.get("completions")
    if completions is not None:
        room = min(parallelism, completions - _done(job, tally)) - len(tally.active)
    else:
        room = 0 if tally.succeeded else parallelism - len(tally.active)
    if room < 0:
        surplus = sorted(tally.active, key=lambda pod: (is_ready(pod), -created(pod)))[:-room]
        writes += [Delete(POD, pod, job) for pod in surplus]
        return None
    if not room:
        return None
    ready_at = _after_failure(tally.failed)
    if ready_at > now:
        return ready_at
    if not _is_indexed(job):
        writes += [Create(POD, _pod(job, None), job)] * room
        return None
    taken = {_index(pod) for pod in (*tally.active, *tally.succeeded)}
    free = [index for index in range(completions or 0) if index not in taken][:room]
    writes += [Create(POD, _pod(job, index), job) for index in free]
    return None


def _after_failure(failed: Sequence[Document]) -> float:
    """When the next pod may start: the delay doubles with each failure."""
    if not failed:
        return 0.0
    delay: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (len(failed) - 1))
    return max(map(_ended, failed)) + delay


def _ended(pod: Document) -> float:
    states = [each.get("state", {}).get("terminated") for each in status_of(pod).get("containerStatuses") or ()]
    moments = [moment(each.get("finishedAt")) for each in states if each]
    return max(moments, default=moment(pod["metadata"].get("deletionTimestamp")) or created(pod))


def _pod(job: Document, index: int | None) -> dict[str, Any]:
    pod = pod_of(job, job["spec"]["template"])
    if index is None:
        return pod
    name = job["metadata"]["name"]
    meta = pod["metadata"]
    pod = with_metadata(
        pod,
        generateName=f"{name[:50]}-{index}-",
        labels={**(meta.get("labels") or {}), INDEX: str(index)},
        annotations={**(meta.get("annotations") or {}), INDEX: str(index)},
    )
    variable = {"name": "JOB_COMPLETION_INDEX", "value": str(index)}
    spec = dict(pod["spec"])
    for field in ("initContainers", "containers"):
        if field in spec:
            spec[field] = [{**each, "env": [*(each.get("env") or ()), variable]} for each in spec[field]]
    spec.setdefault("hostname", f"{name}-{index}"[:63])
    return {**pod, "spec": spec}


def _status(job: Document, tally: _Tally, verdict: Condition | None, started: str | None, now: float) -> dict[str, Any]:
    before = status_of(job)
    active = tally.active if verdict is None else []
    given_up = len(tally.active) if verdict is not None and verdict.type == "Failed" else 0
    counts = {
        "active": len(active),
        "succeeded": max(len(tally.succeeded), before.get("succeeded", 0)),
        "failed": max(len(tally.failed) + given_up, before.get("failed", 0)),
    }
    status: dict[str, Any] = {name: count for name, count in counts.items() if count}
    status |= {"ready": sum(map(is_ready, active)), "terminating": 0}
    if started:
        status["startTime"] = started
    if _is_indexed(job) and tally.succeeded:
        status["completedIndexes"] = _ranges(sorted({_index(pod) for pod in tally.succeeded}))
    conditions = {each["type"]: each for each in before.get("conditions") or ()}
    if job["spec"].get("suspend"):
        said = Condition("Suspended", "True", "JobSuspended", "Job suspended")
        conditions["Suspended"] = said.over(conditions.get("Suspended"), now)
    elif "Suspended" in conditions:
        said = Condition("Suspended", "False", "JobResumed", "Job resumed")
        conditions["Suspended"] = said.over(conditions["Suspended"], now)
    if verdict is not None:
        # As Kubernetes has it since 1.31: first what it has come to, then that it is so.
        early = "SuccessCriteriaMet" if verdict.type == "Complete" else "FailureTarget"
        for said in (verdict._replace(type=early), verdict):
            conditions[said.type] = said.over(conditions.get(said.type), now)
        if verdict.type == "Complete":
            status["completionTime"] = timestamp(now)
    if conditions:
        status["conditions"] = list(conditions.values())
    return status


def _ranges(indexes: Sequence[int]) -> str:
    """Numbers as "0,2-4"."""
    parts: list[list[int]] = []
    for index in indexes:
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


CONTROLLER = Controller("job", concerned, reconcile)
