"""Where a service port is served: EndpointSlices, ServiceEntries and the workloads that either kind of service selects.

EndpointSlice, ServiceEntry, workload, peer mode -> declared_endpoints(object) -> endpoints(host, namespace, port)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ostria.base import ObjectKey
from ostria.base.hosts import is_ip
from ostria.engine import Engine, Index, query
from ostria.mesh.model import ClusterRef, Endpoint, Health, Labels, MutualTls, Resolution, ServicePort
from ostria.mesh.security import peer_mode_of
from ostria.mesh.services import service
from ostria.mesh.workloads import Workload, is_ready, node_locality, outside_workload, selected, workload
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Endpoint as SliceEndpoint
from ostria.resources.kubernetes import EndpointSlice
from ostria.resources.kubernetes import Service as KubernetesService
from ostria.resources.service_entry import ServiceEntry

SERVICE_NAME = "kubernetes.io/service-name"

UNIX = "unix://"


def _of_service(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, EndpointSlice):
        name = value.metadata.labels.get(SERVICE_NAME)
        if name:
            yield key.namespace, name


slices_of = Index("mesh.endpoints.slices_of", objects, _of_service)


@query
def endpoints(db: Engine, host: str, namespace: str, port: int) -> tuple[Endpoint, ...]:
    """The endpoints of one service port as a client in `namespace` sees the service, sorted by address."""
    found = service(db, host, namespace)
    described = found.port(port) if found else None
    if found is None or described is None:
        return ()
    distinct: set[Endpoint] = set()
    for key in (found.origin, *found.others):
        distinct.update(declared_endpoints(db, key, host, described, found.resolution))
    return tuple(sorted(distinct, key=lambda endpoint: (endpoint.addresses, endpoint.port, endpoint.health)))


def called(db: Engine, cluster: ClusterRef, namespace: str) -> tuple[Endpoint, ...]:
    """The endpoints of a cluster's port, whatever its subset; of a sealed one those that take mutual TLS."""
    found = endpoints(db, cluster.host, namespace, cluster.port)
    return tuple(endpoint for endpoint in found if endpoint.mesh_tls) if cluster.sealed else found


@query
def accounts(db: Engine, host: str, namespace: str, port: int) -> tuple[str, ...]:
    """The identities that may answer for a service port, sorted.

    A query of its own: endpoints come and go, while the set of their identities, which clusters verify, stays.
    """
    found = service(db, host, namespace)
    vouched = found.accounts if found else ()
    own = {endpoint.identity for endpoint in endpoints(db, host, namespace, port) if endpoint.identity}
    return tuple(sorted({*own, *vouched}))


@query
def declared_endpoints(
    db: Engine, key: ObjectKey, host: str, port: ServicePort, resolution: Resolution
) -> tuple[Endpoint, ...]:
    """What one object says of one port of a host: its own endpoints, and those that it selects.

    Of workloads outside Kubernetes only those count that can be called as the service finds its endpoints: nobody
    looks names up where there are to be addresses.
    """
    value = objects(db, key)
    if isinstance(value, KubernetesService):
        selector = tuple(sorted(value.spec.selector.items()))
        chosen = _of_workloads(db, "WorkloadEntry", key.namespace, selector, port)
        return (*_from_slices(db, key, port), *_fitting(chosen, resolution))
    if not isinstance(value, ServiceEntry) or value.spec.resolution in ("NONE", "DYNAMIC_DNS"):
        return ()
    return tuple(_fitting(_of_entry(db, key, value, host, port), resolution))


def _fitting(endpoints: Iterable[Endpoint], resolution: Resolution) -> Iterator[Endpoint]:
    looked_up = resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
    for endpoint in endpoints:
        address = endpoint.addresses[0]
        if looked_up:
            if not address.startswith(UNIX):
                yield endpoint._replace(addresses=(address,))
        elif address.startswith(UNIX) or is_ip(address):
            yield endpoint


