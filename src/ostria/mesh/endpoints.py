"""Where a service port is served: EndpointSlices and ServiceEntries, joined with what stands behind the address.

EndpointSlice, ServiceEntry, workload, peer mode -> endpoints(host, namespace, port)
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.model import ClusterRef, Endpoint, Health, MutualTls, Resolution, Service, ServicePort
from ostria.mesh.security import peer_mode_of
from ostria.mesh.services import service
from ostria.mesh.settings import settings, trust_domain
from ostria.mesh.workloads import spiffe_id, workload
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Endpoint as SliceEndpoint
from ostria.resources.kubernetes import EndpointSlice
from ostria.resources.kubernetes import Service as KubernetesService
from ostria.resources.service_entry import ServiceEntry, WorkloadEntrySpec

SERVICE_NAME = "kubernetes.io/service-name"


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
    distinct = set(_from_object(db, found, described))
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


def _from_object(db: Engine, found: Service, port: ServicePort) -> Iterator[Endpoint]:
    value = objects(db, found.origin)
    if isinstance(value, KubernetesService):
        if found.resolution is Resolution.DNS:
            yield Endpoint((value.spec.external_name,), port.number, found.namespace)
        else:
            for key in slices_of(db, (found.namespace, found.name)):
                yield from slice_endpoints(db, key, port.name)
    elif isinstance(value, ServiceEntry):
        declared = value.spec.endpoints
        for entry in declared:
            yield _from_entry(db, found, port, entry)
        if not declared and found.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
            yield Endpoint((found.host,), _target(port), found.namespace)


@query
def slice_endpoints(db: Engine, key: ObjectKey, port_name: str) -> tuple[Endpoint, ...]:
    """What one EndpointSlice says of one port."""
    value = objects(db, key)
    if not isinstance(value, EndpointSlice):
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
        return Endpoint((each.addresses[0],), port, key.namespace, health=health, cluster=key.cluster)
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
    )


def _from_entry(db: Engine, found: Service, port: ServicePort, entry: WorkloadEntrySpec) -> Endpoint:
    labels = tuple(sorted(entry.labels.items()))
    account = entry.service_account
    mesh_tls = not found.external and dict(labels).get("security.istio.io/tlsMode") == "istio"
    return Endpoint(
        addresses=(entry.address,),
        port=entry.ports.get(port.name) or _target(port),
        namespace=found.namespace,
        labels=labels,
        identity=spiffe_id(trust_domain(db), found.namespace, account) if account else "",
        mesh_tls=mesh_tls,
        weight=entry.weight or 1,
        locality=entry.locality,
        network=entry.network,
        cluster=settings(db).cluster,
    )


def _target(port: ServicePort) -> int:
    return port.target if isinstance(port.target, int) and port.target else port.number
