"""What a proxy can call, listed: the clusters that its view of the services comes to (`listeners` has the places).

    service, destination -> clusters_of(host) -> the same for a namespace -> for a client

Lists are made namespace by namespace and joined; a change within one service leaves all other lists alone.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination, destination_labels, destination_scope
from ostria.mesh.model import ClusterRef, Egress, Protocol
from ostria.mesh.services import hosts_in, service, service_namespaces, service_scope
from ostria.mesh.sidecars import called_by_rules, egress_of, known_hosts, outbound_policy
from ostria.mesh.traits import ClientTraits, Scope


@query
def client_scope(db: Engine, host: str) -> Scope:
    """What tells clients apart that may have other clusters of a host than the rest."""
    namespaces = service_scope(db, host) | destination_scope(db, host)
    return Scope(namespaces=namespaces, labels=destination_labels(db, host))


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
