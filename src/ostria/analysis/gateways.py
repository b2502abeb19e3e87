"""Gateways that nothing serves: no workload has the labels, or an older Gateway has the port."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, Index, query
from ostria.mesh.gateways import gateway_conflicts, selection_of
from ostria.mesh.model import Labels
from ostria.mesh.workloads import is_gateway, workload
from ostria.resources import Object, objects
from ostria.resources.gateway import Gateway
from ostria.resources.kubernetes import Pod


def _with_label(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Pod):
        yield from value.metadata.labels.items()


def _gateway_pods(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, Pod) and is_gateway(value):
        yield ""


pods_with = Index("analysis.gateways.pods_with", objects, _with_label)
gateway_pods = Index("analysis.gateways.gateway_pods", objects, _gateway_pods)


@query
def serving_labels(db: Engine, selector: Labels) -> tuple[tuple[str, Labels], ...]:
    """The distinct (namespace, labels) of the pods that a Gateway's selector chooses."""
    keys = set(pods_with(db, selector[0])) if selector else set(gateway_pods(db, ""))
    for pair in selector[1:]:
        keys &= set(pods_with(db, pair))
    found = (workload(db, key) for key in keys)
    return tuple(sorted({(each.namespace, each.labels) for each in found if each}))


@query
def gateway_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What keeps one Gateway from being served."""
    if not isinstance(objects(db, key), Gateway):
        return ()
    wanted = selection_of(db, key)
    if wanted is None or wanted.services is not None:
        return ()
    selector = wanted.labels
    places = serving_labels(db, selector)
    if not places:
        return (_unserved(db, key, selector),)
    conflicts = {each for place in places for each in gateway_conflicts(db, *place) if each.server.gateway == key}
    return tuple(
        Problem(
            "gateway-conflict",
            Level.ERROR,
            f"port {each.server.service_port} is taken by {each.taken_by.gateway} for something else",
            key,
            f"spec.servers[{each.server.position}]",
            hint="use another port, another host, or a gateway workload of its own",
        )
        for each in sorted(conflicts)
    )


def _unserved(db: Engine, key: ObjectKey, selector: Labels) -> Problem:
    wanted = ", ".join(f"{name}={value}" for name, value in selector) or "any gateway"
    known = {
        f"{name}={value}": None
        for pod in gateway_pods(db, "")
        if (found := workload(db, pod))
        for name, value in found.labels
        if name in ("app", "istio")
    }
    near = difflib.get_close_matches(wanted, list(known), n=2, cutoff=0.3) or list(known)[:2]
    return Problem(
        "gateway-without-workload",
        Level.WARNING,
        f"no pod has the labels that the selector asks for ({wanted})",
        key,
        "spec.selector",
        hint=f"the gateways that run have {' and '.join(near)}" if near else "install a gateway, or mend the selector",
    )
