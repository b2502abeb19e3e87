"""istiod: what it may do, what it is told, its Deployment and Service, and the webhooks that lead to it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import yaml

from ostria.injection.values import Injected, Proxy, image_of, write_values
from ostria.install import roles, webhooks
from ostria.install.installation import Installation
from ostria.install.objects import Document, made
from ostria.install.trees import overlay
from ostria.install.workloads import autoscaler, deployment, disruption_budget, first, replicas, variables

XDS_PORT, WEBHOOK_PORT, MONITORING_PORT = 15012, 15017, 15014
READY = "/httpsReady"
INJECT, PLUGGED_IN = "/etc/istio/inject", "/etc/cacerts"


def documents(installation: Installation) -> tuple[Document, ...]:
    """Everything of istiod's."""
    operator, name, namespace = installation.operator, webhooks.service(installation), installation.namespace
    k8s, values = operator.components.pilot.k8s, operator.values.pilot
    labels, selector = {"app": "istiod", "istio": _role(installation)}, _selector(installation)
    wanted = operator.values.global_.default_pod_disruption_budget.enabled
    return (
        *roles.documents(installation),
        _mesh(installation),
        _injection(installation),
        _deployment(installation),
        _service(installation),
        *autoscaler(name, namespace, labels, values, k8s),
        *disruption_budget(name, namespace, labels, selector, k8s, wanted=wanted),
        *webhooks.documents(installation),
    )


def injected(installation: Installation) -> Injected:
    """The values that injection reads. On one machine the images are those that the machine knows."""
    values = installation.operator.values
    given = values.global_
    changes: dict[str, Any] = {
        "hub": "" if installation.machine else first(installation.operator.hub, given.hub) or "",
        "tag": "" if installation.machine else first(installation.operator.tag, given.tag) or "",
    }
    return Injected(msgspec.structs.replace(given, **changes), values.sidecar_injector_webhook)


def mesh_config(installation: Installation) -> dict[str, Any]:
    """MeshConfig as it is installed: the mesh's own names, and what people say over them."""
    operator, namespace = installation.operator, installation.namespace
    own = {
        "defaultConfig": {"discoveryAddress": f"{webhooks.service(installation)}.{namespace}.svc:{XDS_PORT}"},
        "rootNamespace": namespace,
        "trustDomain": "cluster.local",
    }
    return overlay(overlay(own, operator.values.mesh_config), operator.mesh_config)


def _role(installation: Installation) -> str:
    # The default revision's Service selects by this label, and must not take in other revisions' pods.
    return "istiod" if installation.revision else "pilot"


def _selector(installation: Installation) -> dict[str, str]:
    if installation.revision:
        return {"app": "istiod", "istio.io/rev": installation.revision}
    return {"app": "istiod", "istio": _role(installation)}


def _mesh(installation: Installation) -> Document:
    text = yaml.safe_dump(mesh_config(installation), sort_keys=True)
    data = {"mesh": text, "meshNetworks": "networks: {}\n"}
    return made("ConfigMap", f"istio{installation.suffix}", installation.namespace, data=data)


def _injection(installation: Installation) -> Document:
    data = {"values": write_values(injected(installation))}
    return made("ConfigMap", _injection_name(installation), installation.namespace, data=data)


def _injection_name(installation: Installation) -> str:
    return f"istio-sidecar-injector{installation.suffix}"


def _service(installation: Installation) -> Document:
    k8s, values = installation.operator.components.pilot.k8s, installation.operator.values.pilot
    spec = {
        "ports": [
            {"name": "https-dns", "port": XDS_PORT, "targetPort": XDS_PORT, "protocol": "TCP"},
            {"name": "https-webhook", "port": webhooks.SERVICE_PORT, "targetPort": WEBHOOK_PORT, "protocol": "TCP"},
            {"name": "http-monitoring", "port": MONITORING_PORT, "targetPort": MONITORING_PORT, "protocol": "TCP"},
        ],
        "selector": _selector(installation),
    }
    service = made(
        "Service",
        webhooks.service(installation),
        installation.namespace,
        {"app": "istiod", "istio": _role(installation)},
        spec=overlay(spec, k8s.service or {}),
    )
    annotations = {**values.service_annotations, **k8s.service_annotations}
    if annotations:
        service["metadata"]["annotations"] = annotations
    return service


def _deployment(installation: Installation) -> Document:
    operator, values = installation.operator, installation.operator.values.pilot
    k8s, revision = operator.components.pilot.k8s, installation.revision or "default"
    labels = {"app": "istiod", "istio": _role(installation)}
    # A pod reads its injection values once, at its start: other values are another pod.
    digest = hashlib.sha256(write_values(injected(installation)).encode()).hexdigest()[:16]
    pod: dict[str, Any] = {
        "metadata": {
            "labels": {**labels, "istio.io/rev": revision, "sidecar.istio.io/inject": "false"},
            "annotations": {"ostria.dev/injection-values": digest, **values.pod_annotations},
        },
        "spec": {
            "serviceAccountName": roles.account(installation),
            "containers": [_container(installation)],
            "affinity": values.affinity,
            "nodeSelector": dict(values.node_selector),
            "tolerations": list(values.tolerations),
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "inject", "configMap": {"name": _injection_name(installation)}},
                {"name": "cacerts", "secret": {"secretName": "cacerts", "optional": True}},
                *values.volumes,
            ],
        },
    }
    secrets = operator.values.global_.image_pull_secrets
    if secrets:
        pod["spec"]["imagePullSecrets"] = [{"name": name} for name in secrets]
    return deployment(
        webhooks.service(installation),
        installation.namespace,
        labels=labels,
        selector=_selector(installation),
        pod=pod,
        replicas=replicas(values, k8s),
        k8s=k8s,
    )


def _container(installation: Installation) -> dict[str, Any]:
    operator, values = installation.operator, installation.operator.values.pilot
    pilot, given = operator.components.pilot, injected(installation).global_
    if not installation.machine:
        hub, tag = first(pilot.hub, values.hub, given.hub) or "", first(pilot.tag, values.tag, given.tag) or ""
        given = msgspec.structs.replace(given, hub=hub, tag=tag)
    domain = given.proxy.cluster_domain
    environment = [
        *([{"name": "REVISION", "value": installation.revision}] if installation.revision else ()),
        _of_pod("POD_NAME", "metadata.name"),
        _of_pod("POD_NAMESPACE", "metadata.namespace"),
        *([{"name": "DOMAIN_SUFFIX", "value": domain}] if domain != Proxy().cluster_domain else ()),
        *variables(values.env),
        *values.env_var_from,
    ]
    policy = operator.values.global_.image_pull_policy
    return {
        "name": "discovery",
        "image": image_of(values.image, given),
        **({"imagePullPolicy": policy} if policy else {}),
        "ports": [
            {"name": "tls-xds", "containerPort": XDS_PORT, "protocol": "TCP"},
            {"name": "https-webhooks", "containerPort": WEBHOOK_PORT, "protocol": "TCP"},
            {"name": "http-monitoring", "containerPort": MONITORING_PORT, "protocol": "TCP"},
        ],
        "env": environment,
        "resources": values.resources,
        "readinessProbe": {
            "httpGet": {"path": READY, "port": WEBHOOK_PORT, "scheme": "HTTPS"},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - The pod's own.
            {"name": "inject", "mountPath": INJECT, "readOnly": True},
            {"name": "cacerts", "mountPath": PLUGGED_IN, "readOnly": True},
            *values.volume_mounts,
        ],
    }


def _of_pod(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
