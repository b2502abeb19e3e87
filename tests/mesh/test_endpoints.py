"""Where a service is served, who serves it, and whether it takes mutual TLS."""

from __future__ import annotations

from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.mesh.endpoints import accounts, endpoints

HOST = "reviews.default.svc.cluster.local"


def reviews(**pods: bool) -> Mesh:
    """A service with these pods; the value says whether the pod has a sidecar."""
    addresses = {name: f"10.0.0.{number}" for number, name in enumerate(pods, 1)}
    return Mesh(
        service("reviews", ip="10.96.0.1"),
        *(pod(name, addresses[name], {"app": "reviews", "version": name}, sidecar=own) for name, own in pods.items()),
        endpoint_slice("reviews", addresses, port=9080),
    )


def test_an_endpoint_has_its_pods_labels_and_identity():
    (endpoint,) = endpoints(reviews(v1=True).db, HOST, "", 9080)
    assert endpoint.addresses == ("10.0.0.1",)
    assert ("version", "v1") in endpoint.labels
    assert endpoint.identity == "spiffe://cluster.local/ns/default/sa/default"
    assert endpoint.mesh_tls


def test_a_pod_without_a_sidecar_takes_plaintext_and_vouches_for_nobody():
    mesh = reviews(v1=False)
    (endpoint,) = endpoints(mesh.db, HOST, "", 9080)
    assert (endpoint.mesh_tls, accounts(mesh.db, HOST, "", 9080)) == (False, ())


def test_a_workload_that_disables_mutual_tls_is_called_in_plaintext():
    mesh = reviews(v1=True, v2=True).apply("""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain}
spec:
  selector: {matchLabels: {version: v2}}
  mtls: {mode: DISABLE}
""")
    assert [endpoint.mesh_tls for endpoint in endpoints(mesh.db, HOST, "", 9080)] == [True, False]


def test_endpoints_that_are_not_ready_are_left_out_and_those_that_end_are_drained():
    mesh = reviews(v1=True).apply("""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-abcde, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}}
- {addresses: [10.0.0.2], conditions: {ready: false}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.4], conditions: {ready: false, serving: false, terminating: true}}
- {addresses: [10.0.0.5]}
""")
    found = [(endpoint.addresses[0], endpoint.health.value) for endpoint in endpoints(mesh.db, HOST, "", 9080)]
    assert found == [("10.0.0.1", "healthy"), ("10.0.0.3", "draining"), ("10.0.0.5", "healthy")]


def test_the_two_slices_of_a_dual_stack_service_name_each_pod_once():
    mesh = Mesh(
        service("reviews", ip="10.96.0.1"),
        pod("v1", "10.0.0.1", {"app": "reviews"}).replace(
            "podIPs: [{ip: 10.0.0.1}]", "podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]"
        ),
        endpoint_slice("reviews", {"v1": "10.0.0.1"}, port=9080),
        endpoint_slice("reviews", {"v1": "fd00::1"}, port=9080).replace("reviews-abcde", "reviews-v6"),
    )
    assert [endpoint.addresses for endpoint in endpoints(mesh.db, HOST, "", 9080)] == [("10.0.0.1", "fd00::1")]


def test_a_probe_that_only_changes_a_pods_status_wakes_nobody():
    mesh = reviews(v1=True)
    mesh.db.watch(endpoints, HOST, "", 9080)
    mesh.ran()
    mesh.apply(
        pod("v1", "10.0.0.1", {"app": "reviews", "version": "v1"}).replace(
            "podIPs:", "conditions: [{type: Ready, status: 'True'}], podIPs:"
        )
    )
    mesh.db.flush()
    assert mesh.ran() == ["mesh.workloads.workload"]
