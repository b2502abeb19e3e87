"""The endpoints of a cluster, by the cluster's name."""

from __future__ import annotations

from ostria.base.hosts import is_dns_name, is_ip
from ostria.engine import Engine, query
from ostria.envoy.endpoints import assignment
from ostria.envoy.fragments import Fragment, fragment
from ostria.mesh.destinations import destination, destination_told_apart, locality_policy
from ostria.mesh.endpoints import called
from ostria.mesh.localities import arranged
from ostria.mesh.model import ClusterRef
from ostria.mesh.outbound import client_scope
from ostria.mesh.services import is_on_node, service
from ostria.mesh.traits import ClientTraits, Scope


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one cluster's endpoints."""
    ref = ClusterRef.parse(name)
    if ref is None:
        return Scope()
    return client_scope(db, ref.host) | destination_told_apart(db, ref.host) | Scope(node=is_on_node(db, ref.host))


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """The endpoints of one cluster, as far as the client has it."""
    ref = ClusterRef.parse(name)
    return _assignment(db, ref, client) if ref else None


@query
def _assignment(db: Engine, ref: ClusterRef, client: ClientTraits) -> Fragment | None:
    found = service(db, ref.host, client.namespace)
    known = destination(db, ref.host, client.namespace, client.labels)
    subset = known.subset(ref.subset)
    if found is None or found.port(ref.port) is None or (ref.subset and subset is None):
        return None
    chosen = tuple(
        endpoint
        for endpoint in called(db, ref, client.namespace)
        if (subset is None or all(pair in endpoint.labels for pair in subset.labels))
        and (endpoint.node == client.node or not found.on_node)
        and not any(_is_name(address) for address in endpoint.addresses)
    )
    locality = locality_policy(db, ref.host, client.namespace, ref.port, ref.subset, client.labels)
    groups = arranged(chosen, locality, client.locality, client.labels, client.node)
    return fragment(ref.name, assignment(ref.name, groups), known.origins | found.origins)


def _is_name(address: str) -> bool:
    """Whether an address is a host name, which Envoy takes in no endpoint that it is sent and refuses the rest with."""
    return is_dns_name(address) and not is_ip(address)
