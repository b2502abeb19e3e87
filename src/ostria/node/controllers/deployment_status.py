"""A Deployment's status: counts, whether it is available, and whether its rollout goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ostria.node.controllers.objects import Condition, Document, condition_of, moment, status_of
from ostria.node.controllers.rollout import limits_of
from ostria.node.controllers.writes import earliest

_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def status_of_deployment(
    deployment: Document,
    new: Document | None,
    every: Sequence[Document],
    now: float,
    *,
    created: bool,
    found: bool,
) -> tuple[dict[str, Any], float | None]:
    """The status, and when the rollout is late.

    `new` is the ReplicaSet of the template, `every` are all; `created` and `found` say that it has just been made, or
    taken up again.
    """
    before = status_of(deployment)
    replicas = deployment["spec"].get("replicas", 1)
    total, available = _sum(every, "replicas"), _sum(every, "availableReplicas")
    counts = {
        "replicas": total,
        "updatedReplicas": status_of(new).get("replicas", 0) if new is not None else 0,
        "readyReplicas": _sum(every, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(item["spec"].get("replicas", 1) for item in every) - available),
    }
    status: dict[str, Any] = {name: count for name, count in counts.items() if count}
    status["observedGeneration"] = deployment["metadata"].get("generation", 0)
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    least = replicas - limits_of(deployment).unavailable
    if available >= least:
        is_available = Condition(
            "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
        )
    else:
        is_available = Condition(
            "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
        )
    progressing, again = _progress(deployment, new, counts, now, created=created, found=found)
    conditions = [is_available.over(condition_of(deployment, "Available"), now, updates=True)]
    if progressing is not None:
        conditions.append(progressing)
    others = [each for each in before.get("conditions") or () if each["type"] not in ("Available", "Progressing")]
    written = {each["type"]: each for each in (*conditions, *others)}
    # The order that is there stays, so that nothing is written for the sake of order.
    order = [each["type"] for each in before.get("conditions") or () if each["type"] in written]
    status["conditions"] = [written[name] for name in dict.fromkeys((*order, *written))]
    return status, again


def _sum(every: Iterable[Document], field: str) -> int:
    return sum(status_of(item).get(field, 0) for item in every)


def _progress(
    deployment: Document, new: Document | None, counts: dict[str, int], now: float, *, created: bool, found: bool
) -> tuple[dict[str, Any] | None, float | None]:
    before = condition_of(deployment, "Progressing")
    if deployment["spec"].get("paused"):
        paused = Condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        return paused.over(before, now, updates=True), None
    replicas = deployment["spec"].get("replicas", 1)
    name = deployment["metadata"]["name"]
    subject = f'ReplicaSet "{new["metadata"]["name"]}"' if new is not None else f'Deployment "{name}"'
    complete = (
        new is not None
        and counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == replicas
        and new["metadata"].get("generation", 0) == status_of(new).get("observedGeneration", 0)
    )
    deadline = deployment["spec"].get("progressDeadlineSeconds", 600)
    if created:
        said = Condition("Progressing", "True", "NewReplicaSetCreated", f"Created new replica set for {name}")
        return _fresh(said, before, now), now + deadline
    if found:
        said = Condition("Progressing", "True", "FoundNewReplicaSet", f"Found new replica set for {name}")
        return _fresh(said, before, now), now + deadline
    if complete:
        said = Condition("Progressing", "True", "NewReplicaSetAvailable", f"{subject} has successfully progressed.")
        return said.over(before, now, updates=True), None
    settled = counts["updatedReplicas"] == counts["replicas"]
    if before is not None and before.get("reason") == "NewReplicaSetAvailable" and settled:
        # A rollout that has been completed is not begun again by a pod that fails.
        return dict(before), None
    if before is None or before.get("status") == "Unknown" or _advances(deployment, counts):
        said = Condition("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.")
        return _fresh(said, before, now), now + deadline
    late_at = moment(before.get("lastUpdateTime")) + deadline
    if now >= late_at and before.get("reason") != "NewReplicaSetAvailable":
        said = Condition("Progressing", "False", "ProgressDeadlineExceeded", f"{subject} has timed out progressing.")
        return said.over(before, now, updates=True), None
    return dict(before), earliest(late_at)


def _fresh(said: Condition, before: Any, now: float) -> dict[str, Any]:
    """Progress: the time of the last one moves on though the words stay."""
    kept = said.over(before, now, updates=True)
    stamped = said.over(None, now, updates=True)["lastUpdateTime"]
    return {**kept, "lastUpdateTime": stamped}


def _advances(deployment: Document, counts: dict[str, int]) -> bool:
    """Whether more of the rollout is done than the last status said."""
    before = status_of(deployment)
    old = {name: before.get(name, 0) for name in _COUNTS}
    return bool(
        counts["updatedReplicas"] > old["updatedReplicas"]
        or counts["replicas"] - counts["updatedReplicas"] < old["replicas"] - old["updatedReplicas"]
        or counts["readyReplicas"] > old["readyReplicas"]
        or counts["availableReplicas"] > old["availableReplicas"]
    )
