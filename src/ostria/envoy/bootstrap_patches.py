"""EnvoyFilter's patches of the bootstrap: merged by the agent before Envoy starts, as the control plane says them.

A running Envoy does not read its bootstrap again, so a patch takes effect when a pod starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any as Untyped
from typing import NamedTuple

from google.protobuf import json_format

from ostria.envoy.patches.merge import merge
from ostria.resources.patch_wire import read_value

METHOD = "/ostria.v1.Bootstrap/Patches"
"""The control plane's call: the node's metadata as JSON in, a list of `BootstrapPatch` as JSON out."""


class BootstrapPatch(NamedTuple):
    """A part of a bootstrap as JSON, to be merged; with `replace_lists` its lists stand in for the old ones."""

    value: Mapping[str, Untyped]
    replace_lists: bool


def patched(bootstrap: Mapping[str, Untyped], patches: Iterable[BootstrapPatch]) -> dict[str, Untyped]:
    """A bootstrap with patches merged into it. Raises ValueError for what is no bootstrap."""
    whole = _read(bootstrap)
    for patch in patches:
        merge(whole, _read(patch.value), replace_lists=patch.replace_lists)
    found: dict[str, Untyped] = json_format.MessageToDict(whole, preserving_proto_field_name=True)
    return found


def _read(value: Mapping[str, Untyped]) -> Untyped:
    message, mistakes = read_value("BOOTSTRAP", value)
    if message is None:
        raise ValueError(mistakes[0].message)
    return message
