"""Which objects of a resource a caller wants: label selectors and field selectors, and what events mean to them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ostria.base import selectors
from ostria.kubeapi.errors import bad_request
from ostria.kubeapi.requests import Document, Resource
from ostria.kubeapi.store import Event

Predicate = Callable[[Document], bool]

_EVENT_FIELDS = frozenset(
    f"involvedObject.{part}"
    for part in ("apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid")
) | {"reason", "reportingComponent", "source", "type"}

# What can be asked for beside metadata.name and metadata.namespace
# (https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/#list-of-supported-fields).
_FIELDS: dict[tuple[str, str], frozenset[str]] = {
    ("", "events"): _EVENT_FIELDS,
    ("", "namespaces"): frozenset({"status.phase"}),
    ("", "nodes"): frozenset({"spec.unschedulable"}),
    ("", "pods"): frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    ("", "replicationcontrollers"): frozenset({"status.replicas"}),
    ("", "secrets"): frozenset({"type"}),
    ("", "services"): frozenset({"spec.clusterIP", "spec.type"}),
    ("apps", "replicasets"): frozenset({"status.replicas"}),
    ("batch", "jobs"): frozenset({"status.successful"}),
}

_TERM = re.compile(r"\s*([^=!,\s]+)\s*(==|!=|=)((?:[^,\\]|\\.)*)")


def predicate(resource: Resource, label_selector: str = "", field_selector: str = "") -> Predicate | None:
    """What tells whether an object is asked for; None if all are. Raises StatusError (400)."""
    wanted: list[Predicate] = []
    if label_selector.strip():
        wanted.append(_by_labels(label_selector))
    if field_selector.strip():
        wanted.append(_by_fields(resource, field_selector))
    if len(wanted) == 2:
        return lambda document: wanted[0](document) and wanted[1](document)
    return wanted[0] if wanted else None


def _by_labels(text: str) -> Predicate:
    try:
        selector = selectors.parse(text)
    except ValueError as error:
        raise bad_request(f"unable to parse requirement: {error}") from None
    return lambda document: selector.matches(document["metadata"].get("labels") or {})


def _by_fields(resource: Resource, text: str) -> Predicate:
    known = _FIELDS.get(resource.key, frozenset())
    terms: list[tuple[tuple[str, ...], bool, str]] = []
    at = 0
    while at < len(text):
        read = _TERM.match(text, at)
        if read is None or text[read.end() : read.end() + 1] not in ("", ","):
            raise bad_request(f'invalid selector: "{text[at:][:100]}"; can\'t understand it')
        field = read[1]
        if field not in ("metadata.name", "metadata.namespace") and field not in known:
            raise bad_request(f'field label not supported: "{field}"')
        terms.append((tuple(field.split(".")), read[2] != "!=", re.sub(r"\\(.)", r"\1", read[3])))
        at = read.end() + 1
    return lambda document: all((_text(document, path) == value) == equal for path, equal, value in terms)


def _text(document: Document, path: tuple[str, ...]) -> str:
    found: Any = document
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    # The Event's field is named after its source, and means the component.
    if path == ("source",) and isinstance(found, dict):
        found = found.get("component")
    if isinstance(found, bool):
        return "true" if found else "false"
    return "" if found is None else str(found)


def seen(event: Event, wanted: Predicate | None) -> str:
    """What an event is to a watch: ADDED, MODIFIED, DELETED, or "" if it is not of its objects.

    An object that begins to match has been added, and one that no longer matches has gone, to those who look there.
    """
    if wanted is None:
        return event.type
    now = event.type != "DELETED" and wanted(event.document)
    before = event.before is not None and wanted(event.before)
    if now:
        return "MODIFIED" if before else "ADDED"
    return "DELETED" if before else ""
