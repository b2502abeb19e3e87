"""Which Sidecar governs a workload, and what its proxy is told of the mesh by it."""

from __future__ import annotations

import pytest
from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.meshes import Mesh, pod, service
from ostria.base import ObjectKey
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import ResourceType
from ostria.mesh.clients import traits_of
from ostria.mesh.model import ClusterRef, OutboundMode
from ostria.mesh.outbound import outbound_clusters
from ostria.mesh.routes import rules_for
from ostria.mesh.sidecars import egress_for, outbound_policy, sidecar_of
from ostria.mesh.traits import ClientTraits, ProxyType

CART = (("app", "cart"),)


def sidecar(name: str, spec: str, namespace: str = "shop", since: str = "2026-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{since}"}}
spec: {spec}
"""


def imports(*hosts: str, more: str = "") -> str:
    return f"{{egress: [{{hosts: [{', '.join(repr(host) for host in hosts)}]}}]{more}}}"


def rule(name: str, namespace: str, host: str, to: str, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec: {{hosts: ['{host}'], {more} http: [{{route: [{{destination: {{host: {to}}}}}]}}]}}
"""


def key(name: str, namespace: str = "shop") -> ObjectKey:
    return ObjectKey("", "Sidecar", namespace, name)


def of(namespace: str, sidecar: ObjectKey | None) -> ClientTraits:
    return ClientTraits(namespace=namespace, sidecar=sidecar)


SERVICES = (
    service("cart", namespace="shop", ip="10.96.0.1"),
    service("reviews", ip="10.96.0.2"),
    service("ratings", ip="10.96.0.3"),
    service("istiod", 15012, namespace="istio-system", ip="10.96.0.4", port_name="grpc"),
)


def test_the_selector_goes_first_then_the_namespace_then_the_root_and_the_oldest_of_each():
    mesh = Mesh()
    assert sidecar_of(mesh.db, "shop", CART) is None
    mesh.apply(sidecar("root", imports("*/*"), "istio-system"))
    assert sidecar_of(mesh.db, "shop", CART) == key("root", "istio-system")
    mesh.apply(sidecar("own", imports("*/*"), since="2026-01-02T00:00:00Z"))
    mesh.apply(sidecar("later", imports("*/*"), since="2026-01-03T00:00:00Z"))
    assert sidecar_of(mesh.db, "shop", CART) == key("own")
    assert sidecar_of(mesh.db, "default", CART) == key("root", "istio-system")
    chosen = imports("*/*", more=", workloadSelector: {labels: {app: cart}}")
    mesh.apply(sidecar("chosen", chosen, since="2026-01-04T00:00:00Z"))
    mesh.apply(sidecar("newer", chosen, since="2026-01-05T00:00:00Z"))
    assert sidecar_of(mesh.db, "shop", CART) == key("chosen")
    assert sidecar_of(mesh.db, "shop", ()) == key("own")
    # One with a selector in the root namespace is for workloads of that namespace.
    mesh.apply(sidecar("there", chosen, "istio-system")).delete("Sidecar", "chosen", "shop")
    mesh.delete("Sidecar", "newer", "shop").delete("Sidecar", "own", "shop").delete("Sidecar", "later", "shop")
    assert sidecar_of(mesh.db, "shop", CART) == key("root", "istio-system")


@pytest.mark.parametrize(
    ("hosts", "known"),
    [
        (("*/*",), {"cart.shop", "reviews.default", "ratings.default", "istiod.istio-system"}),
        (("./*",), {"cart.shop"}),
        (("./*", "istio-system/*"), {"cart.shop", "istiod.istio-system"}),
        (("default/reviews.default.svc.cluster.local",), {"reviews.default"}),
        (("shop/reviews.default.svc.cluster.local",), set()),
        (("*/reviews.default.svc.cluster.local",), {"reviews.default"}),
        (("*/*.default.svc.cluster.local",), {"reviews.default", "ratings.default"}),
        (("~/*",), set()),
        (("*/*", "~default/*"), {"cart.shop", "istiod.istio-system"}),
        (("default/*", "~/ratings.default.svc.cluster.local"), {"reviews.default"}),
    ],
)
def test_the_hosts_that_are_imported(hosts: tuple[str, ...], known: set[str]):
    mesh = Mesh(*SERVICES, sidecar("own", imports(*hosts)))
    found = {cluster.host for cluster in outbound_clusters(mesh.db, of("shop", key("own")))}
    assert found == {f"{host}.svc.cluster.local" for host in known}


