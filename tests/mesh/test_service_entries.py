"""ServiceEntries and the workloads outside Kubernetes: what they declare, whom they select, what they add to others."""

from __future__ import annotations

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.base import ObjectKey
from ostria.envoy.catalogue import fragment
from ostria.envoy.fragments import ResourceType
from ostria.mesh.clients import traits_of
from ostria.mesh.destinations import traffic_policy
from ostria.mesh.endpoints import endpoints
from ostria.mesh.inbound import inbound, serving
from ostria.mesh.model import HashKey, LoadBalancing, Resolution
from ostria.mesh.services import aliases
from ostria.mesh.services import service as service_of
from ostria.mesh.traits import ClientTraits

HOST = "db.example.com"

VM = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, labels: {version: v2}}
spec: {address: 10.9.0.1, labels: {app: db, version: v1}, serviceAccount: db, ports: {sql: 3307}, weight: 3,
       locality: eu/a}
"""


def entry(spec: str, name: str = "db", namespace: str = "default", created: str = "2026-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec: {{{spec}}}
"""


SELECTING = entry(f"""hosts: [{HOST}], ports: [{{number: 3306, name: sql, protocol: TCP, targetPort: 33060}}],
    location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {{labels: {{app: db}}}}""")


def places(mesh: Mesh, host: str = HOST, port: int = 3306) -> list[tuple[str, int]]:
    return [(endpoint.addresses[0], endpoint.port) for endpoint in endpoints(mesh.db, host, "default", port)]


def test_a_selector_chooses_pods_and_workload_entries_each_with_its_own_port():
    mesh = Mesh(SELECTING, VM, pod("db-0", "10.0.0.1", {"app": "db"}), pod("web", "10.0.0.2", {"app": "web"}))
    assert places(mesh) == [("10.0.0.1", 33060), ("10.9.0.1", 3307)]
    mesh.delete("WorkloadEntry", "vm")
    assert places(mesh) == [("10.0.0.1", 33060)]


def test_a_workload_entry_has_its_identity_weight_and_the_labels_of_both_places():
    (endpoint,) = endpoints(Mesh(SELECTING, VM).db, HOST, "default", 3306)
    assert endpoint.identity == "spiffe://cluster.local/ns/default/sa/db"
    assert endpoint.mesh_tls  # As it has an account, and no label says otherwise.
    assert (endpoint.weight, endpoint.locality, endpoint.labels) == (3, "eu/a", (("app", "db"), ("version", "v2")))


def test_a_workload_entry_that_disables_mutual_tls_is_called_in_plaintext():
    mesh = Mesh(SELECTING, VM).apply("""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain}
spec: {selector: {matchLabels: {version: v2}}, mtls: {mode: DISABLE}}
""")
    assert [endpoint.mesh_tls for endpoint in endpoints(mesh.db, HOST, "default", 3306)] == [False]


def test_what_is_not_ready_gets_nothing():
    unready = pod("db-0", "10.0.0.1", {"app": "db"}).replace(
        "podIPs:", "conditions: [{type: Ready, status: 'False'}], podIPs:"
    )
    unhealthy = VM + "status: {conditions: [{type: Healthy, status: 'False'}]}"
    unknown = VM.replace("name: vm,", "name: new, annotations: {proxy.istio.io/health-checks-enabled: 'true'},")
    assert places(Mesh(SELECTING, unready, unhealthy, unknown)) == []


def test_a_selector_of_another_namespace_chooses_nothing_here():
    mesh = Mesh(SELECTING.replace("namespace: default", "namespace: other"), VM)
    assert places(mesh) == []


def test_a_kubernetes_service_selects_workload_entries_too():
    mesh = Mesh(
        service("db", 3306, ip="10.96.0.1", port_name="sql"),
        pod("db-0", "10.0.0.1", {"app": "db"}),
        endpoint_slice("db", {"db-0": "10.0.0.1"}, port=3306, port_name="sql"),
        VM,
    )
    assert places(mesh, "db.default.svc.cluster.local") == [("10.0.0.1", 3306), ("10.9.0.1", 3307)]


def test_entries_of_one_host_that_resolve_alike_are_one_service():
    mesh = Mesh(
        entry(f"hosts: [{HOST}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: DNS", "one"),
        entry(f"hosts: [{HOST}], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: DNS", "two"),
        entry(f"hosts: [{HOST}], ports: [{{number: 9, name: x, protocol: TCP}}], resolution: STATIC", "three"),
        entry(f"hosts: [{HOST}], ports: [{{number: 7, name: x, protocol: TCP}}], resolution: DNS", "four", "other"),
    )
    found = service_of(mesh.db, HOST, "default")
    assert found is not None
    assert [port.number for port in found.ports] == [80, 443]
    assert {key.name for key in found.origins} == {"one", "two"}
    assert places(mesh, HOST, 443) == [(HOST, 443)]


