"""What a proxy can call, listed: the clusters and the listeners that its view of the services comes to.

    service, destination -> clusters_of(host), listeners_of(host) -> the same for a namespace -> for a client

Lists are made namespace by namespace and joined; a change within one service leaves all other lists alone.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination, destination_labels, destination_scope
from ostria.mesh.model import ClusterRef, Egress, Protocol, Resolution, Service, ServicePort
from ostria.mesh.routes import PORT_OF_UNDECLARED, undeclared, undeclared_hosts
from ostria.mesh.services import (
    at_address,
    hosts_in,
    is_visible,
    service,
    service_namespaces,
    service_scope,
    services_of,
)
from ostria.mesh.sidecars import called_by_rules, egress_for, egress_of, known_hosts, known_rules, outbound_policy
from ostria.mesh.traits import ClientTraits, Scope


class Place(NamedTuple):
    """An address and port that outgoing connections are caught for; address "" is every address."""

    address: str
    port: int


@query
def client_scope(db: Engine, host: str) -> Scope:
    """What tells clients apart that may have other clusters of a host than the rest."""
    namespaces = service_scope(db, host) | destination_scope(db, host)
    return Scope(namespaces=namespaces, labels=destination_labels(db, host))


def _as_seen(namespaces: frozenset[str], namespace: str) -> str:
    return namespace if namespace in namespaces else ""


@query
def clusters_of(db: Engine, host: str, client: ClientTraits) -> tuple[ClusterRef, ...]:
    """The clusters of one host for a client: each port, whole and in subsets. Ask as projected on `client_scope`."""
    found = service(db, host, client.namespace)
    if found is None:
        return ()
    subsets = ("", *(subset.name for subset in destination(db, host, client.namespace, client.labels).subsets))
    ports = [port.number for port in found.ports if port.protocol is not Protocol.UDP]
    return tuple(ClusterRef(host, port, subset) for port in ports for subset in subsets)


@query
def listeners_of(db: Engine, host: str, namespace: str) -> tuple[Place, ...]:
    """Where connections to one host are caught: HTTP on every address, the rest on the host's own."""
    found = service(db, host, namespace)
    if found is None:
        return ()
    places: dict[Place, None] = {}
    for port in found.ports:
        if port.protocol.is_http or (port.protocol is Protocol.AUTO and not found.addresses):
            places[Place("", port.number)] = None
        elif port.protocol is not Protocol.UDP:
            places |= {Place(address, port.number): None for address in found.addresses if "/" not in address}
    return tuple(places)


@query
def client_scope_in(db: Engine, services_in: str) -> Scope:
    """What tells clients apart that may have other clusters of a namespace's hosts than the rest."""
    scope = Scope()
    for host in hosts_in(db, services_in):
        scope |= client_scope(db, host)
    return scope


@query
def _clusters_in(db: Engine, services_in: str, client: ClientTraits) -> tuple[ClusterRef, ...]:
    return tuple(cluster for host in hosts_in(db, services_in) for cluster in _clusters(db, host, client))


def _clusters(db: Engine, host: str, client: ClientTraits) -> tuple[ClusterRef, ...]:
    return clusters_of(db, host, client_scope(db, host).project(client))


@query
def _listeners_in(db: Engine, services_in: str, namespace: str) -> tuple[Place, ...]:
    seen = ((host, _as_seen(service_scope(db, host), namespace)) for host in hosts_in(db, services_in))
    return tuple(sorted({place for host, client in seen for place in listeners_of(db, host, client)}))


@query
def outbound_scope(db: Engine) -> Scope:
    """What tells clients apart in the whole of what they can call."""
    scope = Scope(sidecar=True)
    for each in service_namespaces(db):
        scope |= client_scope_in(db, each)
    return scope


@query
def outbound_clusters(db: Engine, client: ClientTraits) -> tuple[ClusterRef, ...]:
    """Every cluster that a client can send to. Ask as projected on `outbound_scope`."""
    if client.sidecar is not None:
        return _known_clusters(db, client, client.sidecar)
    found: list[ClusterRef] = []
    for each in service_namespaces(db):
        found.extend(_clusters_in(db, each, client_scope_in(db, each).project(client)))
    return tuple(found)