def test_what_is_private_to_another_namespace_cannot_be_imported():
    private = service("secret", ip="10.96.0.9", annotations={"networking.istio.io/exportTo": "."})
    mesh = Mesh(private, sidecar("own", imports("*/*")))
    assert outbound_clusters(mesh.db, of("shop", key("own"))) == ()
    assert outbound_clusters(mesh.db, of("default", None))


def test_a_port_is_for_the_listener_that_names_it_and_the_rest_for_the_one_that_names_none():
    spec = """{egress: [
      {port: {number: 9080, protocol: HTTP, name: http}, hosts: [default/reviews.default.svc.cluster.local]},
      {hosts: ['istio-system/*']}]}"""
    mesh = Mesh(*SERVICES, sidecar("own", spec))
    found = {cluster.name for cluster in outbound_clusters(mesh.db, of("shop", key("own")))}
    assert found == {
        "outbound|9080||reviews.default.svc.cluster.local",
        "outbound|15012||istiod.istio-system.svc.cluster.local",
    }
    named = egress_for(mesh.db, key("own"), "shop", 9080)
    assert named is not None
    assert named.port == 9080
    rest = egress_for(mesh.db, key("own"), "shop", 80)
    assert rest is not None
    assert rest.takes_the_rest


def test_virtual_services_count_where_they_are_imported_and_bring_their_destinations():
    mesh = Mesh(
        *SERVICES,
        rule("v", "default", "reviews.default.svc.cluster.local", "ratings.default.svc.cluster.local"),
        sidecar("own", imports("default/reviews.default.svc.cluster.local")),
        sidecar("other", imports("istio-system/*"), "other"),
    )
    host = "reviews.default.svc.cluster.local"
    own, other = (ClientTraits(namespace=each.namespace, sidecar=each) for each in (key("own"), key("other", "other")))
    assert rules_for(mesh.db, host, 9080, own) == (ObjectKey("", "VirtualService", "default", "v"),)
    assert rules_for(mesh.db, host, 9080, other) == ()
    clusters = outbound_clusters(mesh.db, of("shop", key("own")))
    assert ClusterRef("ratings.default.svc.cluster.local", 9080) in clusters
    assert not any(cluster.host.startswith("cart") for cluster in clusters)


def test_a_rule_for_a_pattern_counts_where_any_of_its_hosts_is_imported():
    mesh = Mesh(
        *SERVICES,
        rule("v", "default", "*.svc.cluster.local", "ratings.default.svc.cluster.local"),
        sidecar("own", imports("default/reviews.default.svc.cluster.local")),
    )
    own = ClientTraits(namespace="shop", sidecar=key("own"))
    assert rules_for(mesh.db, "reviews.default.svc.cluster.local", 9080, own)


def test_the_outbound_policy_is_the_sidecars_else_the_meshs():
    proxied = imports(
        "./*",
        more=", outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy:"
        " {host: reviews.default.svc.cluster.local, port: {number: 9080}}}",
    )
    mesh = Mesh(*SERVICES, sidecar("own", imports("./*")))
    assert outbound_policy(mesh.db, key("own"), "shop").mode is OutboundMode.ALLOW_ANY
    mesh.apply(sidecar("own", imports("./*", more=", outboundTrafficPolicy: {mode: REGISTRY_ONLY}")))
    assert outbound_policy(mesh.db, key("own"), "shop").mode is OutboundMode.REGISTRY_ONLY
    mesh.apply(sidecar("own", proxied))
    proxy = ClusterRef("reviews.default.svc.cluster.local", 9080)
    assert outbound_policy(mesh.db, key("own"), "shop").proxy == proxy
    # It is held although it is not imported.
    assert proxy in outbound_clusters(mesh.db, of("shop", key("own")))


