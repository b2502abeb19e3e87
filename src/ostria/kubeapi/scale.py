"""The subresource `scale`: how many replicas there are, in one shape for every kind that has them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ostria.base import selectors
from ostria.kubeapi.fields import at
from ostria.kubeapi.requests import Document, Resource


class Paths(NamedTuple):
    """Where a kind keeps the wished number, the number there is, and the selector as text (or nothing)."""

    wished: tuple[str, ...] = ("spec", "replicas")
    there: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] = ()


BUILT_IN = Paths()


def paths(resource: Resource, definition: Document | None) -> Paths:
    """Where a resource keeps its replicas: a definition says it for its own."""
    if definition is None:
        return BUILT_IN
    for version in definition["spec"]["versions"]:
        if version["name"] == resource.version:
            said = (version.get("subresources") or {}).get("scale") or {}
            return Paths(
                _path(said.get("specReplicasPath", "")),
                _path(said.get("statusReplicasPath", "")),
                _path(said.get("labelSelectorPath", "")),
            )
    return BUILT_IN


def read(document: Document, where: Paths) -> Document:
    """The autoscaling/v1 Scale of an object."""
    wished, there, selector = where
    metadata = document["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Document = {"replicas": at(document, *there) or 0}
    text = at(document, *selector) if selector else _selector((document.get("spec") or {}).get("selector"))
    if text:
        status["selector"] = text
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": at(document, *wished) or 0},
        "status": status,
    }


def written(document: Document, scale: Document, where: Paths) -> Document:
    """The object with the number of replicas that a Scale wishes."""
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    made: Document = _with(document, where.wished, replicas)
    revision = (scale.get("metadata") or {}).get("resourceVersion")
    if revision:
        made["metadata"] = {**made["metadata"], "resourceVersion": revision}
    return made


def _path(text: str) -> tuple[str, ...]:
    return tuple(step for step in text.split(".") if step)


def _with(document: Document, path: tuple[str, ...], value: Any) -> Any:
    if not path:
        return value
    return {**document, path[0]: _with(document.get(path[0]) or {}, path[1:], value)}


def _selector(selector: Any) -> str:
    if not isinstance(selector, dict):
        return ""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return str(selectors.of_labels(selector))
    expressions = [
        (each["key"], each["operator"], each.get("values") or ()) for each in selector.get("matchExpressions") or ()
    ]
    return str(selectors.of_expressions(selector.get("matchLabels") or {}, expressions))
