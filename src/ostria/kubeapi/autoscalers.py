"""HorizontalPodAutoscalers in the words of either version: they are stored as v2, and read and written as both.

See https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v1/. What v1 has no
words for is not shown in it, and a write in v1 takes it away: metrics beside the processor's, and `behavior`.
"""

from __future__ import annotations

from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.requests import Document, Resource

_PERCENTAGE = "targetCPUUtilizationPercentage"
_UTILIZATION = "averageUtilization"


def converted(resource: Resource, autoscaler: Document) -> Document:
    """An autoscaler of either version, as an object of `resource`."""
    spec = dict(mapping(autoscaler, "spec"))
    if resource.version == "v1":
        for metric in objects(spec, "metrics"):
            if at(metric, "resource", "name") == "cpu" and (used := at(metric, "resource", "target", _UTILIZATION)):
                spec[_PERCENTAGE] = used
        spec.pop("metrics", None)
        spec.pop("behavior", None)
    elif percentage := spec.pop(_PERCENTAGE, None):
        target = {"type": "Utilization", _UTILIZATION: percentage}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    return {**autoscaler, "apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
