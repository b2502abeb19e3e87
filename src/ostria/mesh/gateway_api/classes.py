"""Which Gateways are this mesh's, and what for: https://gateway-api.sigs.k8s.io/api-types/gatewayclass/.

A class that nobody has made is there all the same under Istio's names for it.
"""

from __future__ import annotations

import enum

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.gateway_api.declared import gateway_spec, key_of
from ostria.resources import gateway_api as api
from ostria.resources import objects


class Role(enum.Enum):
    """What a Gateway of a class is to the mesh, by the controller that the class names."""

    GATEWAY = "istio.io/gateway-controller"
    """Proxies of this mesh take traffic in."""
    REMOTE = "istio.io/unmanaged-gateway"
    """A gateway of another mesh, told of here so that it can be called."""
    WAYPOINT = "istio.io/mesh-controller"
    """A proxy for services of a mesh without sidecars; no such mesh is built here, and its status says what is so."""
    EAST_WEST = "istio.io/eastwest-controller"


CONTROLLER = Role.GATEWAY.value
"""Who reports on Gateways and routes."""
MESH_CONTROLLER = Role.WAYPOINT.value
"""Who reports on what is for calls inside the mesh."""

BUILT_IN = {
    "istio": Role.GATEWAY,
    "istio-remote": Role.REMOTE,
    "istio-waypoint": Role.WAYPOINT,
    "istio-east-west": Role.EAST_WEST,
}
_ROLES = {role.value: role for role in Role}


@query
def role_of_class(db: Engine, name: str) -> Role | None:
    """What Gateways of a class are to the mesh; None where they are somebody else's."""
    value = objects(db, key_of(db, "GatewayClass", "", name))
    if isinstance(value, api.GatewayClass):
        return _ROLES.get(value.spec.controller_name)
    return BUILT_IN.get(name)


def role_of(db: Engine, gateway: ObjectKey) -> Role | None:
    """What one Gateway is to the mesh; None where it is somebody else's, or not there."""
    spec = gateway_spec(db, gateway)
    return role_of_class(db, spec.gateway_class_name) if spec else None