@query
def outbound_places(db: Engine, namespace: str, sidecar: ObjectKey | None = None) -> tuple[Place, ...]:
    """Everywhere that connections of a client in `namespace` are caught, sorted."""
    if sidecar is not None:
        return _known_places(db, namespace, sidecar)
    found: set[Place] = set()
    for each in service_namespaces(db):
        seen = client_scope_in(db, each).project(ClientTraits(namespace=namespace))
        found.update(_listeners_in(db, each, seen.namespace))
    if undeclared_hosts(db):
        found.add(Place("", PORT_OF_UNDECLARED))
    return tuple(sorted(found))


# --- what a Sidecar leaves of that ------------------------------------------------------------------------------


@query
def _clusters_by(db: Engine, egress: Egress, client: ClientTraits) -> tuple[ClusterRef, ...]:
    """The clusters of what one listener imports, on its own port if it has one."""
    clusters = (cluster for host in sorted(known_hosts(db, egress)) for cluster in _clusters(db, host, client))
    any_port = egress.proxied or not egress.port
    return tuple(cluster for cluster in clusters if any_port or cluster.port == egress.port)


@query
def _clusters_by_rules(db: Engine, egress: Egress, client: ClientTraits) -> tuple[ClusterRef, ...]:
    """The clusters that imported VirtualServices send to."""
    return tuple(
        cluster
        for host, port in sorted(called_by_rules(db, egress))
        for cluster in _clusters(db, host, client)
        if port in (0, cluster.port)
    )


@query
def _known_clusters(db: Engine, client: ClientTraits, sidecar: ObjectKey) -> tuple[ClusterRef, ...]:
    found: dict[ClusterRef, None] = {}
    for egress in egress_of(db, sidecar, client.namespace):
        found |= dict.fromkeys(_clusters_by(db, egress, client))
        found |= dict.fromkeys(_clusters_by_rules(db, egress, client))
    proxy = outbound_policy(db, sidecar, client.namespace).proxy
    if isinstance(proxy, ClusterRef):
        found[proxy] = None
    return tuple(found)


@query
def _places_by(db: Engine, egress: Egress, namespace: str) -> tuple[Place, ...]:
    return tuple(
        place
        for host in sorted(known_hosts(db, egress))
        for place in listeners_of(db, host, _as_seen(service_scope(db, host), namespace))
    )


@query
def _known_places(db: Engine, namespace: str, sidecar: ObjectKey) -> tuple[Place, ...]:
    found: set[Place] = set()
    for egress in egress_of(db, sidecar, namespace):
        for place in _places_by(db, egress, namespace):
            if egress_for(db, sidecar, namespace, place.port) == egress:
                found.add(place)
        if egress.takes_the_rest and any(undeclared(db, key) for key in known_rules(db, egress)):
            found.add(Place("", PORT_OF_UNDECLARED))
    return tuple(sorted(found))


class Caught(NamedTuple):
    """Whom a connection to one address and port is for."""

    service: Service
    port: ServicePort


@query
def caught_at(db: Engine, address: str, port: int, namespace: str) -> Caught | None:
    """The service that a client in `namespace` reaches at a virtual IP and port; Kubernetes' own goes first."""
    keys = sorted(at_address(db, address), key=lambda key: (key.kind != "Service", key))
    for key in keys:
        for found in services_of(db, key):
            described = found.port(port)
            if described is not None and is_visible(found.visible_in, namespace):
                return Caught(found, described)
    return None


@query
def caught_scope(db: Engine, address: str) -> frozenset[str]:
    """The client namespaces that may reach another service at a virtual IP than the rest."""
    found = [each for key in at_address(db, address) for each in services_of(db, key)]
    if all("*" in each.visible_in for each in found):
        return frozenset()
    return frozenset().union(*(each.visible_in - {"*"} for each in found))


@query
def sniffs(db: Engine, port: int) -> bool:
    """Whether a port that is caught on every address also has services whose protocol is to be found out."""
    return any(_sniffs_in(db, each, port) for each in service_namespaces(db))


@query
def _sniffs_in(db: Engine, services_in: str, port: int) -> bool:
    for host in hosts_in(db, services_in):
        found = service(db, host, services_in)
        described = found.port(port) if found else None
        if found and described and described.protocol is Protocol.AUTO and found.resolution is Resolution.ORIGINAL:
            return True
    return False
