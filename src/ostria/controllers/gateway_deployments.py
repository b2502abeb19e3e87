"""What a Gateway is served by that names no Service: a Deployment of proxies, a Service and a ServiceAccount.

    Gateway, its listeners, its parameters -> documents -> what is not there yet, or was made from other words

Everything is called `<gateway>-<class>` and belongs to the Gateway, so that it goes with it. What was made bears the
hash of what it was made from: it is written again when that changes, and what people or autoscalers change afterwards
stays.
https://istio.io/latest/docs/tasks/traffic-management/ingress/gateway-api/#automated-deployment
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
import yaml

from ostria.base import ObjectKey
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, Index, query
from ostria.injection.merge import merge
from ostria.mesh.gateway_api import (
    Role,
    deployed_name,
    gateway_spec,
    is_managed,
    listeners_of,
    parameters_fault,
    role_of,
)
from ostria.mesh.settings import settings
from ostria.mesh.workloads import GATEWAY_TEMPLATE, TEMPLATES_ANNOTATION
from ostria.resources import Object, by_kind, objects
from ostria.resources import gateway_api as api
from ostria.resources.kubernetes import ConfigMap

MANAGED = "gateway.istio.io/managed"
CONTENT = "ostria.dev/content"
"""The hash of what an object was made from."""

SERVICE_ACCOUNT = "gateway.istio.io/service-account"
SERVICE_TYPE = "networking.istio.io/service-type"
# What says something to whoever makes the objects, or to kubectl, and nothing to the objects.
_NOT_COPIED = ("gateway.istio.io/", "kubectl.kubernetes.io/last-applied-configuration")

STATUS_PORT = 15021

# In the root namespace: a ConfigMap with parameters for every Gateway of a class.
DEFAULTS_LABEL = "gateway.istio.io/defaults-for-class"

# The keys of the ConfigMap that `parametersRef` names (istio.io: Gateway API, customizations).
_OVERLAYS = {
    "ServiceAccount": "serviceAccount",
    "Deployment": "deployment",
    "Service": "service",
    "HorizontalPodAutoscaler": "horizontalPodAutoscaler",
    "PodDisruptionBudget": "podDisruptionBudget",
}
_API_VERSIONS = {
    "ServiceAccount": "v1",
    "Deployment": "apps/v1",
    "Service": "v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "PodDisruptionBudget": "policy/v1",
}

Document = dict[str, Any]


@query
def deployment_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What is missing of what Gateways are served by, or was made from other words."""
    return tuple(write for key in by_kind(db, api.GATEWAY) for write in _writes(db, key))


