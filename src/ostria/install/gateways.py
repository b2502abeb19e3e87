"""Gateways: Deployments of one proxy, which injection fills in, and the Services that lead to them.

https://istio.io/latest/docs/setup/additional-setup/gateway/.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ostria.injection.parameters import HEALTH_PORT
from ostria.install.installation import Installation
from ostria.install.objects import Document, made
from ostria.install.operator import GatewayComponent, GatewayValues, SecretVolume
from ostria.install.profiles import EGRESS, INGRESS
from ostria.install.trees import overlay
from ostria.install.workloads import autoscaler, deployment, disruption_budget, replicas, variables


def ingress(installation: Installation) -> tuple[Document, ...]:
    """The ingress gateways that are enabled."""
    values = installation.operator.values.gateways.ingress
    return _all(installation, installation.operator.components.ingress_gateways, INGRESS, values)


def egress(installation: Installation) -> tuple[Document, ...]:
    """The egress gateways that are enabled."""
    values = installation.operator.values.gateways.egress
    return _all(installation, installation.operator.components.egress_gateways, EGRESS, values)


def _all(
    installation: Installation,
    components: tuple[GatewayComponent, ...],
    usual: str,
    values: GatewayValues,
) -> tuple[Document, ...]:
    documents: list[Document] = []
    namespaces = {installation.namespace}
    for component in components:
        enabled = component.enabled
        if component.name == usual and values.enabled is not None:
            enabled = values.enabled
        if not enabled:
            continue
        namespace = component.namespace or values.namespace or installation.namespace
        if namespace not in namespaces:
            namespaces.add(namespace)
            documents.append(made("Namespace", namespace))
        # The chart's values are of one name; another gateway has the same ports and size, and a name of its own.
        own = values if component.name == usual else msgspec.structs.replace(values, name="", labels={}, env={})
        documents += _gateway(installation, component, own, namespace)
    return tuple(documents)


def _gateway(
    installation: Installation, component: GatewayComponent, values: GatewayValues, namespace: str
) -> tuple[Document, ...]:
    name, k8s = values.name or component.name, component.k8s
    labels = {"app": name, "istio": name.removeprefix("istio-"), **values.labels, **component.label}
    selector = dict(labels)
    account = f"{name}-service-account"
    wanted = installation.operator.values.global_.default_pod_disruption_budget.enabled
    return (
        made("ServiceAccount", account, namespace, labels),
        deployment(
            name,
            namespace,
            labels=labels,
            selector=selector,
            pod=_pod(installation, values, labels, account, _secrets(component, values)),
            replicas=replicas(values, k8s),
            k8s=k8s,
        ),
        _service(name, namespace, labels, component, values),
        *autoscaler(name, namespace, labels, values, k8s),
        *disruption_budget(name, namespace, labels, selector, k8s, wanted=wanted),
    )


def _secrets(component: GatewayComponent, values: GatewayValues) -> tuple[SecretVolume, ...]:
    """The Secrets that a gateway's pods mount: where people's Gateways have looked for files since Istio's first."""
    if values.secret_volumes is not None:
        return values.secret_volumes
    usual = component.name.removeprefix("istio-")
    if usual not in ("ingressgateway", "egressgateway"):
        usual = "ingressgateway"
    return tuple(
        SecretVolume(f"{usual}-{what}", f"istio-{usual}-{what}", f"/etc/istio/{usual}-{what}")
        for what in ("certs", "ca-certs")
    )


def _pod(
    installation: Installation,
    values: GatewayValues,
    labels: dict[str, str],
    account: str,
    secrets: tuple[SecretVolume, ...],
) -> dict[str, Any]:
    asked = {"sidecar.istio.io/inject": "true"}
    if installation.revision:
        asked["istio.io/rev"] = installation.revision
    container: dict[str, Any] = {
        "name": "istio-proxy",
        # The webhook's to fill in, with everything else.
        "image": "auto",
        "ports": [
            {"containerPort": port.get("targetPort", port["port"]), "protocol": port.get("protocol", "TCP")}
            for port in _ports(values)
            if isinstance(port.get("targetPort", port["port"]), int)
        ],
        "env": variables(values.env),
        "resources": values.resources,
        "volumeMounts": [{"name": each.name, "mountPath": each.mount_path, "readOnly": True} for each in secrets],
        # The template asks every 15 seconds: until the first good answer a gateway is worth asking more often.
        "startupProbe": {
            "httpGet": {"path": "/healthz/ready", "port": HEALTH_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 3,
            "failureThreshold": 600,
        },
    }
    return {
        "metadata": {
            "labels": {**labels, **asked},
            "annotations": {"inject.istio.io/templates": "gateway", **values.pod_annotations},
        },
        "spec": {
            "serviceAccountName": account,
            "containers": [container],
            "volumes": [
                {"name": each.name, "secret": {"secretName": each.secret_name, "optional": True}} for each in secrets
            ],
            "nodeSelector": dict(values.node_selector),
            "tolerations": list(values.tolerations),
        },
    }


def _service(
    name: str, namespace: str, labels: dict[str, str], component: GatewayComponent, values: GatewayValues
) -> Document:
    spec: dict[str, Any] = {
        "type": values.type or "ClusterIP",
        "selector": dict(labels),
        "ports": [dict(port) for port in _ports(values)],
    }
    if values.load_balancer_ip:
        spec["loadBalancerIP"] = values.load_balancer_ip
    if values.load_balancer_source_ranges:
        spec["loadBalancerSourceRanges"] = list(values.load_balancer_source_ranges)
    if values.external_traffic_policy:
        spec["externalTrafficPolicy"] = values.external_traffic_policy
    service = made("Service", name, namespace, labels, spec=overlay(spec, component.k8s.service or {}))
    annotations = {**values.service_annotations, **component.k8s.service_annotations}
    if annotations:
        service["metadata"]["annotations"] = annotations
    return service


def _ports(values: GatewayValues) -> tuple[Any, ...]:
    return (*values.ports, *values.ingress_ports)
