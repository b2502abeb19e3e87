"""What a gateway serves, on which ports, and which routes stand behind it."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.base import ObjectKey
from ostria.mesh.gateways import gateway_conflicts, gateway_ports, gateway_virtual_hosts
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ClientTraits, ProxyType

EDGE = ClientTraits(ProxyType.GATEWAY, "istio-system", (("app", "istio-ingressgateway"), ("istio", "ingressgateway")))

GATEWAY_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec:
  clusterIP: 10.96.0.100
  selector: {istio: ingressgateway}
  ports: [{port: 80, targetPort: 8080, name: http2}, {port: 443, targetPort: 8443, name: https}]
"""


def gateway(name: str, hosts: str = '"*"', *, port: int = 80, protocol: str = "HTTP", more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, creationTimestamp: "2026-01-01T00:00:00Z"}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: port-{port}, protocol: {protocol}}}
    hosts: [{hosts}]
    {more}
"""


def virtual_service(name: str, host: str, gateways: str, prefix: str = "/", namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: ["{host}"]
  gateways: [{gateways}]
  http:
  - name: {name}
    match: [{{uri: {{prefix: {prefix}}}}}]
    route: [{{destination: {{host: reviews.default.svc.cluster.local}}}}]
"""


def check(mesh: Mesh, table: str, expect: dict[str, list[str]]) -> None:
    """Domain -> the names of its routes, in one route table of the ingress gateway."""
    hosts = gateway_virtual_hosts(mesh.db, table, EDGE)
    assert {host.domains[0]: [route.name for route in host.routes] for host in hosts} == expect


def edge(*texts: str) -> Mesh:
    return Mesh(GATEWAY_SERVICE, service("reviews", ip="10.96.0.1"), *texts)


def test_the_gateways_own_service_says_where_a_port_is_served():
    mesh = edge(gateway("a"), gateway("b", port=9000))
    found = gateway_ports(mesh.db, EDGE)
    assert [(place.port, [server.service_port for server in place.servers]) for place in found] == [
        (8080, [80]),
        (9000, [9000]),
    ]


def test_a_selector_that_does_not_match_serves_nothing():
    mesh = edge(gateway("a").replace("istio: ingressgateway", "istio: egressgateway"))
    assert gateway_ports(mesh.db, EDGE) == ()


def test_a_services_label_keeps_its_ports_as_they_are():
    labels = "labels: {experimental.istio.io/disable-gateway-port-translation: 'true'}"
    mesh = Mesh(GATEWAY_SERVICE.replace("namespace: istio-system", f"namespace: istio-system, {labels}"), gateway("a"))
    assert [place.port for place in gateway_ports(mesh.db, EDGE)] == [80]


