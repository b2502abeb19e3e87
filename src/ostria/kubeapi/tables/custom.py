"""What CustomResourceDefinitions bring, as tables: by the columns that they name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ostria.kubeapi import jsonpath
from ostria.kubeapi.requests import Column, Document, Resource
from ostria.kubeapi.tables.printing import Printer, columns, since


@lru_cache(maxsize=512)
def printer(resource: Resource) -> Printer:
    """How objects of a definition's resource are printed."""
    paths = [(column, jsonpath.parse(column.path)) for column in resource.columns]

    def cells(document: Document, now: float) -> Sequence[Any]:
        return [_cell(column, jsonpath.values(steps, document), now) for column, steps in paths]

    return Printer((*columns("Name"), *resource.columns), cells)


def _cell(column: Column, found: list[Any], now: float) -> Any:
    """A column's value; None, which kubectl leaves empty, where there is none or it is of another type."""
    if not found or found[0] is None:
        return None
    if column.type == "string":
        return " ".join(map(_text, found))
    value = found[0]
    match column.type:
        case "date":
            return since(value, now)
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer":
            return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "number":
            return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
