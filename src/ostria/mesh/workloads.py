"""Who stands behind an address: the facts of a pod that the mesh reads, and none of those that only change.

A pod's status changes with every probe; what is derived here changes only when the pod is another one, so that
the readers of a workload sleep through its life.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.model import Labels
from ostria.mesh.settings import trust_domain
from ostria.mesh.traits import ProxyType
from ostria.resources import objects
from ostria.resources.kubernetes import Node, Pod

# Set by injection on every pod whose proxy takes the mesh's mutual TLS (istio.io: labels).
TLS_MODE_LABEL = "security.istio.io/tlsMode"

REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
SUBZONE = "topology.istio.io/subzone"
LOCALITY_LABEL = "istio-locality"

# Kubernetes' CronJob controller names Jobs by minutes since 1970.
_DATED_JOB = re.compile(r"(.+)-\d{8,10}", re.ASCII)

# The annotation by which a pod asks for a gateway's template instead of a sidecar's (istio.io: Gateway injection).
TEMPLATES_ANNOTATION = "inject.istio.io/templates"
GATEWAY_TEMPLATE = "gateway"


class Workload(NamedTuple):
    """One pod as the mesh sees it. `identity` is its SPIFFE id, `addresses` one a family, the preferred first.

    What its proxy is for is read from the pod, which only those who may make pods can write, and never from what a
    proxy says of itself: a gateway is sent secrets.
    """

    namespace: str
    name: str
    labels: Labels
    account: str
    identity: str
    mesh_tls: bool
    node: str
    locality: str
    owner: str
    addresses: tuple[str, ...]
    proxy_type: ProxyType = ProxyType.SIDECAR


@query
def workload(db: Engine, pod: ObjectKey) -> Workload | None:
    """The workload of one pod, or None where there is no such pod."""
    value = objects(db, pod)
    if not isinstance(value, Pod):
        return None
    labels = value.metadata.labels
    account = value.spec.service_account_name or "default"
    node = value.spec.node_name
    status = value.status
    addresses = tuple(each.ip for each in status.pod_ips)
    return Workload(
        namespace=pod.namespace,
        name=pod.name,
        labels=tuple(sorted(labels.items())),
        account=account,
        identity=spiffe_id(trust_domain(db), pod.namespace, account),
        mesh_tls=labels.get(TLS_MODE_LABEL) == "istio",
        node=node,
        locality=labels.get(LOCALITY_LABEL, "").replace(".", "/") or node_locality(db, pod.cluster, node),
        owner=_owner(value),
        addresses=addresses or ((status.pod_ip,) if status.pod_ip else ()),
        proxy_type=ProxyType.GATEWAY if is_gateway(value) else ProxyType.SIDECAR,
    )


def is_gateway(pod: Pod) -> bool:
    """Whether a pod's proxy is a gateway of its own and no application's sidecar."""
    templates = pod.metadata.annotations.get(TEMPLATES_ANNOTATION, "")
    return GATEWAY_TEMPLATE in (name.strip() for name in templates.split(","))


@query
def node_locality(db: Engine, cluster: str, name: str) -> str:
    """A node's `region/zone/subzone` from its well-known labels, as far as it has them; "" where it has none."""
    node = objects(db, ObjectKey(cluster, "Node", "", name)) if name else None
    labels = node.metadata.labels if isinstance(node, Node) else {}
    parts = [labels.get(REGION, ""), labels.get(ZONE, ""), labels.get(SUBZONE, "")]
    while parts and not parts[-1]:
        parts.pop()
    return "/".join(parts)


def spiffe_id(domain: str, namespace: str, account: str) -> str:
    """A workload's name in certificates (spiffe.io; Istio's path layout)."""
    return f"spiffe://{domain}/ns/{namespace}/sa/{account}"


def workload_behind(kind: str, name: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """The kind and name that people know a pod's controller by, from the controller and the pod's labels.

    Behind a ReplicaSet stands a Deployment, and behind a dated Job its CronJob.
    """
    hashed = labels.get("pod-template-hash", "")
    if kind == "ReplicaSet" and hashed and name.endswith(f"-{hashed}"):
        return "Deployment", name.removesuffix(f"-{hashed}")
    dated = _DATED_JOB.fullmatch(name) if kind == "Job" else None
    return ("CronJob", dated[1]) if dated else (kind, name)


def _owner(pod: Pod) -> str:
    for owner in pod.metadata.owner_references:
        if owner.controller:
            return workload_behind(owner.kind, owner.name, pod.metadata.labels)[1]
    return pod.metadata.name
