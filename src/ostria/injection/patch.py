"""The difference of two JSON values as a JSON Patch (RFC 6902), as small as is worth finding.

Objects are compared field by field and arrays by what they have in common, so that a container or volume added to a
pod is one operation and what others wrote is not written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = Any
Operation = dict[str, Any]


def json_patch(old: Json, new: Json) -> list[Operation]:
    """Operations that make `old` into `new` when applied in order; none where they are equal."""
    return list(_differences(old, new, ""))


def escape(step: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")


def _differences(old: Json, new: Json, path: str) -> Iterator[Operation]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _of_objects(old, new, path)
    elif _is_array(old) and _is_array(new):
        yield from _of_arrays(old, new, path)
    elif not _same(old, new):
        yield {"op": "replace", "path": path, "value": new}


def _of_objects(old: Mapping[str, Json], new: Mapping[str, Json], path: str) -> Iterator[Operation]:
    for name in old:
        if name not in new:
            yield {"op": "remove", "path": f"{path}/{escape(name)}"}
    for name, value in new.items():
        at = f"{path}/{escape(name)}"
        if name in old:
            yield from _differences(old[name], value, at)
        else:
            yield {"op": "add", "path": at, "value": value}


def _of_arrays(old: Sequence[Json], new: Sequence[Json], path: str) -> Iterator[Operation]:
    """Between what both begin and end with, items that are left are changed in place, then added or removed."""
    shorter = min(len(old), len(new))
    head = next((at for at in range(shorter) if not _alike(old[at], new[at])), shorter)
    rest = shorter - head
    tail = next((at for at in range(rest) if not _alike(old[-1 - at], new[-1 - at])), rest)
    for at in range(head):
        yield from _differences(old[at], new[at], f"{path}/{at}")
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    common = min(len(middle_old), len(middle_new))
    for at in range(common):
        yield from _differences(middle_old[at], middle_new[at], f"{path}/{head + at}")
    for at in reversed(range(common, len(middle_old))):
        yield {"op": "remove", "path": f"{path}/{head + at}"}
    for at in range(common, len(middle_new)):
        yield {"op": "add", "path": f"{path}/{head + at}", "value": middle_new[at]}
    for at in range(tail):
        place = len(new) - tail + at
        yield from _differences(old[len(old) - tail + at], new[place], f"{path}/{place}")


def _alike(old: Json, new: Json) -> bool:
    """Whether two items are the same thing, changed or not: Kubernetes' lists go by name where they have one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "name" in old and "name" in new:
        return bool(old["name"] == new["name"])
    return _same(old, new)


def _same(old: Json, new: Json) -> bool:
    """Equality as JSON has it: true is not 1."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same(value, new[name]) for name, value in old.items())
    if _is_array(old) and _is_array(new):
        return len(old) == len(new) and all(map(_same, old, new))
    return type(old) is type(new) and bool(old == new)


def _is_array(value: Json) -> bool:
    return isinstance(value, list | tuple)
