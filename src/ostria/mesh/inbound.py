"""What a workload's own proxy takes in: the ports that services send to it, and who is let in on each.

    Service.selector, PeerAuthentication -> inbound(namespace, labels)

The answer depends on the workload's labels alone, so that the pods of one Deployment share it.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.endpoints import slices_of
from ostria.mesh.model import Inbound, InboundPort, Labels, Protocol, Service, ServicePort
from ostria.mesh.security import peer_labels, peer_mode_of
from ostria.mesh.services import age, in_namespace, services_of
from ostria.mesh.sidecar_ingress import governed, localized
from ostria.mesh.traits import ClientTraits, ProxyType, Scope
from ostria.resources import objects
from ostria.resources.kubernetes import EndpointSlice


@query
def selecting(db: Engine, namespace: str) -> tuple[Service, ...]:
    """The services of a namespace that select workloads, the oldest first."""
    keys = sorted(in_namespace(db, namespace), key=lambda key: (age(db, key), key))
    return tuple(found for key in keys for found in services_of(db, key) if found.selector)


@query
def selected_labels(db: Engine, namespace: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which services of a namespace choose workloads."""
    return frozenset(pair for found in selecting(db, namespace) for pair in found.selector)


@query
def inbound_scope(db: Engine, namespace: str) -> Scope:
    """What tells the workloads of one namespace apart on their inbound side."""
    labels = selected_labels(db, namespace) | peer_labels(db, namespace)
    return Scope(proxy_type=True, namespaces=frozenset({namespace}), labels=labels)


@query
def inbound(db: Engine, namespace: str, labels: Labels) -> Inbound:
    """The inbound side of the workloads with these labels."""
    peers = peer_mode_of(db, namespace, labels)
    workload = ClientTraits(ProxyType.SIDECAR, namespace, labels)
    behind: dict[int, list[tuple[Service, ServicePort]]] = {}
    for found in selecting(db, namespace):
        if workload.has_labels(found.selector):
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
    labels = inbound_scope(db, client.namespace).project(client).labels
    side = inbound(db, client.namespace, labels)
    if client.sidecar is not None:
        side = governed(db, side, client.sidecar, client.namespace, labels, client.addresses)
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
