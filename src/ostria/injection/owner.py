"""Whose pod it is: the workload that people know it by, from the objects that made it and from its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ostria.injection.select import labels_of
from ostria.mesh.workloads import workload_behind

NAME_LABEL, REVISION_LABEL = "service.istio.io/canonical-name", "service.istio.io/canonical-revision"
WORKLOAD_LABEL = "service.istio.io/workload-name"
_MAX_LABEL = 63

# Where these names come from: https://istio.io/latest/docs/ops/deployment/application-requirements/#pod-requirements.
_NAMES = (NAME_LABEL, "app.kubernetes.io/name", "app")
_REVISIONS = (REVISION_LABEL, "app.kubernetes.io/version", "version")


class Owner(NamedTuple):
    """What a pod belongs to; `name` "" where a pod has none yet."""

    api_version: str
    kind: str
    name: str
    namespace: str

    def __str__(self) -> str:
        plural = f"{self.kind.lower()}s"
        return f"kubernetes://apis/{self.api_version}/namespaces/{self.namespace or 'default'}/{plural}/{self.name}"


def owner_of(pod: Mapping[str, Any], namespace: str) -> Owner:
    """The workload of a pod that is being made: its controller, or what made that; the pod itself if it has none."""
    meta = pod.get("metadata") or {}
    name = meta.get("name") or ""
    controller = next((each for each in meta.get("ownerReferences") or () if each.get("controller")), None)
    if controller is None:
        return Owner("v1", "Pod", name, namespace)
    version, kind, made_by = (str(controller.get(field) or "") for field in ("apiVersion", "kind", "name"))
    return Owner(version, *workload_behind(kind, made_by, labels_of(pod)), namespace)


def workload_name(pod: Mapping[str, Any], owner: Owner) -> str:
    """The workload's name in telemetry."""
    return labels_of(pod).get(WORKLOAD_LABEL) or owner.name


def canonical_name(pod: Mapping[str, Any], owner: Owner) -> str:
    """The service that a pod belongs to in telemetry, fit to be a label."""
    return _first(pod, _NAMES) or owner.name[:_MAX_LABEL].rstrip("-_.")


def canonical_revision(pod: Mapping[str, Any]) -> str:
    """The version of that service."""
    return _first(pod, _REVISIONS) or "latest"


def _first(pod: Mapping[str, Any], names: tuple[str, ...]) -> str:
    labels = labels_of(pod)
    return next((labels[name] for name in names if labels.get(name)), "")
