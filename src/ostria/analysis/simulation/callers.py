"""Who is meant by a word: the workload that calls, or that is called."""

from __future__ import annotations

import difflib

from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.mesh.traits import ProxyType
from ostria.mesh.workloads import workload
from ostria.resources import by_kind

_KINDS = {
    "po": "Pod", "pod": "Pod", "pods": "Pod", "deploy": "", "deployment": "", "deployments": "", "sts": "",
    "statefulset": "", "ds": "", "daemonset": "", "rs": "", "job": "", "cronjob": "",
}  # fmt: skip

# The labels by which people know an application (istio.io: canonical service).
_APP_LABELS = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app", "istio")


class UnknownWorkload(ValueError):
    """Nobody is meant by a word; `near` are names that look like it."""

    def __init__(self, message: str, near: tuple[str, ...]) -> None:
        super().__init__(message)
        self.near = near


def pod_of(db: Engine, word: str, namespace: str = "default") -> ObjectKey:
    """The pod that `productpage`, `deploy/productpage-v1`, `POD` or `NAME.NAMESPACE` means, of several the first.

    A word is the name of a pod, or of what made it, or else an application's. Raises UnknownWorkload.
    """
    kind, slash, name = word.rpartition("/")
    if slash and kind.lower() not in _KINDS:
        raise UnknownWorkload(f'"{kind}" has no pods', ())
    readings = [(name, namespace)]
    head, dot, tail = name.rpartition(".")
    if dot:
        readings.insert(0, (head, tail))
    known = sorted((key for key in by_kind(db, "Pod") if workload(db, key)), key=lambda key: (key.namespace, key.name))
    for wanted, place in readings:
        for level in range(3):
            for key in known:
                if key.namespace == place and wanted in _names(db, key)[level]:
                    return key
    names = {f"{each}.{key.namespace}" for key in known for level in _names(db, key) for each in level}
    full = name if dot else f"{name}.{namespace}"
    raise UnknownWorkload(
        f"there is no workload {name} in namespace {namespace}", tuple(difflib.get_close_matches(full, names, 3))
    )


def _names(db: Engine, key: ObjectKey) -> tuple[tuple[str, ...], ...]:
    """What a pod is called by: its own name, that of what made it, those of its application."""
    here = workload(db, key)
    assert here is not None
    labels = dict(here.labels)
    return ((here.name,), (here.owner,), tuple(labels[each] for each in _APP_LABELS if each in labels))


def gateways(db: Engine) -> tuple[ObjectKey, ...]:
    """The pods that are gateways, by namespace and name."""
    found = [key for key in by_kind(db, "Pod") if (here := workload(db, key)) and here.proxy_type is ProxyType.GATEWAY]
    return tuple(sorted(found, key=lambda key: (key.namespace, key.name)))
