"""The objects of an installation as documents: where the API has them, in which order they go in, whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Document = Mapping[str, Any]

OWNER, COMPONENT, REVISION = (
    "install.operator.istio.io/owning-resource",
    "operator.istio.io/component",
    "istio.io/rev",
)
"""Istio's labels on what an installation brings: which installation, which component, which revision."""

STATE = "installed-state"
"""The value of `OWNER`, and the ConfigMap in which an installation's spec is kept; a revision is added to both."""


class Resource(NamedTuple):
    """How a kind is served."""

    api_version: str
    plural: str
    namespaced: bool = True


RESOURCES: Mapping[str, Resource] = {
    "Namespace": Resource("v1", "namespaces", namespaced=False),
    "CustomResourceDefinition": Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "ClusterRole": Resource("rbac.authorization.k8s.io/v1", "clusterroles", namespaced=False),
    "ClusterRoleBinding": Resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", namespaced=False),
    "Role": Resource("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Resource("rbac.authorization.k8s.io/v1", "rolebindings"),
    "ConfigMap": Resource("v1", "configmaps"),
    "Service": Resource("v1", "services"),
    "Deployment": Resource("apps/v1", "deployments"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "HorizontalPodAutoscaler": Resource("autoscaling/v2", "horizontalpodautoscalers"),
    "MutatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", namespaced=False
    ),
    "ValidatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", namespaced=False
    ),
}
"""Every kind that an installation brings, in the order in which they are applied; they are removed in the other."""

_ORDER = {kind: at for at, kind in enumerate(RESOURCES)}


class Reference(NamedTuple):
    """Which object; `namespace` is "" for those of the whole cluster. Its text is istioctl's `Kind: name.namespace`."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}.{self.namespace}" if self.namespace else f"{self.kind}: {self.name}"

    @property
    def collection(self) -> str:
        """The path of its collection."""
        return collection_path(self.kind, self.namespace)

    @property
    def path(self) -> str:
        """The path of the object."""
        return f"{self.collection}/{self.name}"


def collection_path(kind: str, namespace: str = "") -> str:
    """Where the objects of a kind are, of one namespace or of all."""
    served = RESOURCES[kind]
    root = f"/apis/{served.api_version}" if "/" in served.api_version else f"/api/{served.api_version}"
    return f"{root}/namespaces/{namespace}/{served.plural}" if namespace else f"{root}/{served.plural}"


def reference_of(document: Document) -> Reference:
    """Which object a document is about."""
    meta = document["metadata"]
    return Reference(document["kind"], meta.get("namespace", ""), meta["name"])


def in_order(documents: Iterable[Document]) -> tuple[Document, ...]:
    """The documents in the order in which they can be applied, each kind's by name."""
    return tuple(sorted(documents, key=lambda each: (_ORDER[each["kind"]], reference_of(each))))


def owner_of(revision: str) -> str:
    """The value of `OWNER` on what an installation of a revision brings."""
    return f"{STATE}-{revision}" if revision else STATE


def made(
    kind: str, name: str, namespace: str = "", labels: Mapping[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """An object of one of `RESOURCES`."""
    meta: dict[str, Any] = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    if labels:
        meta["labels"] = dict(labels)
    return {"apiVersion": RESOURCES[kind].api_version, "kind": kind, "metadata": meta, **fields}
