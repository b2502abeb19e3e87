"""Server-side apply, and the record of who wrote which field (`metadata.managedFields`).

https://kubernetes.io/docs/reference/using-api/server-side-apply/. An object has an entry for each (manager, operation,
subresource). Appliers own what they send; other writers own what they change. Left out: entries are not converted
between versions of a kind, and the entries of many short-lived writers are not joined into one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

from ostria.kubeapi.errors import StatusError, bad_request
from ostria.kubeapi.patches.field_sets import Path, fields, from_fields_v1, merged, printed, to_fields_v1, without
from ostria.kubeapi.requests import Document
from ostria.kubeapi.schemas import Schema

_BEFORE = "before-first-apply"


class _Entry(NamedTuple):
    """One manager's fields, as one item of managedFields tells them."""

    manager: str
    operation: str
    api_version: str
    time: str
    subresource: str
    owned: frozenset[Path]

    def is_of(self, manager: str, operation: str, subresource: str) -> bool:
        return (self.manager, self.operation, self.subresource) == (manager, operation, subresource)

    def named(self) -> str:
        if self.operation == "Apply" and not self.subresource:
            return f'"{self.manager}"'
        below = f' with subresource "{self.subresource}"' if self.subresource else ""
        return f'"{self.manager}"{below} using {self.api_version}' + (f" at {self.time}" if self.time else "")


def apply(
    live: Document | None,
    applied: Document,
    manager: str,
    schema: Schema | None,
    *,
    now: str,
    force: bool = False,
    subresource: str = "",
) -> Document:
    """The object after `manager` has applied a configuration: its fields set, those it no longer names taken away.

    `live` is the object as it is, None if there is none yet; `now` an RFC 3339 time for managedFields. The result has
    live's resourceVersion and uid; equal to `live` if nothing changes. StatusError 409 (reason Conflict, a cause with
    reason FieldManagerConflict for each field) where another manager owns a field with another value, unless `force`.
    """
    if (applied.get("metadata") or {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    wanted: Document = _without_nulls(applied)
    mine = fields(wanted, schema)
    base = live or {}
    present = fields(base, schema)
    entries = _entries(base)
    if live is not None and not entries and present:
        first = frozenset(present)
        entries = [_Entry(_BEFORE, "Update", str(base.get("apiVersion", "")), now, "", first)]
    own = next((each for each in entries if each.is_of(manager, "Apply", subresource)), None)
    others = [each for each in entries if each is not own]

    overruled = {path for path, value in mine.items() if path in present and present[path] != value}
    conflicts = [(each, sorted(lost)) for each in others if (lost := each.owned & _around(overruled, each.owned))]
    if conflicts and not force:
        raise _conflict(conflicts)
    others = [each._replace(owned=each.owned - _around(overruled, each.owned)) for each in others]

    result: Document = merged(base, wanted, schema)
    if own is not None:
        kept = set(mine).union(*(each.owned for each in others))
        dropped = {path for path in own.owned if path not in kept and not _has_below(path, kept)}
        result = without(result, dropped, schema, keep=set(mine))
    api_version = str(applied.get("apiVersion", ""))
    owned = frozenset(mine)
    unchanged = own is not None and own.owned == owned and own.api_version == api_version
    time = own.time if own is not None and unchanged and _same(result, base) else now
    entry = _Entry(manager, "Apply", api_version, time, subresource, owned)
    return _recorded(result, [*others, entry])


def track(
    old: Document | None,
    new: Document,
    manager: str,
    api_version: str,
    operation: str,
    now: str,
    *,
    schema: Schema | None,
    subresource: str = "",
) -> Document:
    """`new` with managedFields that tell what `manager` has changed from `old` by a write (`operation` "Update").

    `old` is None for a create. The managedFields that `new` brings count if it has the field: [] forgets all owners.
    """
    before = fields(old, schema) if old else {}
    after = fields(new, schema)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    removed = before.keys() - after.keys()
    metadata = new.get("metadata") or {}
    entries = _entries(new if metadata.get("managedFields") is not None else (old or {}))
    if not changed and not removed:
        return _recorded(new, entries)
    own = next((each for each in entries if each.is_of(manager, operation, subresource)), None)
    others = [each._replace(owned=each.owned - changed - removed) for each in entries if each is not own]
    owned = ((own.owned if own else frozenset()) | changed) - removed
    entry = _Entry(manager, operation, api_version, now, subresource, frozenset(owned))
    return _recorded(new, [*others, entry])


def _around(overruled: set[Path], owned: Iterable[Path]) -> set[Path]:
    """The owned paths that an overruled value takes with it: itself, and what was below or above a changed shape."""
    return {
        path for path in owned if path in overruled or any(path[:size] in overruled for size in range(1, len(path)))
    }


def _has_below(path: Path, paths: set[Path]) -> bool:
    return any(len(each) > len(path) and each[: len(path)] == path for each in paths)


def _same(result: Document, base: Document) -> bool:
    def bare(document: Document) -> Document:
        metadata = {key: value for key, value in document.get("metadata", {}).items() if key != "managedFields"}
        return {**document, "metadata": metadata}

    return bare(result) == bare(base)


def _conflict(conflicts: list[tuple[_Entry, list[Path]]]) -> StatusError:
    causes = []
    told = []
    for entry, paths in conflicts:
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {entry.named()}", "field": printed(path)}
            for path in paths
        ]
        if len(paths) == 1:
            told.append(f"conflict with {entry.named()}: {printed(paths[0])}")
        else:
            listed = "".join(f"\n- {printed(path)}" for path in paths)
            told.append(f"conflicts with {entry.named()}:{listed}")
    count = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
    return StatusError(409, "Conflict", f"Apply failed with {count}: " + "\n".join(told), {"causes": causes})


def _entries(document: Document) -> list[_Entry]:
    listed = (document.get("metadata") or {}).get("managedFields") or []
    return [
        _Entry(
            str(each.get("manager") or ""),
            str(each.get("operation") or "Update"),
            str(each.get("apiVersion") or ""),
            str(each.get("time") or ""),
            str(each.get("subresource") or ""),
            frozenset(from_fields_v1(each.get("fieldsV1"))),
        )
        for each in listed
        if isinstance(each, dict) and each
    ]


def _recorded(document: Document, entries: Iterable[_Entry]) -> Document:
    """The document with these managedFields, appliers first; managers that own nothing are left out."""
    listed = []
    for each in sorted(entries, key=lambda entry: (entry.operation, entry.time, entry.manager, entry.subresource)):
        if not each.owned:
            continue
        told: Document = {
            "manager": each.manager,
            "operation": each.operation,
            "apiVersion": each.api_version,
            "time": each.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_fields_v1(each.owned),
        }
        if not each.time:
            del told["time"]
        if each.subresource:
            told["subresource"] = each.subresource
        listed.append(told)
    metadata = dict(document.get("metadata") or {})
    metadata.pop("managedFields", None)
    if listed:
        metadata["managedFields"] = listed
    return {**document, "metadata": metadata}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(held) for key, held in value.items() if held is not None}
    if isinstance(value, list):
        return [_without_nulls(held) for held in value]
    return copy.copy(value)
