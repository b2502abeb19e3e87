"""The engine tells about itself: what is known, what each value was derived from, and who reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostria.engine.core import Engine, Node
from ostria.engine.tables import Query

STATES = ("clean", "check", "dirty", "running")


def dump(db: Engine, *, select: Callable[[str], bool] = lambda name: True) -> list[dict[str, Any]]:
    """One entry a node whose table's name is selected, in a stable order.

    Shape: `{"table", "args", "state", "watched", "value", "reads": [name], "readers": [name]}`; the value is its
    `repr`, cut at 400 characters.
    """
    entries = [_entry(node) for node in db.nodes() if select(node.table.name)]
    return sorted(entries, key=lambda entry: (entry["table"], entry["args"]))


def _entry(node: Node) -> dict[str, Any]:
    return {
        "table": node.table.name,
        "args": repr(node.args),
        "state": STATES[node.state],
        "watched": node.watch is not None,
        "value": repr(node.value)[:400],
        "reads": [_name(dep) for dep in node.deps],
        "readers": sorted(_name(reader) for reader in node.each_reader()),
    }


def _name(node: Node) -> str:
    # An input's key may be a tuple of its own, and stands for one argument.
    args = node.args if isinstance(node.table, Query) else (node.args,)
    return f"{node.table.name}({', '.join(map(repr, args))})"
