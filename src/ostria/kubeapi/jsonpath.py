"""The JSONPath of printer columns: `.spec.hosts[0]`, `.status.conditions[?(@.type=="Ready")].status`.

The part of https://kubernetes.io/docs/reference/kubectl/jsonpath/ that a path without braces can have: names (a dot in
one is escaped by a backslash), indexes, wildcards, and filters that compare a field with a word or a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple


class Filter(NamedTuple):
    """Elements whose field at `path` is equal to `value`, or is not; with no value, those that have the field."""

    path: tuple[str, ...]
    value: str | None
    equal: bool = True


Step = str | int | Filter | None
"""A name, an index, a filter, or None for all elements."""

_NAME = re.compile(r"\.((?:[^\s.\[\]\\]|\\.)+)|\[(?:'([^']*)'|\"([^\"]*)\")\]")
_INDEX = re.compile(r"\[(-?\d{1,9})\]")
_ALL = re.compile(r"\[\*\]|\.\*")
_FILTER = re.compile(
    r"""\[\?\(\s*@((?:\.[\w-]+)+)\s*(?:(==|!=)\s*(?:'([^']*)'|"([^"]*)"|(-?[\w.]+))\s*)?\)\]""", re.ASCII
)


def parse(path: str) -> tuple[Step, ...]:
    """The steps of a path; raises ValueError for what is none."""
    found: list[Step] = []
    at = 0
    if path == ".":
        return ()
    while at < len(path):
        if step := _ALL.match(path, at):
            found.append(None)
        elif step := _INDEX.match(path, at):
            found.append(int(step[1]))
        elif step := _FILTER.match(path, at):
            value = next((each for each in step.groups()[2:] if each is not None), None)
            found.append(Filter(tuple(step[1].split(".")[1:]), value, step[2] != "!="))
        elif step := _NAME.match(path, at):
            name = next(each for each in step.groups() if each is not None)
            found.append(re.sub(r"\\(.)", r"\1", name) if step[1] else name)
        else:
            raise ValueError(f"invalid json path: {path[at:][:40]!r}")
        at = step.end()
    return tuple(found)


def values(steps: Iterable[Step], document: Any) -> list[Any]:
    """What a path leads to: several values where it has wildcards or filters, none where nothing is there."""
    found = [document]
    for step in steps:
        found = [each for value in found for each in _follow(step, value)]
    return found


def _follow(step: Step, value: Any) -> Iterable[Any]:
    if isinstance(step, str):
        return (value[step],) if isinstance(value, dict) and step in value else ()
    if step is None:
        return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not isinstance(value, list):
        return ()
    if isinstance(step, int):
        return value[step:][:1] if -len(value) <= step < len(value) else ()
    return [each for each in value if _passes(step, each)]


def _passes(test: Filter, value: Any) -> bool:
    found = values(test.path, value)
    if test.value is None:
        return bool(found)
    return (bool(found) and _word(found[0]) == test.value) == test.equal


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
