"""What a proxy can call, listed: the clusters and the listeners that its view of the services comes to.

    service, destination -> clusters_of(host), listeners_of(host) -> the same for a namespace -> for a client

Lists are made namespace by namespace and joined; a change within one service leaves all other lists alone.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.engine import Engine, query
from ostria.mesh.destinations import destination, destination_scope
from ostria.mesh.model import ClusterRef, Protocol, Resolution, Service, ServicePort
from ostria.mesh.routes import PORT_OF_UNDECLARED, at_address, undeclared_hosts
from ostria.mesh.services import hosts_in, is_visible, service, service_namespaces, service_scope, services_of
from ostria.mesh.traits import Scope


class Place(NamedTuple):
    """An address and port that outgoing connections are caught for; address "" is every address."""

    address: str
    port: int


@query
def client_scope(db: Engine, host: str) -> frozenset[str]:
    """The client namespaces that may see other clusters of a host than the rest."""
    return service_scope(db, host) | destination_scope(db, host)


def _as_seen(namespaces: frozenset[str], namespace: str) -> str:
    return namespace if namespace in namespaces else ""


@query
def clusters_of(db: Engine, host: str, namespace: str) -> tuple[ClusterRef, ...]:
    """The clusters of one host for a client in `namespace`: each port, whole and in subsets."""
    found = service(db, host, namespace)
    if found is None:
        return ()
    subsets = ("", *(subset.name for subset in destination(db, host, namespace).subsets))
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
def client_scope_in(db: Engine, services_in: str) -> frozenset[str]:
    """The client namespaces that may see other clusters of a namespace's hosts than the rest."""
    return frozenset().union(*(client_scope(db, host) for host in hosts_in(db, services_in)))


@query
def _clusters_in(db: Engine, services_in: str, namespace: str) -> tuple[ClusterRef, ...]:
    seen = ((host, _as_seen(client_scope(db, host), namespace)) for host in hosts_in(db, services_in))
    return tuple(cluster for host, client in seen for cluster in clusters_of(db, host, client))


@query
def _listeners_in(db: Engine, services_in: str, namespace: str) -> tuple[Place, ...]:
    seen = ((host, _as_seen(service_scope(db, host), namespace)) for host in hosts_in(db, services_in))
    return tuple(sorted({place for host, client in seen for place in listeners_of(db, host, client)}))


@query
def outbound_scope(db: Engine) -> Scope:
    """What tells clients apart in the whole of what they can call."""
    return Scope(namespaces=frozenset().union(*(client_scope_in(db, each) for each in service_namespaces(db))))


@query
def outbound_clusters(db: Engine, namespace: str) -> tuple[ClusterRef, ...]:
    """Every cluster that a client in `namespace` can send to. Ask with a namespace projected on `outbound_scope`."""
    found: list[ClusterRef] = []
    for each in service_namespaces(db):
        found.extend(_clusters_in(db, each, _as_seen(client_scope_in(db, each), namespace)))
    return tuple(found)


@query
def outbound_places(db: Engine, namespace: str) -> tuple[Place, ...]:
    """Everywhere that connections of a client in `namespace` are caught, sorted."""
    found: set[Place] = set()
    for each in service_namespaces(db):
        found.update(_listeners_in(db, each, _as_seen(client_scope_in(db, each), namespace)))
    if undeclared_hosts(db):
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
