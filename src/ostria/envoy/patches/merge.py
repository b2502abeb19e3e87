"""Protobuf's merge, as EnvoyFilter's patches mean it: fields are set, messages are merged, lists grow.

Two things differ from `MergeFrom`. A duration or a wrapped number is one value and never half of one. And what an Any
holds can be merged where both sides hold the same type (`merge_any`), which is how a filter's configuration is changed.
"""

from __future__ import annotations

from typing import Any as Untyped

from ostria.envoy.wire import encode
from ostria.resources.patch_wire import message_of

_WHOLE = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Duration", "Timestamp", "Any", "BoolValue", "BytesValue", "DoubleValue", "FloatValue", "StringValue"),
        *("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
    )
)


def merge(into: Untyped, patch: Untyped, *, replace_lists: bool = False) -> None:
    """Merge a message into another of its type; with `replace_lists` a list of the patch stands in for the old one."""
    for field, value in patch.ListFields():
        name = field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _merge_map(getattr(into, name), value, messages=field.message_type.fields_by_name["value"].message_type)
        elif field.is_repeated:
            if replace_lists:
                into.ClearField(name)
            getattr(into, name).extend(value)
        elif field.message_type is None:
            setattr(into, name, value)
        elif field.message_type.full_name in _WHOLE or not into.HasField(name):
            getattr(into, name).CopyFrom(value)
        else:
            merge(getattr(into, name), value, replace_lists=replace_lists)


def _merge_map(into: Untyped, entries: Untyped, *, messages: bool) -> None:
    for key in entries:
        if messages:
            into[key].CopyFrom(entries[key])
        else:
            into[key] = entries[key]


def merge_any(into: Untyped, patch: Untyped, *, replace_lists: bool = False) -> bool:
    """Merge what an Any holds into what another of the same type holds; False where the two cannot be merged."""
    if into.type_url.rpartition("/")[2] != patch.type_url.rpartition("/")[2]:
        return False
    held, change = message_of(into), message_of(patch)
    if held is None or change is None:
        return False
    merge(held, change, replace_lists=replace_lists)
    into.value = encode(held)
    return True
