"""Objects as tables, which is how kubectl asks for them: the columns that its users know, made by the server.

See https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables. A Printer is the columns
of a resource and what makes an object's cells; one module a subject. What a definition brings is printed by the
JSONPaths of its columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ostria.kubeapi.fields import at
from ostria.kubeapi.requests import Document, Resource
from ostria.kubeapi.tables import cluster, custom, network, policies, workloads
from ostria.kubeapi.tables.printing import Printer, columns, created_at

_PRINTERS: dict[tuple[str, str], Printer] = {
    **workloads.PRINTERS,
    **network.PRINTERS,
    **cluster.PRINTERS,
    **policies.PRINTERS,
}
_OTHERS = Printer(columns("Name", "Created At"), lambda document, now: [created_at(document)])


def table(
    resource: Resource,
    objects: Iterable[Document],
    now: float,
    include: str = "Metadata",
    metadata: Document | None = None,
) -> Document:
    """A metav1.Table with a row for each object.

    `now` is in seconds since the epoch. `include` says what stands beside the cells: `None`, `Metadata` or `Object`.
    `metadata` is that of the list (its resourceVersion, its continue).
    """
    printer = custom.printer(resource) if resource.crd else _PRINTERS.get((resource.group, resource.plural), _OTHERS)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata or {},
        "columnDefinitions": [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description or _meaning(column.name),
                "priority": column.priority,
            }
            for column in printer.columns
        ],
        "rows": [_row(printer, document, now, include) for document in objects],
    }


def _row(printer: Printer, document: Document, now: float, include: str) -> Document:
    cells: Sequence[Any] = printer.cells(document, now)
    if printer.columns[0].name == "Name":
        cells = [printer.named(document), *cells]
    row: Document = {"cells": list(cells)}
    if printer.finished is not None and (done := printer.finished(document)):
        row["conditions"] = [{"type": "Completed", "status": "True", **done}]
    if include == "Metadata":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": at(document, "metadata"),
        }
    elif include == "Object":
        row["object"] = document
    return row


def _meaning(name: str) -> str:
    return {
        "Name": "Name must be unique within a namespace",
        "Age": "How long ago the object was made",
        "Created At": "When the object was made",
    }.get(name, "")
