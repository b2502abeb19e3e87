"""What is meant where a pod says nothing; pods' templates take the same, all but what only a pod has.

See https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ostria.base.quantities import canonical
from ostria.kubeapi.fields import fill, mapping, objects
from ostria.kubeapi.requests import Document

_FILE_MODE = 0o644
_CRITICAL = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def default_pod_spec(spec: Document) -> None:
    """Fills a pod's spec, or that of a template, in place."""
    fill(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler", securityContext={})
    fill(spec, terminationGracePeriodSeconds=30)
    # The older name of the account is kept equal to the newer one, which leads.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for kind in ("initContainers", "containers"):
        for container in objects(spec, kind):
            _container(container)
            if spec.get("hostNetwork"):
                for port in objects(container, "ports"):
                    if not port.get("hostPort") and "containerPort" in port:
                        port["hostPort"] = port["containerPort"]
    for volume in objects(spec, "volumes"):
        _volume(volume)


def default_pod(spec: Document) -> None:
    """Fills, in place, what a pod has and a template has not; `default_pod_spec` has been here."""
    fill(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority")
    fill(spec, priority=_CRITICAL.get(str(spec.get("priorityClassName")), 0))
    for container in (*objects(spec, "initContainers"), *objects(spec, "containers")):
        resources = container["resources"]
        if isinstance(resources, dict) and isinstance(resources.get("limits"), dict):
            requests = resources.setdefault("requests", {})
            for name, amount in resources["limits"].items():
                requests.setdefault(name, amount)


def canonical_amounts(amounts: Document) -> None:
    """Writes, in place, each quantity of a map as the API does; what is none stays, to be refused."""
    for name, amount in amounts.items():
        with suppress(ValueError):
            amounts[name] = canonical(amount)


def qos_class(spec: Document) -> str:
    """Guaranteed, Burstable or BestEffort: by what the containers ask for, cpu and memory."""
    limited = True
    asked = False
    for container in (*objects(spec, "initContainers"), *objects(spec, "containers")):
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        asked = asked or any(kind in place for kind in ("cpu", "memory") for place in (requests, limits))
        for kind in ("cpu", "memory"):
            if kind not in limits or requests.get(kind, limits[kind]) != limits[kind]:
                limited = False
    if not asked:
        return "BestEffort"
    return "Guaranteed" if limited else "Burstable"


def pull_policy(image: str) -> str:
    """Always for an image that may have moved (no tag, or latest), else IfNotPresent."""
    if "@" in image:
        return "IfNotPresent"
    _, colon, tag = image.rpartition("/")[2].partition(":")
    return "IfNotPresent" if colon and tag != "latest" else "Always"


def _container(container: Document) -> None:
    if isinstance(container.get("image"), str):
        fill(container, imagePullPolicy=pull_policy(container["image"]))
    fill(container, resources={}, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for kind in ("limits", "requests"):
        canonical_amounts(mapping(container, "resources", kind))
    for port in objects(container, "ports"):
        fill(port, protocol="TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if isinstance(probe, dict):
            fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            _http_get(probe)
            if isinstance(probe.get("grpc"), dict):
                fill(probe["grpc"], service="")
    lifecycle = container.get("lifecycle")
    for name in ("postStart", "preStop"):
        if isinstance(lifecycle, dict) and isinstance(lifecycle.get(name), dict):
            _http_get(lifecycle[name])
    for variable in objects(container, "env"):
        _field_ref(variable.get("valueFrom"))


def _http_get(place: Document) -> None:
    http = place.get("httpGet")
    if isinstance(http, dict):
        fill(http, scheme="HTTP", path="/")


def _field_ref(place: Any) -> None:
    if isinstance(place, dict) and isinstance(place.get("fieldRef"), dict):
        fill(place["fieldRef"], apiVersion="v1")


def _volume(volume: Document) -> None:
    if not any(isinstance(value, dict) for value in volume.values()):
        volume["emptyDir"] = {}
    for name in ("configMap", "secret", "projected", "downwardAPI"):
        if isinstance(volume.get(name), dict):
            fill(volume[name], defaultMode=_FILE_MODE)
    if isinstance(volume.get("hostPath"), dict):
        fill(volume["hostPath"], type="")
    for item in objects(volume.get("downwardAPI"), "items"):
        _field_ref(item)
    for source in objects(volume.get("projected"), "sources"):
        if isinstance(source.get("serviceAccountToken"), dict):
            fill(source["serviceAccountToken"], expirationSeconds=3600)
        for item in objects(source.get("downwardAPI"), "items"):
            _field_ref(item)
