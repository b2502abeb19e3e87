"""The readers of the Gateway API: what its Gateways serve, which routes are theirs, and what was wrong with either.

    Gateway, ListenerSet -> listeners (certificates, conflicts) -> servers
    a route's parentRefs -> parents (which listeners took it, and why the others did not)
    its rules            -> http_rules, connections -> the same routes that every other reader yields

A verdict is a value like any other: statuses are written from what was decided here, and nothing decides it again.
What the API leaves open is as in Istio: https://istio.io/latest/docs/tasks/traffic-management/ingress/gateway-api/.
"""

from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.mesh.gateway_api import connections, http_rules
from ostria.mesh.gateway_api.addresses import (
    Assigned,
    assigned,
    deployed_name,
    is_managed,
    refused_addresses,
    services_behind,
)
from ostria.mesh.gateway_api.classes import BUILT_IN, CONTROLLER, MESH_CONTROLLER, Role, role_of, role_of_class
from ostria.mesh.gateway_api.declared import ROUTE_KINDS, ROUTES, gateway_spec, key_of
from ostria.mesh.gateway_api.gateways import backend_certificate, parameters_fault
from ostria.mesh.gateway_api.listeners import (
    Listener,
    allows_namespace,
    listener_sets,
    listeners_in,
    listeners_of,
    parent_of_set,
    refusal_of_set,
)
from ostria.mesh.gateway_api.mesh_routes import mesh_connections, mesh_routes, mesh_scope
from ostria.mesh.gateway_api.parents import Attachment, Parent, attached, gateways_calling, hosts_at, parents_of
from ostria.mesh.gateway_api.reader import READER
from ostria.mesh.model import Verdict


def route_fault(db: Engine, key: ObjectKey, gateway: str) -> Verdict | None:
    """What is wrong with what a route of any kind refers to, at gateways ("") or in the mesh ("mesh")."""
    if key.kind in ("HTTPRoute", "GRPCRoute"):
        return http_rules.fault(db, key, gateway)
    return connections.connection_fault(db, key, gateway)


__all__ = [
    "BUILT_IN",
    "CONTROLLER",
    "MESH_CONTROLLER",
    "READER",
    "ROUTES",
    "ROUTE_KINDS",
    "Assigned",
    "Attachment",
    "Listener",
    "Parent",
    "Role",
    "Verdict",
    "allows_namespace",
    "assigned",
    "attached",
    "backend_certificate",
    "deployed_name",
    "gateway_spec",
    "gateways_calling",
    "hosts_at",
    "is_managed",
    "key_of",
    "listener_sets",
    "listeners_in",
    "listeners_of",
    "mesh_connections",
    "mesh_routes",
    "mesh_scope",
    "parameters_fault",
    "parent_of_set",
    "parents_of",
    "refusal_of_set",
    "refused_addresses",
    "role_of",
    "role_of_class",
    "route_fault",
    "services_behind",
]