OWN_ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: edge, namespace: istio-system}
spec:
  hosts: [edge.example.com]
  ports: [{number: 80, targetPort: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{address: 10.0.0.9}]
"""


def test_a_service_that_names_the_gateways_address_is_the_gateways_own():
    mesh = Mesh(OWN_ENTRY, gateway("a"))
    own = EDGE._replace(serving=(ObjectKey("", "ServiceEntry", "istio-system", "edge"),))
    assert [place.port for place in gateway_ports(mesh.db, own)] == [8080]
    assert [place.port for place in gateway_ports(mesh.db, EDGE)] == [80]


def test_a_gateway_may_name_services_instead_of_labels():
    named = gateway("a").replace(
        "name: a,", "name: a, annotations: {internal.istio.io/gateway-service: edge.example.com},"
    )
    named = named.replace("selector: {istio: ingressgateway}", "selector: {}")
    mesh = Mesh(OWN_ENTRY, named, named.replace("name: a,", "name: b,").replace("number: 80", "number: 82"))
    own = EDGE._replace(serving=(ObjectKey("", "ServiceEntry", "istio-system", "edge"),))
    assert [place.port for place in gateway_ports(mesh.db, own)] == [8080]
    assert gateway_ports(mesh.db, EDGE) == ()


def test_a_gateway_selects_workloads_everywhere_unless_the_mesh_says_otherwise():
    assert gateway_ports(Mesh(gateway("a")).db, EDGE) != ()
    scoped = Mesh(gateway("a"), settings=Settings(scope_gateways=True))
    assert gateway_ports(scoped.db, EDGE) == ()
    assert gateway_ports(scoped.db, EDGE._replace(namespace="default")) != ()


def test_a_gateway_may_select_on_any_label():
    mesh = Mesh(gateway("a").replace("istio: ingressgateway", "app: istio-ingressgateway, istio: ingressgateway"))
    assert [place.port for place in gateway_ports(mesh.db, EDGE)] == [80]
    assert gateway_ports(mesh.db, EDGE._replace(labels=EDGE.labels[:1])) == ()


def test_a_rule_is_bound_by_its_gateways_name_and_namespace():
    mesh = edge(
        gateway("a"),
        virtual_service("same", "a.example.com", "a"),
        virtual_service("named", "b.example.com", "default/a", namespace="other"),
        virtual_service("wrong", "c.example.com", "a", namespace="other"),
    )
    check(mesh, "http.8080", {"a.example.com": ["same"], "b.example.com": ["named"]})


def test_a_server_takes_the_hosts_it_names_and_the_namespaces_it_names():
    mesh = edge(
        gateway("a", '"default/*.example.com", "other/only.example.org"'),
        virtual_service("one", "shop.example.com", "a"),
        virtual_service("two", "shop.example.net", "a"),
        virtual_service("three", "only.example.org", "a"),
        virtual_service("four", "*", "default/a", namespace="other"),
    )
    check(mesh, "http.8080", {"shop.example.com": ["one"], "only.example.org": ["four"]})


def test_routes_of_several_rules_for_one_host_are_joined_and_what_takes_all_comes_last():
    mesh = edge(
        gateway("a"),
        virtual_service("all", "shop.example.com", "a").replace("spec:", "spec:"),
        virtual_service("static", "shop.example.com", "a", "/static"),
    )
    check(mesh, "http.8080", {"shop.example.com": ["static", "all"]})


def test_two_gateways_may_share_a_port():
    mesh = edge(
        gateway("a", '"a.example.com"'),
        gateway("b", '"b.example.com"'),
        virtual_service("one", "a.example.com", "a"),
        virtual_service("two", "b.example.com", "b"),
    )
    check(mesh, "http.8080", {"a.example.com": ["one"], "b.example.com": ["two"]})


def test_a_port_that_is_taken_for_something_else_stays_the_older_ones():
    mesh = edge(
        gateway("a"),
        gateway("b", protocol="TCP").replace("2026-01-01", "2026-01-02"),
    )
    conflicts = gateway_conflicts(mesh.db, EDGE)
    assert [(each.server.gateway.name, each.taken_by.gateway.name) for each in conflicts] == [("b", "a")]


def test_a_virtual_host_has_the_port_that_people_call():
    mesh = edge(gateway("a"), virtual_service("one", "shop.example.com", "a"))
    (host,) = gateway_virtual_hosts(mesh.db, "http.8080", EDGE)
    assert host.name == "shop.example.com:80"


def test_a_host_of_which_no_rule_speaks_here_does_not_hide_a_wider_one():
    elsewhere = virtual_service("one", "shop.example.com", "a").replace("match: [{", "match: [{port: 81, ")
    mesh = edge(gateway("a"), elsewhere, virtual_service("wide", "*.example.com", "a"))
    check(mesh, "http.8080", {"*.example.com": ["wide"]})


def test_what_two_gateways_say_alike_is_said_once():
    mesh = edge(gateway("a"), gateway("b"), virtual_service("one", "shop.example.com", "a, b"))
    check(mesh, "http.8080", {"shop.example.com": ["one"]})


def test_servers_at_one_address_have_a_table_of_their_own():
    mesh = edge(gateway("a", more="bind: 10.0.0.1"), gateway("b"), virtual_service("one", "a.example.com", "a"))
    check(mesh, "http.8080.10.0.0.1", {"a.example.com": ["one"]})
    check(mesh, "http.8080", {})


def test_a_redirect_to_https_holds_for_the_hosts_that_rules_name():
    mesh = edge(
        gateway("a", '"*.example.com"', more="tls: {httpsRedirect: true}"),
        virtual_service("one", "shop.example.com", "a"),
    )
    found = gateway_virtual_hosts(mesh.db, "http.8080", EDGE)
    assert [(host.domains[0], host.require_tls) for host in found] == [
        ("*.example.com", True),
        ("shop.example.com", True),
    ]


def test_a_redirect_to_https_needs_no_rule():
    mesh = edge(gateway("a", '"shop.example.com"', more="tls: {httpsRedirect: true}"))
    (host,) = gateway_virtual_hosts(mesh.db, "http.8080", EDGE)
    assert (host.domains, host.require_tls) == (("shop.example.com",), True)