def test_an_entry_adds_endpoints_to_the_kubernetes_service_of_its_host_and_no_port():
    host = "db.default.svc.cluster.local"
    mesh = Mesh(
        service("db", 3306, ip="10.96.0.1", port_name="sql"),
        entry(f"""hosts: [{host}], resolution: STATIC, endpoints: [{{address: 10.9.0.9}}],
            ports: [{{number: 3306, name: sql, protocol: TCP}}, {{number: 1, name: other, protocol: TCP}}]"""),
    )
    found = service_of(mesh.db, host, "default")
    assert found is not None
    assert [port.number for port in found.ports] == [3306]
    assert places(mesh, host) == [("10.9.0.9", 3306)]


def test_a_unix_socket_is_an_endpoint_without_port():
    mesh = Mesh(
        entry(f"""hosts: [{HOST}], resolution: STATIC, ports: [{{number: 3306, name: sql, protocol: TCP}}],
            endpoints: [{{address: 'unix:///run/db.sock'}}]""")
    )
    assert places(mesh) == [("unix:///run/db.sock", 0)]


def test_a_block_of_one_address_is_an_address():
    spec = f"hosts: [{HOST}], ports: [{{number: 1, name: x, protocol: TCP}}], addresses: [10.1.2.3/32, 10.2.3.4/16]"
    found = service_of(Mesh(entry(spec)).db, HOST, "default")
    assert found is not None
    assert (found.addresses, found.resolution) == (("10.1.2.3", "10.2.0.0/16"), Resolution.ORIGINAL)


def test_an_external_name_is_another_name_of_a_host_and_no_host_itself():
    def alias(name: str, to: str) -> str:
        return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{type: ExternalName, externalName: {to}}}
"""

    host = "web.default.svc.cluster.local"
    mesh = Mesh(service("web", ip="10.96.0.1"), alias("one", host), alias("two", "one.default.svc.cluster.local"))
    assert service_of(mesh.db, "one.default.svc.cluster.local", "default") is None
    assert [each.name for each in aliases(mesh.db, host)] == ["one", "two"]
    mesh.apply(alias("one", "two.default.svc.cluster.local"))  # Round and round.
    assert aliases(mesh.db, host) == ()


def test_a_pod_serves_what_names_its_address_in_its_own_namespace():
    spec = f"""hosts: [{HOST}], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{{address: 10.0.0.1}}],
        ports: [{{number: 80, targetPort: 8080, name: http, protocol: HTTP}}]"""
    mesh = Mesh(entry(spec), entry(spec, "far", "other"), pod("web", "10.0.0.1", {"app": "web"}))
    keys = serving(mesh.db, ObjectKey("", "Pod", "default", "web"))
    assert [key.name for key in keys] == ["db"]
    (port,) = inbound(mesh.db, "default", (), keys).ports
    assert (port.port, port.services) == (8080, ((HOST, "default", 80),))


def test_a_client_may_be_kept_to_one_endpoint_and_a_rule_goes_first():
    mesh = Mesh(service("web", ip="10.96.0.1").replace("spec:", "spec:\n  sessionAffinity: ClientIP", 1))
    host = "web.default.svc.cluster.local"
    policy = traffic_policy(mesh.db, host, "default", 9080, "")
    assert (policy.balancing, policy.hash_key) == (LoadBalancing.RING_HASH, HashKey("source_ip"))
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec: {host: web, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
""")
    policy = traffic_policy(mesh.db, host, "default", 9080, "")
    assert (policy.balancing, policy.hash_key) == (LoadBalancing.RANDOM, None)


def test_where_traffic_stays_local_a_client_is_told_of_its_own_nodes_endpoints_only():
    mesh = Mesh(
        service("web", ip="10.96.0.1").replace("spec:", "spec:\n  internalTrafficPolicy: Local", 1),
        pod("near", "10.0.0.1", {"app": "web"}),
        pod("far", "10.0.0.2", {"app": "web"}).replace("nodeName: node", "nodeName: other"),
        endpoint_slice("web", {"near": "10.0.0.1", "far": "10.0.0.2"}, port=9080),
    )
    name = "outbound|9080||web.default.svc.cluster.local"
    told = [
        fragment(mesh.db, ResourceType.ENDPOINTS, name, ClientTraits(node=node)) for node in ("node", "other", "third")
    ]
    assert [(b"10.0.0.1" in each.body, b"10.0.0.2" in each.body) for each in told if each] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    client = traits_of(mesh.db, ObjectKey("", "Pod", "default", "near"))
    assert client is not None
    assert client.node == "node"


def test_nodes_tell_nobody_apart_where_no_service_asks_for_them():
    mesh = Mesh(service("web", ip="10.96.0.1"), pod("near", "10.0.0.1", {"app": "web"}))
    client = traits_of(mesh.db, ObjectKey("", "Pod", "default", "near"))
    assert client is not None
    assert (client.node, client.serving, client.dns) == ("", (), False)


def test_where_there_are_to_be_addresses_nobody_looks_a_name_up():
    named = VM.replace("10.9.0.1", "vm.test")
    assert places(Mesh(SELECTING, named)) == []
    assert places(Mesh(SELECTING.replace("STATIC", "DNS"), named)) == [("vm.test", 3307)]
    socket = VM.replace("10.9.0.1", "'unix:///run/vm.sock'").replace(", ports: {sql: 3307}", "")
    assert places(Mesh(SELECTING.replace("STATIC", "DNS"), socket)) == []