def _of_entry(db: Engine, key: ObjectKey, value: ServiceEntry, host: str, port: ServicePort) -> Iterable[Endpoint]:
    own = next((each for each in value.spec.ports if each.number == port.number), None)
    if own is None:
        return ()
    port = ServicePort(own.number, own.name, port.protocol, own.target_port or own.number)
    if value.spec.workload_selector:
        selector = tuple(sorted(value.spec.workload_selector.labels.items()))
        return tuple(
            endpoint
            for kind in ("Pod", "WorkloadEntry")
            for endpoint in _of_workloads(db, kind, key.namespace, selector, port)
        )
    listed = [outside_workload(db, key.namespace, "", endpoint, endpoint.labels) for endpoint in value.spec.endpoints]
    if not value.spec.endpoints and value.spec.resolution in ("DNS", "DNS_ROUND_ROBIN"):
        return (Endpoint((host,), _target(port), key.namespace),)
    return tuple(_of_workload(db, each, port, key.cluster) for each in listed if each.addresses)


def _of_workloads(db: Engine, kind: str, namespace: str, selector: Labels, port: ServicePort) -> Iterator[Endpoint]:
    for key in selected(db, kind, namespace, selector):
        found = workload(db, key)
        if found is not None and found.addresses and is_ready(db, key):
            yield _of_workload(db, found, port, key.cluster)


def _of_workload(db: Engine, found: Workload, port: ServicePort, cluster: str) -> Endpoint:
    number = _number(found, port)
    plain = peer_mode_of(db, found.namespace, found.labels).of_port(number) is MutualTls.DISABLE
    return Endpoint(
        addresses=found.addresses,
        port=0 if found.addresses[0].startswith(UNIX) else number,
        namespace=found.namespace,
        labels=found.labels,
        identity=found.identity if found.mesh_tls else "",
        mesh_tls=found.mesh_tls and not plain,
        weight=found.weight or 1,
        locality=found.locality,
        network=found.network,
        cluster=cluster,
        workload=found.owner,
        node=found.node,
    )


def _number(found: Workload, port: ServicePort) -> int:
    """The workload's own number for a service port: by the port's name, by its target's name, else the target."""
    own = dict(found.ports)
    return own.get(port.name) or own.get(str(port.target)) or _target(port)


def _from_slices(db: Engine, key: ObjectKey, port: ServicePort) -> Iterator[Endpoint]:
    for each in slices_of(db, (key.namespace, key.name)):
        yield from slice_endpoints(db, each, port.name)


@query
def slice_endpoints(db: Engine, key: ObjectKey, port_name: str) -> tuple[Endpoint, ...]:
    """What one EndpointSlice says of one port."""
    value = objects(db, key)
    if not isinstance(value, EndpointSlice) or value.address_type == "FQDN":
        return ()
    number = next((port.port for port in value.ports if port.name == port_name), None)
    if number is None:
        return ()
    found = (_from_slice(db, key, each, number) for each in value.endpoints)
    return tuple(endpoint for endpoint in found if endpoint is not None)


def _from_slice(db: Engine, key: ObjectKey, each: SliceEndpoint, port: int) -> Endpoint | None:
    conditions = each.conditions
    ready = conditions.ready is not False
    draining = bool(conditions.terminating) and conditions.serving is not False
    if not each.addresses or not (ready or draining):
        return None
    health = Health.DRAINING if draining else Health.HEALTHY
    target = each.target_ref
    pod = (
        workload(db, ObjectKey(key.cluster, "Pod", target.namespace or key.namespace, target.name))
        if target and target.kind == "Pod"
        else None
    )
    if pod is None:
        return Endpoint(
            (each.addresses[0],),
            port,
            key.namespace,
            health=health,
            locality=node_locality(db, key.cluster, each.node_name) if each.node_name else "",
            cluster=key.cluster,
            node=each.node_name or "",
            hostname=each.hostname or "",
        )
    takes_tls = pod.mesh_tls and peer_mode_of(db, pod.namespace, pod.labels).of_port(port) is not MutualTls.DISABLE
    return Endpoint(
        # A slice holds one family, and the pod knows both: the two slices of a dual-stack service name one place.
        addresses=pod.addresses if each.addresses[0] in pod.addresses else (each.addresses[0],),
        port=port,
        namespace=pod.namespace,
        labels=pod.labels,
        identity=pod.identity if pod.mesh_tls else "",
        mesh_tls=takes_tls,
        health=health,
        locality=pod.locality,
        cluster=key.cluster,
        workload=pod.owner,
        node=pod.node,
        hostname=each.hostname or "",
    )


def _target(port: ServicePort) -> int:
    return port.target if isinstance(port.target, int) and port.target else port.number
