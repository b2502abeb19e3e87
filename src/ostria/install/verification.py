"""Whether what should be installed is there and runs, in the words of `istioctl verify-install`: pure.

manifests, objects as read -> one line an object, counts, a verdict
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ostria.install.objects import Document, Reference, reference_of

GOOD, BAD = "✔", "✘"


class Report(NamedTuple):
    """The lines to print, and whether everything is as it should be."""

    lines: tuple[str, ...]
    healthy: bool


def verify(wanted: Iterable[Document], found: Mapping[Reference, Document], revision: str = "") -> Report:
    """What is wrong with each object that should be there; `found` holds those that are."""
    lines = [f'1 Istio control planes detected, checking --revision "{revision or "default"}" only']
    counts = {"CustomResourceDefinition": 0, "Deployment": 0}
    healthy = True
    for document in wanted:
        reference = reference_of(document)
        fault = fault_of(document, found.get(reference))
        healthy = healthy and not fault
        lines.append(f"{BAD} {reference}: {fault}" if fault else f"{GOOD} {reference} checked successfully")
        if reference.kind in counts:
            counts[reference.kind] += 1
    lines.append(f"Checked {counts['CustomResourceDefinition']} custom resource definitions")
    lines.append(f"Checked {counts['Deployment']} Istio Deployments")
    if healthy:
        lines.append(f"{GOOD} Istio is installed and verified successfully")
    else:
        lines.append(f"{BAD} Istio is not installed as it should be: the lines above say what differs")
    return Report(tuple(lines), healthy)


def fault_of(wanted: Document, found: Document | None) -> str:
    """What is wrong with one object as it was found, "" if nothing."""
    if found is None:
        return "not found"
    if wanted["kind"] == "CustomResourceDefinition":
        return "" if _condition(found, "Established") else "not established"
    if wanted["kind"] == "Deployment":
        return waits_for(found)
    if wanted["kind"] == "MutatingWebhookConfiguration" and not has_bundles(found):
        return "istiod has not written its caBundle yet"
    return ""


def waits_for(deployment: Document) -> str:
    """What a Deployment's rollout waits for, "" when it has come to its end."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    wanted = spec.get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "its last change has not been seen yet"
    refused = [
        each.get("message", "")
        for each in status.get("conditions") or ()
        if (each.get("type"), each.get("status")) == ("ReplicaFailure", "True")
    ]
    if refused:
        return f"its pods cannot be made: {refused[0]}"
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} pods are of the last change"
    if status.get("replicas", 0) > updated:
        return f"{status['replicas'] - updated} old pods have not ended yet"
    return "" if available >= wanted else f"{available} of {wanted} pods are available"


def has_bundles(configuration: Document) -> bool:
    """Whether each webhook of a configuration can be called."""
    webhooks = configuration.get("webhooks") or ()
    return all((webhook.get("clientConfig") or {}).get("caBundle") for webhook in webhooks)


def pod_troubles(pods: Iterable[Document]) -> tuple[str, ...]:
    """What holds up pods, each in one sentence."""
    found = []
    for pod in pods:
        status: Mapping[str, Any] = pod.get("status") or {}
        for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") and waiting["reason"] not in ("PodInitializing", "ContainerCreating"):
                words = ": ".join(part for part in (waiting["reason"], waiting.get("message", "")) if part)
                found.append(f"pod {pod['metadata']['name']}, container {container.get('name', '')}: {words}")
        for condition in status.get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                found.append(f"pod {pod['metadata']['name']}: {condition.get('message', 'not scheduled')}")
    return tuple(found)


def crashed(pods: Iterable[Document]) -> tuple[tuple[str, str], ...]:
    """Pods and their containers that end and are started again."""
    return tuple(
        (pod["metadata"]["name"], container["name"])
        for pod in pods
        for container in (pod.get("status") or {}).get("containerStatuses") or ()
        if container.get("restartCount") and not container.get("ready")
    )


def _condition(document: Document, name: str) -> bool:
    conditions = (document.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == name and each.get("status") == "True" for each in conditions)
