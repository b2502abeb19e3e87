"""Trees of plain values, laid over each other, and the paths by which `--set` names a place in one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ostria.base.yaml import Document, read_documents

# Lists whose items are told apart by name, so that an overlay changes one of them; any other is replaced.
_NAMED = frozenset(("egressGateways", "env", "imagePullSecrets", "ingressGateways", "volumes"))


class Named(NamedTuple):
    """A step into a list: the item of this name, as in `ingressGateways[name:gw]`."""

    name: str


Step = str | int | Named


def overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: maps field by field, lists of named items item by item; null takes a field away."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[name] = overlay(below, value)
        elif name in _NAMED and _are_named(value) and _are_named(below):
            merged[name] = _items(below, value)
        else:
            merged[name] = value
    return merged


def _are_named(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, Mapping) and "name" in each for each in value)


def _items(base: Any, over: Any) -> list[Any]:
    items = {each["name"]: each for each in base}
    for each in over:
        known = items.get(each["name"])
        # A variable's value and its source exclude each other.
        items[each["name"]] = each if known is None or "value" in each or "valueFrom" in each else overlay(known, each)
    return list(items.values())


_STEP = re.compile(r"\.?(?P<name>(?:[^.\[\]\\]|\\.)+)|\[(?P<index>\d{1,4})\]|\[name:(?P<item>[^\]]+)\]")


def steps_of(path: str) -> tuple[Step, ...]:
    """`a.b[0].c\\.d` as ("a", "b", 0, "c.d"): `\\.` is a dot within a name. Raises ValueError."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError(f'"{path[at:][:40]}" is no step of a path')
        if match["index"] is not None:
            steps.append(int(match["index"]))
        elif match["item"] is not None:
            steps.append(Named(match["item"]))
        else:
            steps.append(re.sub(r"\\(.)", r"\1", match["name"]))
        at = match.end()
    if not steps or not isinstance(steps[0], str):
        raise ValueError("a path begins with a name")
    return tuple(steps)


def put(tree: Any, steps: tuple[Step, ...], value: Any) -> Any:
    """The tree with `value` at a place, which is made where it is not there. Raises ValueError."""
    if not steps:
        return overlay(tree, value) if isinstance(tree, Mapping) and isinstance(value, Mapping) else value
    step, *rest = steps
    if isinstance(step, str):
        fields = dict(tree) if isinstance(tree, Mapping) else {}
        fields[step] = put(fields.get(step), tuple(rest), value)
        return fields
    items = list(tree) if isinstance(tree, list | tuple) else []
    if isinstance(step, Named):
        names = [each.get("name") if isinstance(each, Mapping) else None for each in items]
        at = names.index(step.name) if step.name in names else len(items)
        if at == len(items):
            items.append({"name": step.name})
    else:
        at = step
        if at > len(items):
            raise ValueError(f"the list has {len(items)} items, and [{at}] is not among them")
        if at == len(items):
            items.append(None)
    items[at] = put(items[at], tuple(rest), value)
    return items


def alone(steps: tuple[Step, ...], value: Any) -> Any:
    """A tree that holds `value` at a place and nothing else; a list holds that item alone."""
    for step in reversed(steps):
        if isinstance(step, str):
            value = {step: value}
        elif isinstance(step, Named):
            value = [{"name": step.name, **value} if isinstance(value, Mapping) else value]
        else:
            value = [value]
    return value


def scalar(text: str) -> Any:
    """What a value on a command line means: a scalar as in YAML, or a list in braces (`{a,b}`)."""
    if text.startswith("{") and text.endswith("}"):
        return [scalar(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    if not text or text[0] in "\"'":
        return _read(text) if text else ""
    found = _read(text)
    return text if (found is None and text not in ("null", "~")) or isinstance(found, Mapping | list) else found


def _read(text: str) -> Any:
    for document in read_documents(text, "value"):
        return document.value if isinstance(document, Document) else text
    return None
