"""What a workload's own proxy takes in."""

from __future__ import annotations

from doubles.meshes import Mesh, endpoint_slice, service
from ostria.mesh.inbound import inbound_of
from ostria.mesh.model import MutualTls, Protocol
from ostria.mesh.traits import ClientTraits

REVIEWS = ClientTraits(namespace="default", labels=(("app", "reviews"), ("version", "v1")))


def test_the_ports_are_those_that_services_send_to():
    mesh = Mesh(
        service("reviews", 80, target=9080, selector={"app": "reviews"}),
        service("other", 80, target=9999, selector={"app": "other"}),
    )
    assert [port.port for port in inbound_of(mesh.db, REVIEWS).ports] == [9080]


def test_a_named_target_port_is_known_once_an_endpoint_has_it():
    mesh = Mesh(service("reviews", 80, target="web", selector={"app": "reviews"}))
    assert inbound_of(mesh.db, REVIEWS).ports == ()
    mesh.apply(endpoint_slice("reviews", {"v1": "10.0.0.1"}, port=8080))
    assert [port.port for port in inbound_of(mesh.db, REVIEWS).ports] == [8080]


def test_services_that_disagree_on_a_protocol_leave_it_to_the_first_bytes():
    mesh = Mesh(service("one", selector={"app": "reviews"}))
    assert inbound_of(mesh.db, REVIEWS).ports[0].protocol is Protocol.HTTP
    mesh.apply(service("two", selector={"app": "reviews"}, port_name="tcp"))
    assert inbound_of(mesh.db, REVIEWS).ports[0].protocol is Protocol.AUTO


def test_the_pods_of_a_deployment_share_their_inbound_side():
    mesh = Mesh(service("reviews", selector={"app": "reviews"}))
    inbound_of(mesh.db, REVIEWS)
    mesh.ran()
    other = REVIEWS._replace(labels=(*REVIEWS.labels, ("pod-template-hash", "abc")))
    inbound_of(mesh.db, other)
    assert mesh.ran() == []


def test_a_port_that_only_a_policy_names_has_its_mode():
    mesh = Mesh("""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p}
spec:
  selector: {matchLabels: {app: reviews}}
  portLevelMtls: {"7000": {mode: STRICT}}
""")
    assert inbound_of(mesh.db, REVIEWS).ports_tls == ((7000, MutualTls.STRICT),)
