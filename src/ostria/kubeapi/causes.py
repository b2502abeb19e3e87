"""What can be wrong with a field, in the API's own words, which people and programs know."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from ostria.kubeapi.errors import Cause
from ostria.kubeapi.requests import Document


class Prepared(NamedTuple):
    """An object as it would be stored, and everything that forbids it."""

    document: Document
    causes: tuple[Cause, ...] = ()


def required(field: str, why: str = "") -> Cause:
    """The field must be given."""
    return Cause(field, f"Required value: {why}" if why else "Required value", "FieldValueRequired")


def wrong(field: str, value: Any, why: str) -> Cause:
    """The field's value cannot be."""
    return Cause(field, f"Invalid value: {shown(value)}: {why}", "FieldValueInvalid")


def unsupported(field: str, value: Any, known: Iterable[str]) -> Cause:
    """The field takes some words, and this is none of them."""
    listed = ", ".join(f'"{each}"' for each in known)
    return Cause(field, f"Unsupported value: {shown(value)}: supported values: {listed}", "FieldValueNotSupported")


def duplicate(field: str, value: Any) -> Cause:
    """The value is there already, where each may be there once."""
    return Cause(field, f"Duplicate value: {shown(value)}", "FieldValueDuplicate")


def not_found(field: str, value: Any) -> Cause:
    """The field names what is not there."""
    return Cause(field, f"Not found: {shown(value)}", "FieldValueNotFound")


def forbidden(field: str, why: str) -> Cause:
    """The field may not be set, or not be changed."""
    return Cause(field, f"Forbidden: {why}", "FieldValueForbidden")


def too_long(field: str, most: int) -> Cause:
    """The value has more than `most` bytes."""
    return Cause(field, f"Too long: may not be more than {most} bytes", "FieldValueTooLong")


def immutable(field: str, value: Any) -> Cause:
    """The field stays as it was made."""
    return wrong(field, value, "field is immutable")


def shown(value: Any) -> str:
    """A value as messages show it: JSON, with an end for what is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 400 else f"{text[:400]}..."
