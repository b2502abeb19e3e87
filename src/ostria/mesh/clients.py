"""A proxy as the mesh sees it: its pod's facts, reduced to those by which some live object tells proxies apart.

workload, every selector in force -> traits_of(pod)
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.attachments import attached_scope
from ostria.mesh.authorization import authorization_scope
from ostria.mesh.destinations import any_interest, rule_labels
from ostria.mesh.gateways import gateway_scope
from ostria.mesh.inbound import inbound_scope, serving
from ostria.mesh.on_demand import is_on_demand
from ostria.mesh.services import node_matters
from ostria.mesh.sidecar_ingress import needs_address
from ostria.mesh.sidecars import sidecar_labels, sidecar_of
from ostria.mesh.steering import is_steered
from ostria.mesh.traits import ClientTraits, Pairs, ProxyType, Scope
from ostria.mesh.virtual_services import source_labels
from ostria.mesh.workloads import workload
from ostria.resources import by_kind


@query
def asked_labels(db: Engine) -> frozenset[tuple[str, str]]:
    """The label pairs that the rules of all VirtualServices ask of clients."""
    return frozenset().union(*(source_labels(db, key) for key in by_kind(db, "VirtualService")))


@query
def traits_of(db: Engine, pod: ObjectKey, version: str = "", metadata: Pairs = ()) -> ClientTraits | None:
    """The traits of the proxy in one pod; None where there is no such pod. Its node says version and metadata.

    Labels that no selector names (a Deployment's pod-template-hash) are dropped, so that equal proxies are equal.
    """
    found = workload(db, pod)
    if found is None:
        return None
    scope = Scope(proxy_type=True, namespaces=None, labels=asked_labels(db), sidecar=True, on_demand=True)
    scope |= inbound_scope(db, found.namespace)
    sidecar, on_demand = None, False
    if found.proxy_type is ProxyType.GATEWAY:
        scope |= gateway_scope(db)
    else:
        chosen = sidecar_labels(db, found.namespace)
        labels = tuple(pair for pair in found.labels if pair in chosen)
        sidecar = sidecar_of(db, found.namespace, labels)
        on_demand = is_on_demand(db, pod)
        scope |= Scope(addresses=sidecar is not None and needs_address(db, sidecar))
    interest = any_interest(db)
    scope |= attached_scope(db, found.namespace) | authorization_scope(db, found.namespace)
    scope |= Scope(serving=True, node=node_matters(db), dns=True)
    scope |= Scope(labels=rule_labels(db, found.namespace), label_keys=interest.keys, locality=interest.matters)
    everything = ClientTraits(
        found.proxy_type,
        found.namespace,
        found.labels,
        sidecar,
        found.addresses,
        version,
        metadata,
        serving(db, pod),
        found.node,
        found.dns,
        found.locality,
        on_demand,
    )
    if on_demand and is_steered(db, everything):
        everything = everything._replace(on_demand=False)
    return scope.project(everything)
