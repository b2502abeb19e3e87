"""Where Ingresses are reached, written into their status: the addresses of the gateway that serves them.

    MeshConfig.ingressService -> that Service's addresses, else those of the machines where the gateway's pods run
    addresses + each Ingress' status, as read -> the statuses to correct

An Ingress that is not the mesh's is somebody else's to write.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ostria.base import ObjectKey
from ostria.base.hosts import is_ip
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, Index, query
from ostria.mesh.ingress import gateway_labels, keys
from ostria.mesh.settings import mesh_config, settings
from ostria.mesh.workloads import is_gateway
from ostria.resources import Object, objects
from ostria.resources.ingress import Ingress
from ostria.resources.kubernetes import LoadBalancerIngress, Node, Pod, Service


def _gateway_pods(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, Pod) and is_gateway(value):
        yield key.namespace


gateway_pods = Index("controllers.ingresses.gateway_pods", objects, _gateway_pods)


@query
def ingress_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs from where Ingresses are reached; empty when each says it."""
    return tuple(write for key in keys(db) for write in _write(db, key))


@query
def _write(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value = objects(db, key)
    wanted = addresses(db)
    if not isinstance(value, Ingress) or value.status.load_balancer.ingress == wanted:
        return ()
    patch = {"status": {"loadBalancer": {"ingress": wanted}}}
    return (DesiredWrite(key, msgspec.json.encode(patch), subresource="status"),)


@query
def addresses(db: Engine) -> tuple[LoadBalancerIngress, ...]:
    """Where the gateway that serves Ingresses is reached, sorted."""
    name = _service_name(db)
    if name:
        value = objects(db, ObjectKey(settings(db).cluster, "Service", settings(db).root_namespace, name))
        found = _of_service(value) if isinstance(value, Service) else set()
    else:
        found = set(_of_machines(db))
    return tuple(
        LoadBalancerIngress(ip=address) if is_ip(address) else LoadBalancerIngress(hostname=address)
        for address in sorted(found)
    )


@query
def _service_name(db: Engine) -> str:
    return mesh_config(db).ingress_service


def _of_service(service: Service) -> set[str]:
    if service.spec.type == "ExternalName":
        return {service.spec.external_name}
    given = {each.ip or each.hostname for each in service.status.load_balancer.ingress}
    return (given | {*service.spec.external_ips}) - {""}


def _of_machines(db: Engine) -> Iterator[str]:
    wanted = gateway_labels(db)
    for key in gateway_pods(db, settings(db).root_namespace):
        pod = objects(db, key)
        if isinstance(pod, Pod) and pod.status.phase == "Running" and wanted[0] in pod.metadata.labels.items():
            node = objects(db, ObjectKey(key.cluster, "Node", "", pod.spec.node_name))
            if isinstance(node, Node):
                yield from (each.address for each in node.status.addresses if each.type == "ExternalIP")
