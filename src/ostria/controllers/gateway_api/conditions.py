"""Conditions, and the patch that brings a status to them.

A condition keeps the moment of its last change as long as its status is the same
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ostria.base import ObjectKey
from ostria.controllers.writer import NOW, DesiredWrite
from ostria.mesh.gateway_api import Verdict

_LONGEST = 32768


class Condition(NamedTuple):
    """One condition as it should be."""

    type: str
    reason: str
    message: str
    true: bool = True


def judged(type_: str, verdict: Verdict | None, message: str, reason: str = "") -> Condition:
    """A condition that holds unless there is a verdict; its reason is then its type, if no other is given."""
    if verdict is not None:
        return Condition(type_, verdict.reason, verdict.message, true=False)
    return Condition(type_, reason or type_, message)


def merged(existing: Any, wanted: Iterable[Condition], generation: int) -> list[Any]:
    """A list of conditions with those that are wanted; conditions of other types stay."""
    found = {each.get("type"): each for each in existing or () if isinstance(each, Mapping)}
    for condition in wanted:
        before = found.get(condition.type)
        made: dict[str, Any] = {
            "type": condition.type,
            "status": "True" if condition.true else "False",
            "observedGeneration": generation,
            "lastTransitionTime": NOW,
            "reason": condition.reason,
            "message": condition.message[:_LONGEST],
        }
        if before is not None and before.get("status") == made["status"] and before.get("lastTransitionTime"):
            made["lastTransitionTime"] = before["lastTransitionTime"]
        found[condition.type] = dict(before) if before is not None and before == made else made
    return list(found.values())


def by_name(existing: Any, name: str) -> Mapping[str, Any]:
    """One of a list of named things; empty where there is none of that name."""
    named = (each for each in existing or () if isinstance(each, Mapping) and each.get("name") == name)
    return next(named, {})


def status_patch(key: ObjectKey, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> Sequence[DesiredWrite]:
    """The write that brings these fields of a status about; none where they are so. None takes a field away."""
    patch = {name: value for name, value in wanted.items() if existing.get(name) != value}
    if not patch:
        return ()
    return (DesiredWrite(key, msgspec.json.encode({"status": patch}), "status"),)
