"""The endpoints of a cluster, by the cluster's name."""

from __future__ import annotations

from ostria.engine import Engine, query
from ostria.envoy.endpoints import load_assignment
from ostria.envoy.fragments import Fragment, fragment
from ostria.mesh.destinations import destination
from ostria.mesh.endpoints import called
from ostria.mesh.model import ClusterRef
from ostria.mesh.outbound import client_scope
from ostria.mesh.services import is_on_node, service
from ostria.mesh.traits import ClientTraits, Scope


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one cluster's endpoints."""
    ref = ClusterRef.parse(name)
    return Scope(namespaces=client_scope(db, ref.host), node=is_on_node(db, ref.host)) if ref else Scope()


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """The endpoints of one cluster, as far as the client has it."""
    ref = ClusterRef.parse(name)
    return _assignment(db, ref, client.namespace, client.node) if ref else None


@query
def _assignment(db: Engine, ref: ClusterRef, namespace: str, node: str) -> Fragment | None:
    found = service(db, ref.host, namespace)
    known = destination(db, ref.host, namespace)
    subset = known.subset(ref.subset)
    if found is None or found.port(ref.port) is None or (ref.subset and subset is None):
        return None
    chosen = tuple(
        endpoint
        for endpoint in called(db, ref, namespace)
        if (subset is None or all(pair in endpoint.labels for pair in subset.labels))
        and (endpoint.node == node or not found.on_node)
    )
    return fragment(ref.name, load_assignment(ref.name, chosen), known.origins | found.origins)
