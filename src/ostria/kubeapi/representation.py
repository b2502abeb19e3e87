"""The forms in which objects are answered: whole, as a table, or their metadata alone.

See https://kubernetes.io/docs/reference/using-api/api-concepts/ (alternate representations, receiving tables).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ostria.kubeapi import autoscalers, events
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.kinds import AUTOSCALERS, EVENT
from ostria.kubeapi.requests import Document, Resource
from ostria.kubeapi.tables import table


class Form(NamedTuple):
    """What a caller can read: `as_kind` is "", Table, PartialObjectMetadata or PartialObjectMetadataList.

    `version` is that of meta.k8s.io. `objects` is what rows of a table carry: Metadata, Object or None.
    """

    as_kind: str = ""
    version: str = "v1"
    objects: str = "Metadata"


WHOLE = Form()
_CONVERTED = {EVENT.key: events.converted, AUTOSCALERS: autoscalers.converted}
_JSON = ("application/json", "application/*", "*/*", "")
_FORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")


def negotiate(accept: str, include_object: str = "") -> Form:
    """The first form of an Accept header that is served. Raises StatusError (406)."""
    for offered in accept.split(","):
        media, _, rest = offered.partition(";")
        if media.strip().lower() not in _JSON:
            continue
        parameters = dict(part.strip().partition("=")[::2] for part in rest.split(";") if part.strip())
        kind = parameters.get("as", "")
        if not kind:
            return WHOLE
        version = parameters.get("v", "")
        if kind in _FORMS and parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Form(kind, version, include_object or "Metadata")
    words = "only the following media types are accepted: application/json"
    raise StatusError(406, "NotAcceptable", words)


def of_version(resource: Resource, document: Document) -> Document:
    """An object in the version of a resource. Versions differ in nothing but their name, but for what is converted."""
    if document.get("apiVersion") == resource.api_version and document.get("kind") == resource.kind:
        return document
    if resource.key in _CONVERTED:
        return _CONVERTED[resource.key](resource, document)
    return {**document, "apiVersion": resource.api_version, "kind": resource.kind}


def one(resource: Resource, document: Document, form: Form, now: float) -> Document:
    """One object, in the form that was asked for. What is no object of the resource (a Status, a Scale) stays."""
    if not form.as_kind or "metadata" not in document or document.get("kind") == "Status":
        return document
    if form.as_kind == "Table":
        revision = document["metadata"].get("resourceVersion", "")
        return rows(resource, [document], {"resourceVersion": revision}, form, now)
    return _metadata(document, form)


def many(resource: Resource, documents: Sequence[Document], metadata: Document, form: Form, now: float) -> Document:
    """A list with its metadata (resourceVersion, continue, remainingItemCount), in the form that was asked for."""
    if form.as_kind == "Table":
        return rows(resource, documents, metadata, form, now)
    if form.as_kind:
        items = [_metadata(document, form) for document in documents]
        kind, api_version = "PartialObjectMetadataList", f"meta.k8s.io/{form.version}"
        return {"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items}
    kind = f"{resource.kind}List"
    items = [of_version(resource, document) for document in documents]
    return {"kind": kind, "apiVersion": resource.api_version, "metadata": metadata, "items": items}


def rows(resource: Resource, documents: Sequence[Document], metadata: Document, form: Form, now: float) -> Document:
    """A Table, with its list's metadata."""
    shown = [of_version(resource, document) for document in documents]
    made = table(resource, shown, now, form.objects)
    return {**made, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": metadata}


def _metadata(document: Document, form: Form) -> Document:
    kind, api_version = "PartialObjectMetadata", f"meta.k8s.io/{form.version}"
    return {"kind": kind, "apiVersion": api_version, "metadata": document["metadata"]}
