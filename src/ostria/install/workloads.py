"""What istiod and gateways share: Deployments with people's words over them, autoscalers, disruption budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostria.install.objects import Document, made
from ostria.install.operator import Autoscaling, Kubernetes
from ostria.install.trees import overlay


def variables(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A map of variables as a container has them; what YAML took for a boolean or a number is a text again."""
    return [{"name": name, "value": _text(value)} for name, value in sorted(values.items())]


def replicas(values: Autoscaling, k8s: Kubernetes) -> int | None:
    """How many there are, None where the autoscaler says."""
    count = values.replica_count if k8s.replica_count is None else k8s.replica_count
    return None if values.autoscale_enabled else 1 if count is None else count


def deployment(
    name: str,
    namespace: str,
    *,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    pod: Mapping[str, Any],
    replicas: int | None,
    k8s: Kubernetes,
) -> Document:
    """A Deployment of one container, with what `k8s` says over it. `pod` is the template: metadata and spec."""
    container, *others = pod["spec"]["containers"]
    over: dict[str, Any] = {"env": list(k8s.env)} if k8s.env else {}
    if k8s.resources is not None:
        over["resources"] = k8s.resources
    if k8s.image_pull_policy:
        over["imagePullPolicy"] = k8s.image_pull_policy
    if k8s.readiness_probe is not None:
        over["readinessProbe"] = k8s.readiness_probe
    container = overlay(container, over)
    container["volumeMounts"] = [*container.get("volumeMounts", ()), *k8s.volume_mounts]
    spec: dict[str, Any] = {**pod["spec"], "containers": [_without_empty(container), *others]}
    spec |= _without_empty(
        {
            "affinity": k8s.affinity or spec.get("affinity"),
            "nodeSelector": {**spec.get("nodeSelector", {}), **k8s.node_selector},
            "priorityClassName": k8s.priority_class_name,
            "securityContext": k8s.security_context or spec.get("securityContext"),
            "tolerations": [*spec.get("tolerations", ()), *k8s.tolerations],
            "volumes": [*spec.get("volumes", ()), *k8s.volumes],
        }
    )
    metadata = dict(pod["metadata"])
    annotations = {**metadata.get("annotations", {}), **k8s.pod_annotations}
    whole: dict[str, Any] = {} if replicas is None else {"replicas": replicas}
    whole["selector"] = {"matchLabels": dict(selector)}
    whole["strategy"] = k8s.strategy or {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}}
    whole["template"] = {
        "metadata": _without_empty({**metadata, "annotations": annotations}),
        "spec": _without_empty(spec),
    }
    return made("Deployment", name, namespace, labels, spec=whole)


def autoscaler(
    name: str, namespace: str, labels: Mapping[str, str], values: Autoscaling, k8s: Kubernetes
) -> tuple[Document, ...]:
    """The HorizontalPodAutoscaler of a Deployment, if there is one."""
    if not values.autoscale_enabled:
        return ()
    metrics = [
        {"type": "Resource", "resource": {"name": resource, "target": _target(amount)}}
        for resource, amount in (("cpu", values.cpu or {"targetAverageUtilization": 80}), ("memory", values.memory))
        if amount
    ]
    spec = {
        "minReplicas": values.autoscale_min,
        "maxReplicas": values.autoscale_max,
        "metrics": metrics,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
    }
    return (made("HorizontalPodAutoscaler", name, namespace, labels, spec=overlay(spec, k8s.hpa_spec or {})),)


def disruption_budget(
    name: str, namespace: str, labels: Mapping[str, str], selector: Mapping[str, str], k8s: Kubernetes, *, wanted: bool
) -> tuple[Document, ...]:
    """The PodDisruptionBudget of a Deployment, if there is one."""
    if not wanted and k8s.pod_disruption_budget is None:
        return ()
    spec = overlay({"minAvailable": 1, "selector": {"matchLabels": dict(selector)}}, k8s.pod_disruption_budget or {})
    return (made("PodDisruptionBudget", name, namespace, labels, spec=spec),)


def _target(amount: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Utilization", "averageUtilization": amount.get("targetAverageUtilization", 80)}


def _without_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", {}, [])}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def first(*choices: Any) -> Any:
    """The first choice that was made."""
    return next((choice for choice in choices if choice), None)
