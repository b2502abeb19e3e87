"""Who stands behind an address: the facts of a pod or a WorkloadEntry that the mesh reads, and none that only change.

    Pod, WorkloadEntry -> workload(object), is_ready(object); selected(namespace, labels) -> the objects

A pod's status changes with every probe; what is derived here changes only when the pod is another one, so that
the readers of a workload sleep through its life.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.model import Labels
from ostria.mesh.settings import trust_domain
from ostria.mesh.traits import ProxyType
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Node, Pod
from ostria.resources.workload_entry import WorkloadEntry, WorkloadEntrySpec

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


# Written by injection on pods whose questions for names come to their proxy.
DNS_ANNOTATION = "ostria.dev/dns-capture"

# Labels that only a controller asks for; no index lists them.
_HASHES = frozenset({"pod-template-hash", "controller-revision-hash", "pod-template-generation"})

# A WorkloadEntry whose health is watched (istio.io: health checks of virtual machines).
HEALTH_ANNOTATION = "proxy.istio.io/health-checks-enabled"


class Workload(NamedTuple):
    """One pod or WorkloadEntry as the mesh sees it.

    `identity` is its SPIFFE id, "" where nobody vouches for one. `addresses` has one a family, the preferred first;
    a WorkloadEntry has one, which may also be a DNS name or a `unix://` path, or none where only its network's
    gateway leads to it. `ports` are its own numbers for service ports, by name; `weight` 0 is not said. `dns` says
    that its questions for names come to its proxy.

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
    ports: tuple[tuple[str, int], ...] = ()
    weight: int = 0
    network: str = ""
    dns: bool = False


@query
def workload(db: Engine, pod: ObjectKey) -> Workload | None:
    """The workload of one pod or WorkloadEntry, or None where there is no such object."""
    value = objects(db, pod)
    if isinstance(value, WorkloadEntry):
        labels = {**value.spec.labels, **value.metadata.labels}
        return outside_workload(db, pod.namespace, pod.name, value.spec, labels)
    if not isinstance(value, Pod):
        return None
    labels = dict(value.metadata.labels)
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
        dns=value.metadata.annotations.get(DNS_ANNOTATION) == "true",
    )


def outside_workload(
    db: Engine, namespace: str, name: str, spec: WorkloadEntrySpec, labels: Mapping[str, str]
) -> Workload:
    """A workload that is no pod, as a WorkloadEntry or an endpoint of a ServiceEntry describes it.

    Its proxy takes mutual TLS if a label says so or, where none does, if it has an account (as Istio).
    """
    account = spec.service_account
    return Workload(
        namespace=namespace,
        name=name,
        labels=tuple(sorted(labels.items())),
        account=account,
        identity=spiffe_id(trust_domain(db), namespace, account) if account else "",
        mesh_tls=labels.get(TLS_MODE_LABEL, "istio" if account else "") == "istio",
        node="",
        locality=labels.get(LOCALITY_LABEL, "").replace(".", "/") or spec.locality,
        owner=name,
        addresses=(spec.address,) if spec.address else (),
        ports=tuple(sorted(spec.ports.items())),
        weight=spec.weight,
        network=spec.network,
    )


@query
def is_ready(db: Engine, key: ObjectKey) -> bool:
    """Whether a pod or WorkloadEntry may be sent to. What nothing is known of is taken for ready."""
    value = objects(db, key)
    if isinstance(value, WorkloadEntry):
        known = {condition.type: condition.status for condition in value.status.conditions}
        watched = value.metadata.annotations.get(HEALTH_ANNOTATION) == "true"
        return known.get("Healthy", "False" if watched else "True") == "True"
    if not isinstance(value, Pod) or value.metadata.deletion_timestamp:
        return False
    known = {condition.type: condition.status for condition in value.status.conditions}
    return value.status.phase in ("", "Running") and known.get("Ready", "True") == "True"


def _labels(key: ObjectKey, value: Object) -> Iterator[tuple[str, str, str, str]]:
    if isinstance(value, Pod):
        for name, text in value.metadata.labels.items():
            if name not in _HASHES:
                yield "Pod", key.namespace, name, text
    elif isinstance(value, WorkloadEntry):
        for name, text in {**value.spec.labels, **value.metadata.labels}.items():
            yield "WorkloadEntry", key.namespace, name, text


labelled = Index("mesh.workloads.labelled", objects, _labels)


def selected(db: Engine, kind: str, namespace: str, selector: Labels) -> tuple[ObjectKey, ...]:
    """The Pods or WorkloadEntries of a namespace that have all labels of a selector, sorted; none for an empty one."""
    if not selector:
        return ()
    first, *rest = (labelled(db, (kind, namespace, name, text)) for name, text in selector)
    return tuple(key for key in first if all(key in others for others in rest))


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
