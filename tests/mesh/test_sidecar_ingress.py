"""What a Sidecar says of the inbound side of its workloads."""

from __future__ import annotations

from doubles.meshes import Mesh, pod, service
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of
from ostria.mesh.inbound import inbound_of
from ostria.mesh.model import Inbound, MutualTls, Protocol, ServerTls
from ostria.mesh.sidecar_ingress import inbound_pool

KEY = ObjectKey("", "Sidecar", "default", "s")
PODS = (pod("r", "10.0.0.1", {"app": "reviews"}), pod("other", "10.0.0.2", {"app": "ratings"}))
SERVICE = service("reviews", 9080, ip="10.96.0.1")


def sidecar(ingress: str, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: s, namespace: default}}
spec: {{workloadSelector: {{labels: {{app: reviews}}}}, ingress: [{ingress}]{more}}}
"""


def peers(port_modes: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: p, namespace: default}}
spec: {{selector: {{matchLabels: {{app: reviews}}}}, mtls: {{mode: STRICT}}, portLevelMtls: {port_modes}}}
"""


def side(mesh: Mesh, name: str = "r") -> Inbound:
    client = traits_of(mesh.db, ObjectKey("", "Pod", "default", name))
    assert client is not None
    return inbound_of(mesh.db, client)


def test_the_ports_are_those_of_the_sidecar_and_the_rest_goes_on_as_it_comes():
    mesh = Mesh(*PODS, SERVICE)
    assert [port.port for port in side(mesh).ports] == [9080]
    mesh.apply(sidecar("{port: {number: 8080, protocol: TCP, name: t}, defaultEndpoint: 127.0.0.1:18080}"))
    (port,) = side(mesh).ports
    assert (port.port, port.protocol, port.endpoint) == (8080, Protocol.TCP, "127.0.0.1:18080")
    assert KEY in side(mesh).origins
    # Who is not selected keeps what the services say.
    assert KEY not in side(mesh, "other").origins


def test_where_a_port_leads():
    def endpoint(text: str) -> str:
        listener = f"{{port: {{number: 80, protocol: HTTP, name: h}}, defaultEndpoint: '{text}'}}"
        return side(Mesh(*PODS, sidecar(listener))).ports[0].endpoint

    assert endpoint("127.0.0.1:8080") == "127.0.0.1:8080"
    assert endpoint("[::1]:8080") == "::1:8080"
    assert endpoint("0.0.0.0:8080") == "10.0.0.1:8080"
    assert endpoint("unix:///run/app.sock") == "unix:///run/app.sock"
    assert side(Mesh(*PODS, sidecar("{port: {number: 80, protocol: HTTP, name: h}}"))).ports[0].endpoint == ""


def test_only_a_listener_that_names_the_pods_own_address_tells_pods_apart():
    listener = "{port: {number: 80, protocol: HTTP, name: h}, defaultEndpoint: '%s:8080'}"
    mesh = Mesh(*PODS, pod("twin", "10.0.0.9", {"app": "reviews"}), sidecar(listener % "127.0.0.1"))
    key = ObjectKey("", "Pod", "default", "r")
    assert traits_of(mesh.db, key) == traits_of(mesh.db, key._replace(name="twin"))
    mesh.apply(sidecar(listener % "0.0.0.0"))
    assert traits_of(mesh.db, key) != traits_of(mesh.db, key._replace(name="twin"))


def test_own_tls_is_opened_only_where_the_port_takes_none_of_the_meshs():
    tls = "tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}"
    listener = f"{{port: {{number: 9443, protocol: HTTPS, name: t}}, defaultEndpoint: '127.0.0.1:80', {tls}}}"
    mesh = Mesh(*PODS, sidecar(listener), peers("{'9443': {mode: DISABLE}}"))
    (port,) = side(mesh).ports
    assert port.tls is not None
    assert (port.mutual_tls, port.tls.mode, port.tls.files) == (MutualTls.DISABLE, ServerTls.SIMPLE, (("/c", "/k"),))
    mesh.apply(peers("{'9444': {mode: DISABLE}}"))
    assert side(mesh).ports[0].tls is None


def test_the_limits_are_the_listeners_else_the_sidecars_else_the_destination_rules():
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d, namespace: default}
spec: {host: reviews, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
"""
    behind = (("reviews.default.svc.cluster.local", "default", 9080),)
    port = "{port: {number: 9080, protocol: HTTP, name: h}%s}"
    mesh = Mesh(*PODS, SERVICE, rule, sidecar(port % ""))
    assert inbound_pool(mesh.db, 9080, behind, KEY).max_connections == 3
    pool = ", inboundConnectionPool: {http: {http2MaxRequests: 4}}"
    mesh.apply(sidecar(port % "", pool))
    assert inbound_pool(mesh.db, 9080, behind, KEY).max_requests == 4
    mesh.apply(sidecar(port % ", connectionPool: {http: {http2MaxRequests: 5}}", pool))
    assert inbound_pool(mesh.db, 9080, behind, KEY).max_requests == 5


def test_mesh_config_may_say_that_workloads_listen_on_loopback():
    mesh = Mesh(*PODS, SERVICE)
    mesh.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system},"
        " data: {mesh: '{inboundTrafficPolicy: {mode: LOCALHOST}}'}}"
    )
    assert side(mesh).ports[0].endpoint == "127.0.0.1:9080"