@query
def _writes(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    found: list[DesiredWrite] = []
    for kind, name, content in _contents(db, key):
        own = ObjectKey(settings(db).cluster, kind, key.namespace, name)
        there = objects(db, own)
        if there is None:
            found.append(DesiredWrite(own, content, create=True))
        elif MANAGED in there.metadata.labels and there.metadata.annotations.get(CONTENT) != _hash(content):
            found.append(DesiredWrite(own, content))
    return tuple(found)


def _hash(content: bytes) -> str:
    document = msgspec.json.decode(content)
    return str(document["metadata"]["annotations"][CONTENT])


@query
def _contents(db: Engine, key: ObjectKey) -> tuple[tuple[str, str, bytes], ...]:
    """The documents of one Gateway as (kind, name, JSON), each with the hash of itself."""
    found = []
    for document in documents(db, key):
        body = msgspec.json.encode(document, order="sorted")
        annotations = document["metadata"].setdefault("annotations", {})
        annotations[CONTENT] = blake2b(body, digest_size=8).hexdigest()
        name = document["metadata"]["name"]
        found.append((document["kind"], name, msgspec.json.encode(document, order="sorted")))
    return tuple(found)


def documents(db: Engine, key: ObjectKey) -> list[Document]:
    """What one Gateway is served by; nothing where it names Services, or where its parameters cannot be read."""
    value, spec = objects(db, key), gateway_spec(db, key)
    if not isinstance(value, api.Gateway) or spec is None or role_of(db, key) is not Role.GATEWAY:
        return []
    if not is_managed(spec) or parameters_fault(db, key) is not None:
        return []
    made = _Made(db, key, value)
    overlays = _overlays(db, key, spec)
    found = [made.account(), made.deployment(), made.service()]
    asked = {kind for kind, _ in overlays}
    if "HorizontalPodAutoscaler" in asked:
        found.append(made.autoscaler())
    if "PodDisruptionBudget" in asked:
        found.append(made.disruption_budget())
    for kind, overlay in overlays:
        found = [_laid_over(each, overlay) if each["kind"] == kind else each for each in found]
    return found


class _Made:
    """The documents of one Gateway."""

    def __init__(self, db: Engine, key: ObjectKey, gateway: api.Gateway) -> None:
        spec = gateway.spec
        self._db = db
        self._key = key
        self._spec = spec
        self._gateway = gateway
        self._name = deployed_name(db, key)
        given = gateway.metadata.annotations
        self._account = given.get(SERVICE_ACCOUNT) or f"{key.name}-{spec.gateway_class_name}"
        infrastructure = spec.infrastructure
        # Who says what the infrastructure is to bear says all of it.
        told = infrastructure is not None and bool(infrastructure.labels or infrastructure.annotations)
        labels = infrastructure.labels if infrastructure and told else gateway.metadata.labels
        annotations = infrastructure.annotations if infrastructure and told else given
        self._labels = {
            **{name: value for name, value in labels.items() if not name.startswith(_NOT_COPIED)},
            MANAGED: "istio.io-gateway-controller",
            "gateway.networking.k8s.io/gateway-class-name": spec.gateway_class_name,
            "gateway.networking.k8s.io/gateway-name": key.name,
        }
        self._labels.setdefault("istio.io/dataplane-mode", "none")
        self._annotations = {
            name: value for name, value in annotations.items() if not name.startswith((*_NOT_COPIED, "ostria.dev/"))
        }
        self._selector = {"gateway.networking.k8s.io/gateway-name": key.name}

    def account(self) -> Document:
        """Whom the proxies are."""
        return self._document("ServiceAccount", self._account)

    def deployment(self) -> Document:
        """The proxies, which injection fills in."""
        revision = settings(self._db).revision
        labels = {**self._labels, "sidecar.istio.io/inject": "true"}
        if revision:
            labels["istio.io/rev"] = revision
        probe = {"httpGet": {"path": "/healthz/ready", "port": STATUS_PORT}}
        container = {
            "name": "istio-proxy",
            # The webhook's to fill in, with everything else.
            "image": "auto",
            "ports": [{"containerPort": STATUS_PORT, "name": "status-port", "protocol": "TCP"}],
            "startupProbe": {**probe, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600},
        }
        template = {
            "metadata": {
                "labels": labels,
                "annotations": {**self._annotations, TEMPLATES_ANNOTATION: GATEWAY_TEMPLATE},
            },
            "spec": {"serviceAccountName": self._account, "containers": [container]},
        }
        return self._document(
            "Deployment", self._name, {"selector": {"matchLabels": self._selector}, "template": template}
        )

    def service(self) -> Document:
        """Where the proxies are called: a port for each that is listened on, those of ListenerSets too."""
        ports: list[Document] = [{"name": "status-port", "port": STATUS_PORT, "protocol": "TCP", "appProtocol": "tcp"}]
        names = {"status-port"}
        numbers = {STATUS_PORT}
        for listener in listeners_of(self._db, self._key):
            if listener.port in numbers:
                continue
            numbers.add(listener.port)
            name = _port_name(listener.name, names)
            names.add(name)
            ports.append(
                {"name": name, "port": listener.port, "protocol": "TCP", "appProtocol": listener.protocol.lower()}
            )
        spec: Document = {
            "type": self._gateway.metadata.annotations.get(SERVICE_TYPE)
            or self._annotations.get(SERVICE_TYPE)
            or "LoadBalancer",
            "selector": self._selector,
            "ports": ports,
            "ipFamilyPolicy": "PreferDualStack",
        }
        asked = [each.value for each in self._spec.addresses if each.value]
        if asked:
            spec["loadBalancerIP"] = asked[0]
        return self._document("Service", self._name, spec)

    def autoscaler(self) -> Document:
        """How many proxies there are, as the parameters say."""
        target = {"apiVersion": _API_VERSIONS["Deployment"], "kind": "Deployment", "name": self._name}
        return self._document("HorizontalPodAutoscaler", self._name, {"scaleTargetRef": target, "maxReplicas": 1})

    def disruption_budget(self) -> Document:
        """How many proxies may be missing at once, as the parameters say."""
        return self._document("PodDisruptionBudget", self._name, {"selector": {"matchLabels": self._selector}})

    def _document(self, kind: str, name: str, spec: Document | None = None) -> Document:
        owner = {
            "apiVersion": f"{api.GROUP}/v1",
            "kind": "Gateway",
            "name": self._key.name,
            "uid": self._gateway.metadata.uid,
        }
        metadata = {
            "name": name,
            "namespace": self._key.namespace,
            "labels": dict(self._labels),
            "annotations": dict(self._annotations),
            "ownerReferences": [owner],
        }
        made: Document = {"apiVersion": _API_VERSIONS[kind], "kind": kind, "metadata": metadata}
        return made | ({"spec": spec} if spec is not None else {})


def _port_name(listener: str, taken: set[str]) -> str:
    """A listener's name as a port can have it: at most 63 characters without dots, and each once."""
    name = listener.replace(".", "-")[:63].rstrip("-")
    number = 2
    while name in taken:
        name = f"{listener.replace('.', '-')[:58]}-{number}"
        number += 1
    return name


@query
def _parameters(db: Engine, key: ObjectKey) -> tuple[tuple[str, str], ...]:
    value = objects(db, key)
    return tuple(sorted(value.data.items())) if isinstance(value, ConfigMap) else ()


def _defaults(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, ConfigMap) and DEFAULTS_LABEL in value.metadata.labels:
        yield key.namespace, value.metadata.labels[DEFAULTS_LABEL]


defaults_of = Index("controllers.gateway_deployments.defaults_of", objects, _defaults)
"""The ConfigMaps that hold the parameters of all Gateways of a class, by (namespace, class)."""


def _overlays(db: Engine, key: ObjectKey, spec: api.GatewaySpec) -> list[tuple[str, Mapping[str, Any]]]:
    """What parameters lay over each kind of document: those of the class first, then the Gateway's own.

    A text that is no YAML object says nothing.
    """
    sources = list(defaults_of(db, (settings(db).root_namespace, spec.gateway_class_name)))
    reference = spec.infrastructure.parameters_ref if spec.infrastructure else None
    if reference is not None:
        sources.append(ObjectKey(settings(db).cluster, "ConfigMap", key.namespace, reference.name))
    found: list[tuple[str, Mapping[str, Any]]] = []
    for source in sources:
        texts = dict(_parameters(db, source))
        for kind, name in _OVERLAYS.items():
            try:
                value = yaml.safe_load(texts.get(name, ""))
            except yaml.YAMLError:
                continue
            if isinstance(value, dict):
                found.append((kind, value))
    return found


def _laid_over(document: Document, overlay: Mapping[str, Any]) -> Document:
    """A document with people's words over it; what it is and is called they cannot change. Ports go by number."""
    given = dict(overlay)
    spec = given.get("spec")
    ports = spec.get("ports") if isinstance(spec, dict) and document["kind"] == "Service" else None
    if isinstance(ports, list):
        own = {port["port"]: port for port in document["spec"]["ports"]}
        for port in ports:
            if isinstance(port, dict) and "port" in port:
                own[port["port"]] = {**own.get(port["port"], {}), **port}
        document = {**document, "spec": {**document["spec"], "ports": list(own.values())}}
        given["spec"] = {name: value for name, value in given["spec"].items() if name != "ports"}
    metadata = {
        name: value for name, value in (given.get("metadata") or {}).items() if name in ("labels", "annotations")
    }
    kept = {name: value for name, value in given.items() if name not in ("apiVersion", "kind", "metadata")}
    return merge(document, {**kept, "metadata": metadata})
