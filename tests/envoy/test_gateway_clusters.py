"""What a gateway calls otherwise than a sidecar: services without an address, and the mesh's TLS that it passes on."""

from __future__ import annotations

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.envoy.catalogue import fragment, scope
from ostria.envoy.fragments import ResourceType
from ostria.mesh.traits import ClientTraits, ProxyType

EDGE = ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),))
SIDECAR = ClientTraits(ProxyType.SIDECAR, "default")


def held(mesh: Mesh, kind: ResourceType, name: str, client: ClientTraits) -> bytes:
    found = fragment(mesh.db, kind, name, scope(mesh.db, kind, name).project(client))
    assert found is not None
    return found.body


def test_a_headless_service_is_called_at_its_endpoints() -> None:
    mesh = Mesh(service("db", 9000, port_name="tcp"), endpoint_slice("db", {}, port=9000, port_name="tcp"))
    name = "outbound|9000||db.default.svc.cluster.local"
    types = [Cluster.FromString(held(mesh, ResourceType.CLUSTER, name, client)).type for client in (EDGE, SIDECAR)]
    assert types == [Cluster.EDS, Cluster.ORIGINAL_DST]


def test_the_meshs_tls_is_passed_to_those_only_who_take_it() -> None:
    mesh = Mesh(
        service("web", 80, ip="10.96.0.1"),
        pod("with", "10.0.0.1", {"app": "web"}),
        pod("without", "10.0.0.2", {"app": "web"}, sidecar=False),
        endpoint_slice("web", {"with": "10.0.0.1", "without": "10.0.0.2"}, port=80),
    )

    def addresses(name: str) -> list[str]:
        found = ClusterLoadAssignment.FromString(held(mesh, ResourceType.ENDPOINTS, name, EDGE))
        members = (member for locality in found.endpoints for member in locality.lb_endpoints)
        return [member.endpoint.address.socket_address.address for member in members]

    assert addresses("outbound|80||web.default.svc.cluster.local") == ["10.0.0.1", "10.0.0.2"]
    assert addresses("outbound_.80_._.web.default.svc.cluster.local") == ["10.0.0.1"]
    sealed = held(mesh, ResourceType.CLUSTER, "outbound_.80_._.web.default.svc.cluster.local", EDGE)
    assert not Cluster.FromString(sealed).transport_socket_matches
