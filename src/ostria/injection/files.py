"""Injection of manifests instead of pods, for those who keep what they apply (`kube-inject`).

    text -> documents -> the pod template of each workload, injected -> text

Everything that holds no pod passes through unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from ostria.base import Level, Problem
from ostria.base.yaml import Path, field_path, field_steps, read_documents
from ostria.injection.owner import Owner
from ostria.injection.pods import inject
from ostria.injection.settings import Settings

# Where kinds keep the pods they make. A pod is its own.
_TEMPLATES: Mapping[str, Path] = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys(
        (
            "Deployment",
            "DaemonSet",
            "StatefulSet",
            "ReplicaSet",
            "ReplicationController",
            "Job",
            "DeploymentConfig",
        ),
        ("spec", "template"),
    ),
}


class Injected(NamedTuple):
    """Documents as they came out, and what is to be said of them: problems, and who was left alone and why."""

    documents: tuple[Any, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def text(self) -> str:
        """The documents as YAML."""
        return "---\n".join(write(document) for document in self.documents)


def inject_text(text: str | bytes, source: str, settings: Settings, *, namespace: str = "default") -> Injected:
    """All documents of a stream; `namespace` is for objects that name none. One that cannot be read is a Problem."""
    documents: list[Any] = []
    problems: list[Problem] = []
    for document in read_documents(text, source):
        if isinstance(document, Problem):
            problems.append(document)
            continue
        value, found = inject_document(document.value, settings, namespace=namespace)
        documents.append(value)
        problems += [problem._replace(origin=document.origin(field_steps(problem.field))) for problem in found]
    return Injected(tuple(documents), tuple(problems))


def inject_document(value: Any, settings: Settings, *, namespace: str = "default") -> tuple[Any, tuple[Problem, ...]]:
    """One document, or a List of them; fields of problems are the document's own."""
    if not isinstance(value, Mapping):
        return value, ()
    if value.get("kind") == "List" and isinstance(value.get("items"), list):
        items, problems = [], []
        for index, item in enumerate(value["items"]):
            changed, found = inject_document(item, settings, namespace=namespace)
            items.append(changed)
            problems += [each._replace(field=_below(("items", index), each.field)) for each in found]
        return {**value, "items": items}, tuple(problems)
    kind = value.get("kind")
    place = _TEMPLATES.get(kind) if isinstance(kind, str) else None
    pod = _at(value, place) if place is not None else None
    if place is None or pod is None or not isinstance(kind, str):
        return value, ()
    meta = value.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    name, within = str(meta.get("name") or ""), str(meta.get("namespace") or namespace)
    owner = Owner(str(value.get("apiVersion") or ""), kind, name, within) if place else None
    injection = inject(pod, within, settings, owner)
    problems = [each._replace(field=_below(place, each.field)) for each in injection.problems]
    if injection.pod is None:
        if not injection.refused:
            message = f'{kind} "{within}/{name}" is left as it is: {injection.reason}'
            problems.append(Problem("not-injected", Level.INFO, message, field=field_path(place)))
        return value, tuple(problems)
    return _with(value, place, injection.pod), tuple(problems)


def _below(place: Path, field: str) -> str:
    return field_path((*place, *field_steps(field)))


def _at(value: Any, place: Path) -> Any:
    for step in place:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _with(value: Any, place: Path, pod: Any) -> Any:
    return {**value, place[0]: _with(value[place[0]], place[1:], pod)} if place else pod


# What YAML 1.1 and 1.2 both read as the text it is; everything else is quoted.
_PLAIN = re.compile(
    r"[A-Za-z/$][A-Za-z0-9_./()$=-]*(:[A-Za-z0-9_./=-]+)*|--?[a-z][A-Za-z0-9_./=:-]*[A-Za-z0-9]", re.ASCII
)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class _Dumper(yaml.SafeDumper):
    """Texts quoted wherever any reader could take them for something else, and nothing written as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether a value is written out where it stands again."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    style = None if plain else '"' if "\n" in text or "'" in text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def write(value: Any) -> str:
    """A value as YAML, in the order of its fields."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
    return text
