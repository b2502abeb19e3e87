"""A person's kubeconfig, to which a mesh's context is added and from which it is taken again. Pure: texts in and out.

    (their text, the mesh's text, name) -> their text with the cluster, user and context `name` in it

Only entries of that name are written or removed. Comments cannot be kept: whoever writes the result keeps a copy of
the file as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from ostria.base import Problem
from ostria.base.yaml import read_documents

_SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}


def merged(theirs: str, mesh: str, name: str, *, use: bool = False) -> str:
    """Their kubeconfig with the mesh's current context in it as `name`; `use` makes it the current one.

    Raises ValueError if either is no kubeconfig.
    """
    whole, given = _read(theirs), _read(mesh)
    context = dict(_entry(given, "contexts", str(given.get("current-context"))))
    cluster = _entry(given, "clusters", str(context.get("cluster")))
    user = _entry(given, "users", str(context.get("user")))
    context |= {"cluster": name, "user": name}
    for section, value in (("clusters", cluster), ("users", user), ("contexts", context)):
        others = [entry for entry in whole.get(section) or () if entry.get("name") != name]
        whole[section] = [*others, {"name": name, _SECTIONS[section]: value}]
    if use or not whole.get("current-context"):
        whole["current-context"] = name
    return _write({"apiVersion": "v1", "kind": "Config", **whole})


def without(theirs: str, name: str) -> str | None:
    """Their kubeconfig without the cluster, user and context `name`; None if it has none. Raises ValueError."""
    whole = _read(theirs)
    kept = {
        section: [entry for entry in whole.get(section) or () if entry.get("name") != name] for section in _SECTIONS
    }
    if all(len(kept[section]) == len(whole.get(section) or ()) for section in _SECTIONS):
        return None
    whole |= kept
    if whole.get("current-context") == name:
        whole["current-context"] = ""
    return _write(whole)


def _read(text: str) -> dict[str, Any]:
    values = list(read_documents(text, "kubeconfig"))
    if not values:
        return {}
    document = values[0]
    if isinstance(document, Problem):
        raise ValueError(document.message)
    if len(values) > 1 or not isinstance(document.value, Mapping):
        raise ValueError("it is no kubeconfig")
    for section in _SECTIONS:
        entries = document.value.get(section) or []
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            raise ValueError(f"its {section} are no list of named entries")
    return dict(document.value)


def _entry(whole: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    for entry in whole.get(section) or ():
        if entry.get("name") == name and isinstance(entry.get(_SECTIONS[section]), Mapping):
            found: Mapping[str, Any] = entry[_SECTIONS[section]]
            return found
    raise ValueError(f'it has no {_SECTIONS[section]} "{name}"')


def _write(whole: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(whole), sort_keys=False, allow_unicode=True)
