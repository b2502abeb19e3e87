"""How deep objects may nest: what reads and merges them recurses, and Python's stack has an end. Pure."""

from __future__ import annotations

from typing import Any

from ostria.base.yaml import MAX_DEPTH, field_path
from ostria.kubeapi.errors import bad_request

_LONGEST = 200
"""Letters of a path that are shown: one that is too deep may be very long."""


def check_depth(value: Any) -> None:
    """Refuse what nests deeper than YAML may (`MAX_DEPTH` levels). Raises StatusError (400) that names the field."""
    # Level by level, and with the way back to the root kept beside: the check itself must not recurse.
    level: list[tuple[Any, Any, Any]] = [(value, None, None)]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[Any, Any, Any]] = []
        for place in level:
            held = place[0]
            if isinstance(held, dict):
                below += [(each, place, name) for name, each in held.items() if isinstance(each, dict | list)]
            elif isinstance(held, list):
                below += [(each, place, name) for name, each in enumerate(held) if isinstance(each, dict | list)]
        if not below:
            return
        level = below
    steps: list[str | int] = []
    place = level[0]
    while place[1] is not None:
        steps.append(place[2])
        place = place[1]
    path = field_path(tuple(reversed(steps)))
    shown = path if len(path) <= _LONGEST else f"{path[:_LONGEST]}..."
    raise bad_request(f"the object nests deeper than {MAX_DEPTH} levels at {shown}")
