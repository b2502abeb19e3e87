"""How many pods of which ReplicaSet a Deployment may have at each step of a rolling update. Pure arithmetic.

maxSurge         above the wished number of pods in all, rounded up from a percentage
maxUnavailable   below the wished number of available pods, rounded down
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ostria.node.controllers.objects import Document


class Part(NamedTuple):
    """One ReplicaSet: the pods that its spec wishes for, and those that its status counts as available."""

    name: str
    wished: int
    available: int


class Limits(NamedTuple):
    """What a rolling update keeps to, as numbers of pods."""

    surge: int
    unavailable: int


def recreates(deployment: Document) -> bool:
    """Whether all old pods go before a new one comes."""
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


def limits_of(deployment: Document) -> Limits:
    """The limits of a Deployment's own strategy."""
    replicas = deployment["spec"].get("replicas", 1)
    if recreates(deployment):
        return Limits(0, replicas)
    given = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    return limits(replicas, given.get("maxSurge", "25%"), given.get("maxUnavailable", "25%"))


def limits(replicas: int, surge: int | str, unavailable: int | str) -> Limits:
    """The limits that a strategy's numbers or percentages come to. Both 0 would stand still: one may be unavailable."""
    found = Limits(_number(surge, replicas, up=True), _number(unavailable, replicas, up=False))
    return found if found.surge or found.unavailable else Limits(0, 1)


def _number(given: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(given, int):
        return given
    if not given.endswith("%"):
        return int(given)
    share = int(given[:-1]) * replicas / 100
    return math.ceil(share) if up else math.floor(share)


def step(replicas: int, allowed: Limits, new: Part, old: Sequence[Part]) -> dict[str, int]:
    """The next wished number of every ReplicaSet that shall have another one, by name; `old` has the oldest first."""
    total = new.wished + sum(part.wished for part in old)
    if new.wished > replicas:
        return {new.name: replicas}
    if new.wished < replicas:
        room = replicas + allowed.surge - total
        if room > 0:
            return {new.name: new.wished + min(room, replicas - new.wished)}
    return _shrink(replicas, allowed, new, [part for part in old if part.wished > 0])


def _shrink(replicas: int, allowed: Limits, new: Part, old: Sequence[Part]) -> dict[str, int]:
    """Take from the old ones: first what serves nobody, then as much as the new ones stand in for."""
    least = replicas - allowed.unavailable
    wished = {part.name: part.wished for part in old}
    total = sum(wished.values()) + new.wished
    # Pods of the new ReplicaSet that are on their way must not be counted on.
    spare = total - least - (new.wished - min(new.available, new.wished))
    if spare <= 0:
        return {}
    for part in old:
        idle = max(0, part.wished - part.available)
        gone = min(idle, spare)
        wished[part.name] -= gone
        spare -= gone
    available = new.available + sum(min(part.available, part.wished) for part in old)
    spare = min(spare, available - least)
    for part in old:
        if spare <= 0:
            break
        gone = min(wished[part.name], spare)
        wished[part.name] -= gone
        spare -= gone
    return {part.name: wished[part.name] for part in old if wished[part.name] != part.wished}


def spread(replicas: int, surge: int, parts: Sequence[Part]) -> dict[str, int]:
    """The shares of several ReplicaSets when a Deployment is scaled in the midst of a rollout: in proportion."""
    live = [part for part in parts if part.wished > 0]
    total = sum(part.wished for part in live)
    target = replicas + surge if replicas > 0 else 0
    change = target - total
    if not live or change == 0:
        return {}
    # When there are more the largest gets first what is left over, when there are fewer it loses first.
    ordered = sorted(live, key=lambda part: -part.wished)
    wished = {part.name: max(0, part.wished + math.trunc(part.wished * change / total)) for part in ordered}
    left = target - sum(wished.values())
    for part in ordered:
        given = max(left, -wished[part.name])
        wished[part.name] += given
        left -= given
        if not left:
            break
    return {part.name: wished[part.name] for part in ordered if wished[part.name] != part.wished}
