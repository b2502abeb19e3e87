"""What is stored here and acted on elsewhere, as tables: scaling, disruption, storage classes, priorities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.kinds import AUTOSCALING, POLICY, SCHEDULING, STORAGE
from ostria.kubeapi.requests import Document
from ostria.kubeapi.tables.printing import MOST, NONE, UNKNOWN, Printer, age, columns, name_of, number

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def _autoscaler(document: Document, now: float) -> Sequence[Any]:
    spec = mapping(document, "spec")
    target = mapping(spec, "scaleTargetRef")
    metrics = [_metric(each) for each in objects(spec, "metrics")]
    told = ", ".join(metrics[:MOST]) or NONE
    return [
        f"{target.get('kind')}/{target.get('name')}",
        told if len(metrics) <= MOST else f"{told} + {len(metrics) - MOST} more...",
        str(spec["minReplicas"]) if spec.get("minReplicas") else "<unset>",
        number(spec.get("maxReplicas")),
        number(at(document, "status", "currentReplicas")),
        age(document, now),
    ]


def _metric(metric: Document) -> str:
    """What a metric aims at; nothing here measures, so that what is stays unknown."""
    resource = mapping(metric, "resource")
    target = mapping(resource, "target")
    if not resource:
        return f"{UNKNOWN}/<auto>"
    if target.get("averageUtilization") is not None:
        return f"{resource.get('name')}: {UNKNOWN}/{target['averageUtilization']}%"
    return f"{resource.get('name')}: {UNKNOWN}/{target.get('averageValue') or '<auto>'}"


def _budget(document: Document, now: float) -> Sequence[Any]:
    spec = mapping(document, "spec")
    return [
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        number(at(document, "status", "disruptionsAllowed")),
        age(document, now),
    ]


def _storage_class(document: Document, now: float) -> Sequence[Any]:
    return [
        str(document.get("provisioner") or ""),
        str(document.get("reclaimPolicy") or "Delete"),
        str(document.get("volumeBindingMode") or "<unset>"),
        bool(document.get("allowVolumeExpansion")),
        age(document, now),
    ]


def _storage_class_name(document: Document) -> str:
    marked = mapping(document, "metadata", "annotations").get(_DEFAULT_CLASS) == "true"
    return f"{name_of(document)} (default)" if marked else name_of(document)


def _priority_class(document: Document, now: float) -> Sequence[Any]:
    return [
        number(document.get("value")),
        bool(document.get("globalDefault")),
        age(document, now),
        str(document.get("preemptionPolicy") or ""),
    ]


PRINTERS = {
    (AUTOSCALING, "horizontalpodautoscalers"): Printer(
        columns(
            "Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age", maxpods="integer",
            replicas="integer",
        ),
        _autoscaler,
    ),
    (POLICY, "poddisruptionbudgets"): Printer(
        columns(
            "Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age", allowed_disruptions="integer"
        ),
        _budget,
    ),
    (STORAGE, "storageclasses"): Printer(
        columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
        _storage_class,
        _storage_class_name,
    ),
    (SCHEDULING, "priorityclasses"): Printer(
        columns("Name", "Value", "Global-Default", "Age", "PreemptionPolicy", value="integer"), _priority_class
    ),
}  # fmt: skip
