"""The mesh's own vocabulary: services, endpoints, destinations and routes, as frozen values.

Everything that an API says is read into these words by the readers of this room; everything below (envoy/) and
beside (analysis/) speaks only them. They know neither Kubernetes' JSON nor Envoy's messages, and no reader's
name survives in them: a route looks the same whether a VirtualService, an HTTPRoute or an Ingress asked for it.

Durations are milliseconds; percentages are 0.0 to 100.0; hosts are fully qualified and lower case.
"""

from ostria.mesh.model.connections import ConnectionRoute
from ostria.mesh.model.destinations import (
    ClientTls,
    ConnectionPool,
    Destination,
    HashKey,
    LoadBalancing,
    OutlierDetection,
    Subset,
    TlsMode,
    TrafficPolicy,
)
from ostria.mesh.model.gateways import (
    GatewayChain,
    GatewayListener,
    GatewayPort,
    GatewaySelection,
    GatewayServer,
    GatewayTls,
    HostRoutes,
    ServerTls,
)
from ostria.mesh.model.inbound import (
    Inbound,
    InboundPort,
    MutualTls,
)
from ostria.mesh.model.routes import (
    Abort,
    ClusterRef,
    Cors,
    Delay,
    DirectResponse,
    HeaderChanges,
    Headers,
    MatchKind,
    Mirror,
    MissingDestination,
    NamedMatch,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
    Route,
    StringMatch,
    VirtualHost,
    WeightedTarget,
)
from ostria.mesh.model.services import (
    Endpoint,
    Health,
    Labels,
    Protocol,
    Resolution,
    Service,
    ServicePort,
)
from ostria.mesh.model.sidecars import (
    EVERYTHING,
    Egress,
    Import,
    OutboundMode,
    OutboundPolicy,
)

__all__ = [
    "EVERYTHING",
    "Abort",
    "ClientTls",
    "ClusterRef",
    "ConnectionPool",
    "ConnectionRoute",
    "Cors",
    "Delay",
    "Destination",
    "DirectResponse",
    "Egress",
    "Endpoint",
    "GatewayChain",
    "GatewayListener",
    "GatewayPort",
    "GatewaySelection",
    "GatewayServer",
    "GatewayTls",
    "HashKey",
    "HeaderChanges",
    "Headers",
    "Health",
    "HostRoutes",
    "Import",
    "Inbound",
    "InboundPort",
    "Labels",
    "LoadBalancing",
    "MatchKind",
    "Mirror",
    "MissingDestination",
    "MutualTls",
    "NamedMatch",
    "OutboundMode",
    "OutboundPolicy",
    "OutlierDetection",
    "Protocol",
    "Redirect",
    "RequestMatch",
    "Resolution",
    "Retries",
    "Rewrite",
    "Route",
    "ServerTls",
    "Service",
    "ServicePort",
    "StringMatch",
    "Subset",
    "TlsMode",
    "TrafficPolicy",
    "VirtualHost",
    "WeightedTarget",
]
