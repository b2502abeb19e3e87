"""How values are printed in cells: ages, selectors, lists, what is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ostria.kubeapi.fields import at, objects
from ostria.kubeapi.requests import Column, Document

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"
MOST = 3
"""How many of a list a cell shows."""

Cells = Callable[[Document, float], Sequence[Any]]
"""An object's cells after its name, given the time in seconds since the epoch."""


def name_of(document: Document) -> str:
    """The first cell of nearly every row."""
    return str(at(document, "metadata", "name") or "")


class Printer(NamedTuple):
    """How a resource is printed.

    `cells` leaves out the name where the first column is `Name`: `named` makes it. `finished` tells reason and message
    of what has run to its end, which kubectl may leave out.
    """

    columns: tuple[Column, ...]
    cells: Cells
    named: Callable[[Document], str] = name_of
    finished: Callable[[Document], Document] | None = None


def columns(*names: str, **others: str) -> tuple[Column, ...]:
    """Columns by their names; one that ends with `*` shows with -o wide only, and `others` have types that differ."""
    found = []
    for name in names:
        bare = name.removesuffix("*")
        kind = others.get(bare.replace(" ", "_").replace("-", "_").lower(), "string")
        found.append(Column(bare, kind, "", int(bare != name), "name" if bare == "Name" else ""))
    return tuple(found)


def seconds(text: Any) -> float | None:
    """The time that metadata writes, in seconds since the epoch; None for what is no time."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def duration(span: float) -> str:
    """Seconds as kubectl shows them: the longer, the coarser."""
    whole = int(span)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large}{unit}{small}{smaller}" if small else f"{large}{unit}"


def since(text: Any, now: float) -> str:
    """How long ago a time was."""
    then = seconds(text)
    return UNKNOWN if then is None else duration(now - then)


def age(document: Document, now: float) -> str:
    """How long ago an object was made."""
    return since(at(document, "metadata", "creationTimestamp"), now)


def created_at(document: Document) -> str:
    """When an object was made, as metadata writes it."""
    return str(at(document, "metadata", "creationTimestamp") or UNKNOWN)


def number(value: Any) -> int:
    """A number that is 0 where it is missing."""
    return value if isinstance(value, int) else 0


def shown(value: Any) -> str:
    """A value, or that there is none."""
    return NONE if value in (None, "", [], {}) else str(value)


def joined(values: Iterable[Any]) -> str:
    """Values with commas between, or that there is none."""
    return ",".join(map(str, values)) or NONE


def some(values: Sequence[str], none: str = NONE) -> str:
    """The first few values, and how many there are more."""
    if not values:
        return none
    text = ",".join(values[:MOST])
    return text if len(values) <= MOST else f"{text} + {len(values) - MOST} more..."


def labels(value: Any) -> str:
    """Labels that are asked for: `app=web,tier=front`."""
    return joined(f"{key}={value[key]}" for key in sorted(value)) if isinstance(value, dict) and value else NONE


def selector(value: Any) -> str:
    """A metav1.LabelSelector in the words that -l takes."""
    if not isinstance(value, dict):
        return NONE
    terms = [(key, f"{key}={word}") for key, word in (value.get("matchLabels") or {}).items()]
    for each in objects(value, "matchExpressions"):
        key, listed = str(each.get("key")), ",".join(sorted(each.get("values") or ()))
        told = {"Exists": key, "DoesNotExist": f"!{key}", "In": f"{key} in ({listed})"}
        terms.append((key, told.get(str(each.get("operator")), f"{key} notin ({listed})")))
    return joined(text for _, text in sorted(terms))


def containers(template: Any) -> tuple[str, str]:
    """The names of a template's containers, and their images."""
    listed = objects(template, "spec", "containers")
    return (
        ",".join(str(each.get("name")) for each in listed),
        ",".join(str(each.get("image")) for each in listed),
    )


def condition(document: Document, kind: str) -> Document:
    """The condition of a type in an object's status; {} if it is not told."""
    return next((each for each in objects(document, "status", "conditions") if each.get("type") == kind), {})
