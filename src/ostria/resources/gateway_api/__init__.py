"""The Gateway API's kinds, all their versions read as one: https://gateway-api.sigs.k8s.io/reference/spec/.

Fields have the API's own names and defaults; what its CRDs limit by a schema is limited here by the types, and what
they limit by patterns and CEL in `validation`. A type's class carries the kind's own name, so Istio's Gateway and this
one are two classes of one name in two modules.
"""

from ostria.resources.gateway_api.connection_routes import TCPRoute, TLSRoute
from ostria.resources.gateway_api.gateways import Gateway, GatewayClass, ListenerSet
from ostria.resources.gateway_api.grpc_route import GRPCRoute
from ostria.resources.gateway_api.http_route import HTTPRoute
from ostria.resources.gateway_api.policies import BackendTLSPolicy, ReferenceGrant

GROUP = "gateway.networking.k8s.io"

GATEWAY = f"{GROUP}/Gateway"
"""The kind's name in the table of kinds, where "Gateway" is Istio's."""

__all__ = [
    "GATEWAY",
    "GROUP",
    "BackendTLSPolicy",
    "GRPCRoute",
    "Gateway",
    "GatewayClass",
    "HTTPRoute",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
]
