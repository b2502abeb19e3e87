"""What a workload's own proxy takes in: the ports that services send to it, and who is let in on each.

    Service.selector, PeerAuthentication -> inbound(namespace, labels, serving)

The answer depends on the workload's labels, so that the pods of one Deployment share it; and on `serving`, the few
objects that name a workload's address themselves instead of selecting it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.base.hosts import is_ip
from ostria.engine import Engine, Index, query
from ostria.mesh.endpoints import SERVICE_NAME, slices_of
from ostria.mesh.model import Inbound, InboundPort, Labels, Protocol, Service, ServicePort
from ostria.mesh.security import peer_labels, peer_mode_of
from ostria.mesh.services import age, in_namespace, services_of
from ostria.mesh.sidecar_ingress import governed, localized
from ostria.mesh.traits import ClientTraits, Scope
from ostria.mesh.workloads import workload
from ostria.resources import Object, objects
from ostria.resources.kubernetes import EndpointSlice
from ostria.resources.service_entry import ServiceEntry

MANAGED_BY, CONTROLLER = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"


def _named(key: ObjectKey, value: Object) -> Iterator[str]:
    """The addresses that an object itself names as endpoints, instead of selecting workloads."""
    if isinstance(value, ServiceEntry) and value.spec.resolution != "NONE":
        yield from {endpoint.address for endpoint in value.spec.endpoints if is_ip(endpoint.address)}
    elif isinstance(value, EndpointSlice) and value.metadata.labels.get(SERVICE_NAME):
        # What Kubernetes' own controller writes, it has read from a selector.
        by_hand = value.metadata.labels.get(MANAGED_BY) != CONTROLLER
        yield from {address for each in value.endpoints for address in each.addresses if by_hand}


naming = Index("mesh.inbound.naming", objects, _named)


@query
def serving(db: Engine, pod: ObjectKey) -> tuple[ObjectKey, ...]:
    """The ServiceEntries and EndpointSlices of a pod's namespace that name its address, sorted.

    Those of other namespaces do not count: nobody serves on another's workloads (as Istio).
    """
    found = workload(db, pod)
    keys = {key for address in (found.addresses if found else ()) for key in naming(db, address)}
    return tuple(sorted(key for key in keys if key.namespace == pod.namespace and not _selects(db, key)))


@query
def _selects(db: Engine, key: ObjectKey) -> bool:
    """Whether a service chooses its workloads by their labels anyway."""
    return any(found.selector for found in _served(db, key))


@query
def _served(db: Engine, key: ObjectKey) -> tuple[Service, ...]:
    """The services of one object that names addresses; an EndpointSlice's is the one that it belongs to."""
    if key.kind == "ServiceEntry":
        return services_of(db, key)
    value = objects(db, key)
    name = value.metadata.labels.get(SERVICE_NAME, "") if value else ""
    return services_of(db, ObjectKey(key.cluster, "Service", key.namespace, name))


@query
def selecting(db: Engine, namespace: str) -> tuple[Service, ...]:
    """The services of a namespace that select workloads, the oldest first."""
    keys = sorted(in_namespace(db, namespace), key=lambda key: (age(db, key), key))
    return tuple(found for key in keys for found in services_of(db, key) if found.selector)


@query
def own_services(
    db: Engine, namespace: str, labels: Labels, serving: tuple[ObjectKey, ...] = ()
) -> tuple[Service, ...]:
    """The services that lead to the workloads with these labels, whose address these objects name."""
    workload = ClientTraits(namespace=namespace, labels=labels)
    chosen = [found for found in selecting(db, namespace) if workload.has_labels(found.selector)]
    named = [found for key in serving for found in _served(db, key)]
    return (*chosen, *(each for each in named if each not in chosen))


@query
def selected_labels(db: Engine, namespace: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which services of a namespace choose workloads."""
    return frozenset(pair for found in selecting(db, namespace) for pair in found.selector)


@query
def inbound_scope(db: Engine, namespace: str) -> Scope:
    """What tells the workloads of one namespace apart on their inbound side."""
    labels = selected_labels(db, namespace) | peer_labels(db, namespace)
    return Scope(proxy_type=True, namespaces=frozenset({namespace}), labels=labels, serving=True)


@query
def inbound(db: Engine, namespace: str, labels: Labels, serving: tuple[ObjectKey, ...] = ()) -> Inbound:
    """The inbound side of the workloads with these labels, whose address these objects name."""
    peers = peer_mode_of(db, namespace, labels)
    behind: dict[int, list[tuple[Service, ServicePort]]] = {}
    for found in own_services(db, namespace, labels, serving):
        for port in found.ports:
            number = target_number(db, found, port)
            if number and port.protocol is not Protocol.UDP:
                behind.setdefault(number, []).append((found, port))
    ports = tuple(
        InboundPort(
            port=number,
            # Services that share a target port and do not agree leave it to the first bytes.
            protocol=_agreed({port.protocol for _, port in sources}),
            mutual_tls=peers.of_port(number),
            services=tuple((found.host, found.namespace, port.number) for found, port in sources),
        )
        for number, sources in sorted(behind.items())
    )
    served = {port.port for port in ports}
    origins = {found.origin for sources in behind.values() for found, _ in sources}
    return Inbound(
        ports=ports,
        default=peers.default,
        origins=frozenset(origins) | peers.origins,
        ports_tls=tuple((port, mode) for port, mode in peers.ports if port not in served),
    )


def inbound_of(db: Engine, client: ClientTraits) -> Inbound:
    """The inbound side of a sidecar, shared by all whose workloads nothing tells apart."""
    seen = inbound_scope(db, client.namespace).project(client)
    side = inbound(db, client.namespace, seen.labels, seen.serving)
    if client.sidecar is not None:
        side = governed(db, side, client.sidecar, client.namespace, seen.labels, client.addresses)
    return localized(db, side)


def _agreed(protocols: set[Protocol]) -> Protocol:
    return protocols.pop() if len(protocols) == 1 else Protocol.AUTO


@query
def target_number(db: Engine, found: Service, port: ServicePort) -> int:
    """The number that a service port leads to; 0 for a name that no endpoint has resolved yet."""
    if isinstance(port.target, int):
        return port.target or port.number
    return next(
        (number for key in slices_of(db, (found.namespace, found.name)) if (number := slice_port(db, key, port.name))),
        0,
    )


@query
def slice_port(db: Engine, key: ObjectKey, name: str) -> int:
    """The number under which one EndpointSlice serves a named service port, 0 where it does not."""
    value = objects(db, key)
    ports = value.ports if isinstance(value, EndpointSlice) else ()
    return next((port.port or 0 for port in ports if port.name == name), 0)