def everything(mesh: Mesh, client: ClientTraits) -> dict[tuple[ResourceType, str], bytes]:
    held: dict[tuple[ResourceType, str], bytes] = {}
    wanted = [
        (kind, name)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER)
        for name in names(mesh.db, kind, scope(mesh.db, kind, "*").project(client))
    ]
    while wanted:
        kind, name = wanted.pop()
        found = fragment(mesh.db, kind, name, scope(mesh.db, kind, name).project(client))
        assert found is not None
        held[kind, name] = found.body
        wanted += [each for each in found.references if each not in held]
    return held


def test_a_change_that_is_not_imported_reaches_nobody_whom_the_sidecar_governs():
    mesh = Mesh(*SERVICES, sidecar("own", imports("./*")), pod("c", "10.0.0.1", {"app": "cart"}, namespace="shop"))
    client = traits_of(mesh.db, ObjectKey("", "Pod", "shop", "c"))
    assert client is not None
    assert client.sidecar == key("own")
    before = everything(mesh, client)
    assert not any("reviews" in name for _, name in before)
    mesh.apply(
        service("late", ip="10.96.0.7"),
        rule("v", "default", "reviews.default.svc.cluster.local", "ratings.default.svc.cluster.local"),
    )
    assert everything(mesh, client) == before


def test_proxies_under_one_sidecar_share_and_those_under_none_pay_nothing():
    mesh = Mesh(*SERVICES, sidecar("own", imports("./*")))
    one = ClientTraits(ProxyType.SIDECAR, "one", CART)
    everything(mesh, one)
    mesh.ran()
    everything(mesh, one._replace(namespace="another"))
    asked = set(mesh.ran())
    assert not [query for query in asked if "sidecars" in query or query.startswith("envoy.rds.")], asked
    governed = ClientTraits(ProxyType.SIDECAR, "shop", CART, key("own"))
    everything(mesh, governed)
    mesh.ran()
    everything(mesh, governed._replace(labels=(("app", "another"),)))
    assert not [query for query in mesh.ran() if "sidecars" in query or query.startswith("envoy.rds.")]


def test_a_listener_of_a_sidecars_own_is_where_it_says_and_nowhere_else():
    spec = """{egress: [
      {port: {number: 9080, protocol: HTTP, name: http}, captureMode: NONE, hosts: ['default/*']},
      {port: {number: 9000, protocol: TCP, name: tcp}, bind: 10.1.2.3, hosts: ['default/*']},
      {hosts: ['./*']}]}"""
    echo = service("echo", 9000, ip="10.96.0.8", port_name="tcp")
    mesh = Mesh(*SERVICES, echo, sidecar("own", spec))
    client = ClientTraits(ProxyType.SIDECAR, "shop", CART, key("own"))
    held = everything(mesh, client)
    listeners = {name for kind, name in held if kind is ResourceType.LISTENER}
    assert {name for name in listeners if not name.startswith("virtual")} == {"127.0.0.1_9080", "10.1.2.3_9000"}
    assert (ResourceType.ROUTES, "9080") in held
    bound = Listener.FromString(held[ResourceType.LISTENER, "127.0.0.1_9080"])
    caught = Listener.FromString(held[ResourceType.LISTENER, "10.1.2.3_9000"])
    assert (bound.bind_to_port.value, caught.bind_to_port.value) == (True, False)
    assert b"outbound|9000||echo.default.svc.cluster.local" in held[ResourceType.LISTENER, "10.1.2.3_9000"]
