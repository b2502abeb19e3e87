"""What a gRPC client without a proxy is sent: gRPC's own xDS client asks for other shapes than Envoy (gRFC A27).

    target `xds:///HOST:PORT` -> listener HOST:PORT (an API listener) -> routes HOST:PORT -> clusters -> endpoints

It routes, balances and speaks mutual TLS by itself, from what the mesh says of the same services: rules, subsets and
shares are those that a sidecar would get. What gRPC cannot do, and would refuse, is left out; certificates come from
the provider `default` of its bootstrap (gRFC A29). It asks for everything by name and has no wildcard.
"""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.api_listener_pb2 import ApiListener
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from ostria.engine import Engine, query
from ostria.envoy import cds, eds
from ostria.envoy.fragments import Fragment, ResourceType, fragment
from ostria.envoy.rds import encoded_host, scope_of
from ostria.envoy.route_filters import FAULT_FILTER
from ostria.envoy.secrets import IDENTITY_SECRET
from ostria.envoy.wire import encode, packed
from ostria.mesh.destinations import traffic_policy
from ostria.mesh.endpoints import accounts, endpoints
from ostria.mesh.model import ClusterRef, TlsMode
from ostria.mesh.on_demand import spelled
from ostria.mesh.services import service
from ostria.mesh.traits import ClientTraits

GENERATOR = "grpc"
"""What such a client's node says of itself (GENERATOR in its metadata), as Istio's users write it."""

_ROUTER = "envoy.filters.http.router"
_LOGICAL = (Cluster.ROUND_ROBIN, Cluster.RING_HASH)


def resource(db: Engine, kind: ResourceType, name: str, client: ClientTraits) -> Fragment | None:
    """One resource as a client without a proxy has it."""
    seen = client._replace(proxyless=False)
    if kind is ResourceType.LISTENER:
        table = _table_of(db, name, seen)
        return _listener(db, name, table) if table else None
    if kind is ResourceType.ROUTES:
        return _routes(db, name, seen)
    if kind is ResourceType.CLUSTER:
        ref = ClusterRef.parse(name)
        return _cluster(db, ref, cds.scope(db, name).project(seen)) if ref else None
    return eds.resource(db, name, seen) if kind is ResourceType.ENDPOINTS else None


@query
def _listener(db: Engine, name: str, table: str) -> Fragment:
    manager = HttpConnectionManager()
    manager.rds.route_config_name = table
    manager.rds.config_source.ads.SetInParent()
    manager.rds.config_source.resource_api_version = 2  # V3
    for filter_name, config in ((FAULT_FILTER, HTTPFault()), (_ROUTER, Router())):
        manager.http_filters.add(name=filter_name).typed_config.CopyFrom(packed(config))
    listener = Listener(name=name, api_listener=ApiListener(api_listener=packed(manager)))
    return fragment(name, encode(listener), references=frozenset({(ResourceType.ROUTES, table)}))


def _table_of(db: Engine, target: str, client: ClientTraits) -> str:
    """The route table of a target, `HOST:PORT` as the mesh spells it; "" where there is no such host."""
    name, _, port = target.rpartition(":")
    for host in spelled(db, name, client.namespace) if port.isdigit() else ():
        found = _host(db, host, int(port), client)
        if found is not None and name in VirtualHost.FromString(found.body).domains:
            return f"{host}:{port}"
    return ""


def _host(db: Engine, host: str, port: int, client: ClientTraits) -> Fragment | None:
    return encoded_host(db, host, port, scope_of(db, host, port).project(client))


def _routes(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    host, _, port = name.rpartition(":")
    found = _host(db, host, int(port), client) if port.isdigit() else None
    if found is None:
        return None
    message = VirtualHost.FromString(found.body)
    # The whole table is this one target's, whatever it writes as authority.
    message.domains[:] = ("*",)
    for route in message.routes:
        # A client refuses what it does not know of a filter; of these it knows faults.
        for each in [each for each in route.typed_per_filter_config if each != FAULT_FILTER]:
            del route.typed_per_filter_config[each]
    table = RouteConfiguration(name=name, virtual_hosts=[message])
    return fragment(name, encode(table), found.origins, found.references)


@query
def _cluster(db: Engine, ref: ClusterRef, client: ClientTraits) -> Fragment | None:
    made = cds.resource(db, ref.name, client)
    if made is None:
        return None
    full = Cluster.FromString(made.body)
    if full.type != Cluster.EDS:
        # It resolves no names as Envoy does, and knows no original destination.
        return None
    cluster = Cluster(name=full.name, type=Cluster.EDS, eds_cluster_config=full.eds_cluster_config)
    cluster.connect_timeout.CopyFrom(full.connect_timeout)
    cluster.lb_policy = full.lb_policy if full.lb_policy in _LOGICAL else Cluster.ROUND_ROBIN
    if cluster.lb_policy == Cluster.RING_HASH:
        cluster.ring_hash_lb_config.CopyFrom(full.ring_hash_lb_config)
    cluster.circuit_breakers.CopyFrom(full.circuit_breakers)
    if full.HasField("outlier_detection"):
        cluster.outlier_detection.CopyFrom(full.outlier_detection)
    _secure(db, cluster, ref, client.namespace)
    return made._replace(body=(body := encode(cluster)), version=fragment("", body).version)


def _secure(db: Engine, cluster: Cluster, ref: ClusterRef, namespace: str) -> None:
    """Mutual TLS, where the policy wants it and, if it leaves it open, where each endpoint takes it.

    A sidecar decides for each endpoint; a client without one decides for a cluster.
    """
    tls = traffic_policy(db, ref.host, namespace, ref.port, ref.subset).tls
    found = service(db, ref.host, namespace)
    if tls.mode is TlsMode.AUTO:
        behind = endpoints(db, ref.host, namespace, ref.port)
        if found is None or found.external or not behind or not all(each.mesh_tls for each in behind):
            return
    elif tls.mode is not TlsMode.ISTIO_MUTUAL:
        return
    context = UpstreamTlsContext()
    common = context.common_tls_context
    common.tls_certificate_provider_instance.instance_name = IDENTITY_SECRET
    common.validation_context.ca_certificate_provider_instance.instance_name = IDENTITY_SECRET
    for name in tls.subject_alt_names or accounts(db, ref.host, namespace, ref.port):
        # The typed field, which replaces this one for Envoy, is not read by gRPC.
        common.validation_context.match_subject_alt_names.add(exact=name)
    cluster.transport_socket.name = "envoy.transport_sockets.tls"
    cluster.transport_socket.typed_config.CopyFrom(packed(context))
