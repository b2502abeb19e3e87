"""Laying one part of a pod over another: Kubernetes' strategic merge, as far as a pod's fields need it.

Maps are merged field by field and null takes a field away. Lists whose items have a key of their own are merged by
that key, all others are replaced. See https://github.com/kubernetes/community/blob/master/contributors/devel/
sig-api-machinery/strategic-merge-patch.md. Two things differ on purpose: a probe or hook has one action, so a new one
takes the old one's place; and items of which only one source can be set (a volume, a variable) are replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = Any
Object = Mapping[str, Any]

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
}
_REPLACED = frozenset({"volumes", "env"})
_ACTIONS = frozenset({"exec", "httpGet", "tcpSocket", "grpc", "sleep"})


def merge(base: Object, overlay: Object) -> dict[str, Any]:
    """`overlay` over `base`; new items of lists come last."""
    merged = dict(base)
    if _ACTIONS & overlay.keys():
        merged = {name: value for name, value in merged.items() if name not in _ACTIONS or name in overlay}
    for name, value in overlay.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        elif name in _KEYS and isinstance(value, list):
            below = merged.get(name)
            merged[name] = _merge_items(name, below if isinstance(below, list) else [], value)
        else:
            merged[name] = value
    return merged


def _merge_items(name: str, base: list[Json], overlay: list[Json]) -> list[Json]:
    key = _KEYS[name]
    places = {item[key]: at for at, item in enumerate(base) if isinstance(item, Mapping) and key in item}
    items = list(base)
    for item in overlay:
        at = places.get(item.get(key)) if isinstance(item, Mapping) else None
        if at is None:
            items.append(item)
        else:
            items[at] = item if name in _REPLACED else merge(items[at], item)
    return items


def named(items: Iterable[Json] | None, name: str) -> dict[str, Any] | None:
    """The item of this name."""
    return next((item for item in items or () if item.get("name") == name), None)


def without(items: Iterable[Json] | None, names: Iterable[str]) -> list[Json]:
    """The items of other names."""
    left_out = frozenset(names)
    return [item for item in items or () if item.get("name") not in left_out]
