"""What is meant where a built-in object says nothing: the defaults that its schema does not hold.

They are those that https://kubernetes.io/docs/reference/kubernetes-api/ tells field by field. A definition's own
defaults are its schema's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from ostria.kubeapi import pod_defaults
from ostria.kubeapi.fields import fill, mapping, objects
from ostria.kubeapi.kinds import (
    ADMISSION,
    APPS,
    BATCH,
    CORE,
    DISCOVERY,
    EXTENSIONS,
    NETWORKING,
    RBAC,
    SCHEDULING,
    STORAGE,
)
from ostria.kubeapi.requests import Document, Resource


def default(resource: Resource, document: Document) -> Document:
    """The object with its defaults; the document that came stays as it is. Doing it twice changes nothing more.

    The types of its fields have been checked before.

    In a built-in object a null is the same as no word, so nulls go; in a definition's object they are its schema's.
    """
    if resource.crd:
        metadata = {key: value for key, value in (document.get("metadata") or {}).items() if value is not None}
        return {**document, "metadata": metadata}
    found: Document = _without_nulls(deepcopy(document))
    found.setdefault("metadata", {})
    rule = _DEFAULTS.get((resource.group, resource.plural))
    if rule is not None:
        rule(found)
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value if each is not None]
    return value


def _spec(document: Document) -> Document:
    found = document.setdefault("spec", {})
    return found if isinstance(found, dict) else {}


def _namespace(document: Document) -> None:
    name = document["metadata"].get("name")
    if name:
        document["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


def _pod(document: Document) -> None:
    spec = _spec(document)
    pod_defaults.default_pod_spec(spec)
    pod_defaults.default_pod(spec)


def _template(place: Document) -> None:
    template = place.get("template")
    if isinstance(template, dict):
        fill(template, metadata={})
        pod_defaults.default_pod_spec(_spec(template))


def _service(document: Document) -> None:
    spec = _spec(document)
    fill(spec, type="ClusterIP", sessionAffinity="None")
    if spec["sessionAffinity"] == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    for port in objects(spec, "ports"):
        fill(port, protocol="TCP")
        if not port.get("targetPort") and "port" in port:
            port["targetPort"] = port["port"]
    if spec["type"] != "ExternalName":
        fill(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        fill(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        fill(spec, allocateLoadBalancerNodePorts=True)


def _endpoints(document: Document) -> None:
    for subset in objects(document, "subsets"):
        for port in objects(subset, "ports"):
            fill(port, protocol="TCP")


def _endpoint_slice(document: Document) -> None:
    for port in objects(document, "ports"):
        fill(port, name="", protocol="TCP")


def _secret(document: Document) -> None:
    fill(document, type="Opaque")


def _deployment(document: Document) -> None:
    spec = _spec(document)
    fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    fill(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        fill(spec["strategy"].setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _replica_set(document: Document) -> None:
    spec = _spec(document)
    fill(spec, replicas=1)
    _template(spec)


def _replication_controller(document: Document) -> None:
    spec = _spec(document)
    fill(spec, replicas=1)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        fill(spec, selector=dict(labels))
    _template(spec)


def _stateful_set(document: Document) -> None:
    spec = _spec(document)
    fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", updateStrategy={})
    fill(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        spec["updateStrategy"].setdefault("rollingUpdate", {}).setdefault("partition", 0)
    fill(spec.setdefault("persistentVolumeClaimRetentionPolicy", {}), whenDeleted="Retain", whenScaled="Retain")
    _template(spec)


def _daemon_set(document: Document) -> None:
    spec = _spec(document)
    fill(spec, revisionHistoryLimit=10, updateStrategy={})
    fill(spec["updateStrategy"], type="RollingUpdate")
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        fill(spec["updateStrategy"].setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)
    _template(spec)


def _job_spec(spec: Document) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    fill(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False)
    fill(spec, podReplacementPolicy="Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    _template(spec)


def _job(document: Document) -> None:
    _job_spec(_spec(document))
    labels = ((document["spec"].get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not document["metadata"].get("labels"):
        document["metadata"]["labels"] = dict(labels)


def _cron_job(document: Document) -> None:
    spec = _spec(document)
    fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    if isinstance(spec.get("jobTemplate"), dict):
        _job_spec(_spec(spec["jobTemplate"]))


def _binding(document: Document) -> None:
    if isinstance(document.get("roleRef"), dict):
        fill(document["roleRef"], apiGroup=RBAC)
    for subject in objects(document, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            fill(subject, apiGroup=RBAC)


def _webhooks(document: Document, *, mutating: bool) -> None:
    for hook in objects(document, "webhooks"):
        fill(hook, failurePolicy="Fail", matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
        fill(hook, timeoutSeconds=10)
        if mutating:
            fill(hook, reinvocationPolicy="Never")
        for rule in objects(hook, "rules"):
            fill(rule, scope="*")
        service = (hook.get("clientConfig") or {}).get("service")
        if isinstance(service, dict):
            fill(service, port=443)


def _mutating(document: Document) -> None:
    _webhooks(document, mutating=True)


def _validating(document: Document) -> None:
    _webhooks(document, mutating=False)


def _definition(document: Document) -> None:
    spec = _spec(document)
    names = spec.setdefault("names", {})
    if names.get("kind"):
        fill(names, singular=str(names["kind"]).lower(), listKind=f"{names['kind']}List")
    fill(spec, conversion={"strategy": "None"})


def _network_policy(document: Document) -> None:
    spec = _spec(document)
    fill(spec, policyTypes=["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
    for rule in (*objects(spec, "ingress"), *objects(spec, "egress")):
        for port in objects(rule, "ports"):
            fill(port, protocol="TCP")


def _autoscaler(document: Document) -> None:
    fill(_spec(document), minReplicas=1)


def _claim(document: Document) -> None:
    fill(_spec(document), volumeMode="Filesystem")
    pod_defaults.canonical_amounts(mapping(document, "spec", "resources", "requests"))


def _volume(document: Document) -> None:
    fill(_spec(document), volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")
    pod_defaults.canonical_amounts(mapping(document, "spec", "capacity"))


def _quota(document: Document) -> None:
    pod_defaults.canonical_amounts(mapping(document, "spec", "hard"))


def _storage_class(document: Document) -> None:
    fill(document, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _priority_class(document: Document) -> None:
    fill(document, preemptionPolicy="PreemptLowerPriority")


_DEFAULTS: dict[tuple[str, str], Callable[[Document], None]] = {
    (CORE, "endpoints"): _endpoints,
    (CORE, "namespaces"): _namespace,
    (CORE, "persistentvolumeclaims"): _claim,
    (CORE, "persistentvolumes"): _volume,
    (CORE, "pods"): _pod,
    (CORE, "replicationcontrollers"): _replication_controller,
    (CORE, "resourcequotas"): _quota,
    (CORE, "secrets"): _secret,
    (CORE, "services"): _service,
    (APPS, "daemonsets"): _daemon_set,
    (APPS, "deployments"): _deployment,
    (APPS, "replicasets"): _replica_set,
    (APPS, "statefulsets"): _stateful_set,
    ("autoscaling", "horizontalpodautoscalers"): _autoscaler,
    (BATCH, "cronjobs"): _cron_job,
    (BATCH, "jobs"): _job,
    (NETWORKING, "networkpolicies"): _network_policy,
    (RBAC, "clusterrolebindings"): _binding,
    (RBAC, "rolebindings"): _binding,
    (STORAGE, "storageclasses"): _storage_class,
    (ADMISSION, "mutatingwebhookconfigurations"): _mutating,
    (ADMISSION, "validatingwebhookconfigurations"): _validating,
    (EXTENSIONS, "customresourcedefinitions"): _definition,
    (SCHEDULING, "priorityclasses"): _priority_class,
    (DISCOVERY, "endpointslices"): _endpoint_slice,
}
