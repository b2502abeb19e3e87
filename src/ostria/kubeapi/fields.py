"""Reading and filling documents whose shape is known but whose parts may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostria.kubeapi.requests import Document


def at(document: Any, *path: str) -> Any:
    """What stands at a path of keys; None where there is nothing."""
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def objects(document: Any, *path: str) -> Sequence[Document]:
    """The objects of the list at a path; none where there is no list, and without what is no object."""
    listed = at(document, *path)
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else ()


def mapping(document: Any, *path: str) -> Document:
    """The object at a path, {} where there is none."""
    found = at(document, *path)
    return found if isinstance(found, dict) else {}


def fill(place: Document, **values: Any) -> None:
    """Gives, in place, a value to each field that says nothing."""
    for key, value in values.items():
        place.setdefault(key, value)
