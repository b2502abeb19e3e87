"""GatewayClasses: those that somebody names and nobody has made, and the status of those that are this mesh's."""

from __future__ import annotations

import msgspec

from ostria.base import ObjectKey
from ostria.controllers.gateway_api.conditions import Condition, merged, status_patch
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.mesh.gateway_api import BUILT_IN, gateway_spec, role_of_class
from ostria.mesh.settings import settings
from ostria.resources import KINDS, by_kind, objects
from ostria.resources import gateway_api as api

DESCRIPTIONS = {
    "istio": "The default Istio GatewayClass",
    "istio-remote": "Remote to this cluster. Does not deploy or affect configuration.",
}

# https://github.com/kubernetes-sigs/gateway-api/tree/main/pkg/features: what is acted on, by the API's names for it.
SUPPORTED_FEATURES = (
    "BackendTLSPolicy",
    "GRPCRoute",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayInfrastructurePropagation",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
)


@query
def class_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs of the GatewayClasses."""
    found = [write for key in by_kind(db, "GatewayClass") for write in _status(db, key)]
    named = {_class_of(db, key) for key in by_kind(db, api.GATEWAY)}
    missing = sorted(named.intersection(DESCRIPTIONS) - {key.name for key in by_kind(db, "GatewayClass")})
    return (*found, *(_made(db, name) for name in missing))


@query
def _class_of(db: Engine, key: ObjectKey) -> str:
    spec = gateway_spec(db, key)
    return spec.gateway_class_name if spec else ""


def _made(db: Engine, name: str) -> DesiredWrite:
    document = {
        "apiVersion": KINDS["GatewayClass"].api_version,
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": BUILT_IN[name].value, "description": DESCRIPTIONS[name]},
    }
    key = ObjectKey(settings(db).cluster, "GatewayClass", "", name)
    return DesiredWrite(key, msgspec.json.encode(document), create=True)


@query
def _status(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value = objects(db, key)
    if not isinstance(value, api.GatewayClass) or role_of_class(db, key.name) is None:
        return ()
    handled = Condition("Accepted", "Accepted", "Handled by Istio controller")
    wanted = {
        "conditions": merged(value.status.get("conditions"), [handled], value.metadata.generation),
        "supportedFeatures": [{"name": name} for name in SUPPORTED_FEATURES],
    }
    return tuple(status_patch(key, value.status, wanted))
