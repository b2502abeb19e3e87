"""What a gRPC client without a proxy is sent, and that proxies do not notice it."""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import UpstreamTlsContext

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits, ProxyType

HOST = "who.default.svc.cluster.local"
CLUSTER = f"outbound|7070||{HOST}"
PODS = {"one": "10.0.0.1", "two": "10.0.0.2"}
PROXY = ClientTraits(ProxyType.SIDECAR, "default")
GRPC = PROXY._replace(proxyless=True)
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: who}
spec:
  hosts: [who]
  http:
  - corsPolicy: {allowOrigins: [{exact: a}]}
    fault: {abort: {httpStatus: 418, percentage: {value: 50}}}
    route: [{destination: {host: who}}]
"""


def mesh(*more: str, sidecar: bool = True) -> Mesh:
    pods = [pod(name, ip, {"app": "who"}, account="who", sidecar=sidecar) for name, ip in PODS.items()]
    slice_ = endpoint_slice("who", PODS, port=7070, port_name="grpc")
    return Mesh(service("who", 7070, ip="10.96.0.7", port_name="grpc"), slice_, *pods, *more)


def found(mesh: Mesh, kind: ResourceType, name: str, client: ClientTraits = GRPC) -> Fragment | None:
    return fragment(mesh.db, kind, name, scope(mesh.db, kind, name).project(client))


def cluster(mesh: Mesh) -> Cluster:
    made = found(mesh, ResourceType.CLUSTER, CLUSTER)
    assert made is not None
    return Cluster.FromString(made.body)


def test_a_target_leads_to_its_endpoints_by_names() -> None:
    world = mesh()
    for target in (f"{HOST}:7070", "who:7070", "who.default:7070"):
        listener = found(world, ResourceType.LISTENER, target)
        assert listener is not None
        manager = HttpConnectionManager()
        Listener.FromString(listener.body).api_listener.api_listener.Unpack(manager)
        assert manager.rds.route_config_name == f"{HOST}:7070"
        assert manager.http_filters[-1].name == "envoy.filters.http.router"
    table = found(world, ResourceType.ROUTES, f"{HOST}:7070")
    assert table is not None
    assert table.references == {(ResourceType.CLUSTER, CLUSTER)}
    assert cluster(world).lb_policy == Cluster.ROUND_ROBIN
    assert found(world, ResourceType.ENDPOINTS, CLUSTER) == found(world, ResourceType.ENDPOINTS, CLUSTER, PROXY)
    assert found(world, ResourceType.LISTENER, "nobody:7070") is None
    assert found(world, ResourceType.LISTENER, "who:1") is None
    assert names(world.db, ResourceType.LISTENER, GRPC) == ()


def test_mutual_tls_goes_by_the_bootstraps_certificates_where_each_endpoint_takes_it() -> None:
    context = UpstreamTlsContext()
    cluster(mesh()).transport_socket.typed_config.Unpack(context)
    common = context.common_tls_context
    assert common.tls_certificate_provider_instance.instance_name == "default"
    (name,) = common.validation_context.match_subject_alt_names
    assert name.exact == "spiffe://cluster.local/ns/default/sa/who"
    assert not cluster(mesh(sidecar=False)).HasField("transport_socket")


def test_what_grpc_would_refuse_of_a_route_is_left_out() -> None:
    table = found(mesh(RULE), ResourceType.ROUTES, f"{HOST}:7070")
    assert table is not None
    (route,) = RouteConfiguration.FromString(table.body).virtual_hosts[0].routes
    assert list(route.typed_per_filter_config) == ["envoy.filters.http.fault"]


def test_proxies_share_what_they_shared_and_nothing_of_theirs_runs_again() -> None:
    world = mesh()
    before = found(world, ResourceType.CLUSTER, CLUSTER, PROXY)
    world.ran()
    assert cluster(world).name == CLUSTER
    assert "envoy.cds._outbound" not in world.ran()
    assert found(world, ResourceType.CLUSTER, CLUSTER, PROXY) is before
