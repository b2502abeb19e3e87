"""What the Gateway API's objects come to: who is served, by which routes, and in which order they are asked."""

from __future__ import annotations

import base64

from doubles.certificates import Authority
from doubles.meshes import Mesh, service
from ostria.envoy import sds
from ostria.mesh.backend_tls import verdicts
from ostria.mesh.destinations import traffic_policy
from ostria.mesh.gateway_api import key_of, parents_of
from ostria.mesh.gateways import gateway_virtual_hosts
from ostria.mesh.listeners import connection_routes, connection_scope
from ostria.mesh.model import ClientTls, MissingDestination, Route, TlsMode, Verdict
from ostria.mesh.routes import virtual_host, virtual_host_scope
from ostria.mesh.traits import ClientTraits, ProxyType

EDGE = ClientTraits(ProxyType.GATEWAY, "default", (("gateway.networking.k8s.io/gateway-name", "edge"),))

# What the mesh makes for a Gateway that names no Service.
EDGE_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: edge-istio, namespace: default}
spec:
  clusterIP: 10.96.0.100
  selector: {gateway.networking.k8s.io/gateway-name: edge}
  ports: [{port: 80, name: http}, {port: 443, name: https}]
"""

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: %s, labels: {%s}}
"""


def gateway(listeners: str, name: str = "edge") -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  gatewayClassName: istio
  listeners: {listeners}
"""


def route(
    name: str,
    rules: str,
    *,
    hostnames: str = "",
    parent: str = "name: edge, namespace: default",
    namespace: str = "default",
    made: str = "2026-01-01T00:00:00Z",
    kind: str = "HTTPRoute",
) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{made}"}}
spec:
  parentRefs: [{{{parent}}}]
  hostnames: [{hostnames}]
  rules: {rules}
"""


def to(backend: str, match: str = "", name: str = "", more: str = "") -> str:
    matches = f"matches: [{{{match}}}], " if match else ""
    named = f"name: {name}, " if name else ""
    return f"{{{named}{matches}{more}backendRefs: [{backend}]}}"


REVIEWS, RATINGS = "{name: reviews, port: 9080}", "{name: ratings, port: 9080}"
EVERYWHERE = "[{name: web, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]"


def edge(*texts: str) -> Mesh:
    around = (EDGE_SERVICE, service("reviews", ip="10.96.0.1"), service("ratings", ip="10.96.0.2"))
    return Mesh(*around, *texts)


def check(mesh: Mesh, expect: dict[str, list[str]], table: str = "http.80") -> None:
    """Host -> the names of its routes, in one route table of the Gateway's own proxy."""
    hosts = gateway_virtual_hosts(mesh.db, table, EDGE)
    assert {host.domains[0]: [each.name for each in host.routes] for host in hosts} == expect


def the_route(mesh: Mesh, table: str = "http.80") -> Route:
    (host,) = gateway_virtual_hosts(mesh.db, table, EDGE)
    (found,) = host.routes
    return found


def refusal(mesh: Mesh, name: str, namespace: str = "default", kind: str = "HTTPRoute") -> Verdict | None:
    (parent,) = parents_of(mesh.db, key_of(mesh.db, kind, namespace, name))
    return parent.refused


def test_a_route_is_served_at_the_hosts_that_it_and_the_listener_have_in_common():
    listeners = '[{name: web, port: 80, protocol: HTTP, hostname: "*.example.com"}]'
    hostnames = '"shop.example.com", "*.shop.example.com", "other.org"'
    mesh = edge(gateway(listeners), route("a", f"[{to(REVIEWS)}]", hostnames=hostnames))
    check(mesh, {"*.shop.example.com": ["default.a.0"], "shop.example.com": ["default.a.0"]})


def test_the_most_specific_match_is_asked_first_whichever_route_it_stands_in():
    exact = to(REVIEWS, "path: {type: Exact, value: /a}", "exact")
    longer = to(REVIEWS, "path: {value: /a/b}", "longer")
    posts = to(REVIEWS, "path: {value: /a}, method: POST", "posts")
    headers = to(REVIEWS, "path: {value: /a}, headers: [{name: x, value: z}]", "headers")
    query = to(REVIEWS, "path: {value: /a}, queryParams: [{name: x, value: z}]", "query")
    plain, everything = to(REVIEWS, "path: {value: /a}", "plain"), to(REVIEWS, "", "everything")
    mesh = edge(
        gateway(EVERYWHERE),
        route("one", f"[{everything}, {plain}, {query}, {posts}]"),
        route("two", f"[{headers}, {longer}, {exact}]", made="2026-02-01T00:00:00Z"),
    )
    check(mesh, {"*": ["exact", "longer", "posts", "headers", "query", "plain", "everything"]})


def test_of_two_equal_matches_the_older_routes_goes_first_then_the_first_by_name():
    mesh = edge(
        gateway(EVERYWHERE),
        route("b", f"[{to(REVIEWS)}]"),
        route("young", f"[{to(REVIEWS)}]", made="2026-02-01T00:00:00Z"),
        route("a", f"[{to(REVIEWS)}, {to(RATINGS)}]"),
    )
    check(mesh, {"*": ["default.a.0", "default.a.1", "default.b.0", "default.young.0"]})


def test_a_host_that_another_listener_names_more_exactly_is_that_listeners():
    wide, narrow = (f'{{name: {name}, port: 80, protocol: HTTP, hostname: "{host}"}}' for name, host in (
        ("wide", "*.example.com"), ("narrow", "a.example.com")))  # fmt: skip
    mesh = edge(
        gateway(f"[{wide}, {narrow}]"),
        route(
            "w",
            f"[{to(REVIEWS)}]",
            parent="name: edge, sectionName: wide",
            hostnames='"a.example.com", "b.example.com"',
        ),
        route("exact", f"[{to(REVIEWS)}]", parent="name: edge, sectionName: narrow"),
    )
    check(mesh, {"a.example.com": ["default.exact.0"], "b.example.com": ["default.w.0"]})


def test_a_listener_says_from_where_it_takes_routes():
    selector = "{from: Selector, selector: {matchLabels: {team: shop}}}"
    mesh = edge(
        NAMESPACE % ("shop", "team: shop"),
        NAMESPACE % ("else", "team: other"),
        gateway(f"[{{name: web, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: {selector}}}}}]"),
        route("a", f"[{to(REVIEWS)}]", namespace="shop"),
        route("b", f"[{to(REVIEWS)}]", namespace="else"),
    )
    check(mesh, {"*": ["shop.a.0"]})
    refused = refusal(mesh, "b", "else")
    assert refused is not None
    assert refused.reason == "NotAllowedByListeners"
    mesh.apply(NAMESPACE % ("else", "team: shop"))
    check(mesh, {"*": ["shop.a.0", "else.b.0"][::-1]})


def test_a_route_asks_for_a_listener_by_name_or_by_port():
    listeners = "[{name: web, port: 80, protocol: HTTP}, {name: api, port: 8080, protocol: HTTP}]"
    mesh = edge(
        gateway(listeners),
        route("named", f"[{to(REVIEWS)}]", parent="name: edge, sectionName: web"),
        route("numbered", f"[{to(REVIEWS)}]", parent="name: edge, port: 9999"),
    )
    check(mesh, {"*": ["default.named.0"]})
    refused = refusal(mesh, "numbered")
    assert refused is not None
    assert refused.reason == "NoMatchingParent"


def test_a_backend_elsewhere_needs_a_grant():
    elsewhere = "{name: details, namespace: shop, port: 9080}"
    mesh = edge(
        service("details", namespace="shop", ip="10.96.0.9"), gateway(EVERYWHERE), route("a", f"[{to(elsewhere)}]")
    )
    assert isinstance(the_route(mesh).targets[0].cluster, MissingDestination)
    assert the_route(mesh).missing_status == 500
    mesh.apply("""
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: in, namespace: shop}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: "", kind: Service}]
""")
    assert the_route(mesh).targets[0].cluster.name == "outbound|9080||details.shop.svc.cluster.local"


def test_a_rule_without_backends_answers_500():
    mesh = edge(gateway(EVERYWHERE), route("a", "[{matches: [{path: {value: /a}}]}]"))
    response = the_route(mesh).response
    assert response is not None
    assert response.status == 500


def test_a_redirects_port_is_said_only_where_it_does_not_go_without_saying():
    def port_of(redirect: str, listener_port: int = 80) -> int | None:
        filters = f"[{{filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}]"
        listeners = f"[{{name: web, port: {listener_port}, protocol: HTTP}}]"
        more = EDGE_SERVICE.replace("port: 80,", f"port: {listener_port}, targetPort: 80,")
        found = the_route(Mesh(more, gateway(listeners), route("a", filters))).redirect
        assert found is not None
        return found.port

    assert port_of("hostname: a.org") is None
    assert port_of("hostname: a.org", 8080) == 8080
    assert port_of("scheme: https", 8080) is None
    assert port_of("scheme: https, port: 8443") == 8443


def test_a_grpc_method_is_a_path():
    methods = {
        "service: a.B, method: C": "/a.B/C",
        "service: a.B": "/a.B/",
        "method: C": "/[^/]+/C",
        "type: RegularExpression, service: 'a.*'": "/a.*/.+",
    }
    for method, path in methods.items():
        rule = f"[{{matches: [{{method: {{{method}}}}}], backendRefs: [{REVIEWS}]}}]"
        found = the_route(edge(gateway(EVERYWHERE), route("a", rule, kind="GRPCRoute"))).match.path
        assert found is not None
        assert found.value == path


def test_listeners_of_a_set_are_the_gateways_where_it_lets_them_in():
    listener_set = """
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: default}
spec:
  parentRef: {name: edge}
  listeners: [{name: shop, port: 80, protocol: HTTP, hostname: shop.org}]
"""
    own = gateway('[{name: web, port: 80, protocol: HTTP, hostname: "*.com"}]')
    mesh = edge(own, listener_set, route("a", f"[{to(REVIEWS)}]", parent="name: more, kind: ListenerSet"))
    check(mesh, {})
    mesh.apply(own + "  allowedListeners: {namespaces: {from: Same}}\n")
    check(mesh, {"shop.org": ["default.a.0"]})


SHOP = Authority().issue("shop.org")
CERTIFICATE = f"""
apiVersion: v1
kind: Secret
metadata: {{name: shop-cert, namespace: %s}}
data:
  tls.crt: {base64.b64encode(SHOP.certificate).decode()}
  tls.key: {base64.b64encode(SHOP.key).decode()}
"""


def test_a_certificate_goes_to_those_gateways_only_whose_listeners_may_name_it():
    tls = "tls: {certificateRefs: [{name: shop-cert, namespace: shop}]}"
    listeners = f"[{{name: web, port: 443, protocol: HTTPS, hostname: shop.org, {tls}}}]"
    mesh = edge(CERTIFICATE % "shop", gateway(listeners), route("a", f"[{to(REVIEWS)}]"))
    name = "kubernetes-gateway://shop/shop-cert"
    other = EDGE._replace(labels=(("gateway.networking.k8s.io/gateway-name", "other"),))
    assert [sds.resource(mesh.db, name, client) for client in (EDGE, other)] == [None, None]
    mesh.apply("""
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: in, namespace: shop}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}]
  to: [{group: "", kind: Secret}]
""")
    found = sds.resource(mesh.db, name, EDGE)
    assert found is not None
    assert found.name == name
    assert sds.resource(mesh.db, name, other) is None
    assert sds.resource(mesh.db, name, ClientTraits(namespace="default")) is None
    check(mesh, {"shop.org": ["default.a.0"]}, "https.443.default.edge~istio-autogenerated-k8s-gateway~web.default")


# --- inside the mesh ----------------------------------------------------------------------------------------------

TO_REVIEWS = "group: '', kind: Service, name: reviews, namespace: default"


def called(mesh: Mesh, namespace: str, host: str = "reviews.default.svc.cluster.local") -> list[str]:
    """The clusters that calls of a sidecar in a namespace go to."""
    client = virtual_host_scope(mesh.db, host, 9080).project(ClientTraits(namespace=namespace))
    found = virtual_host(mesh.db, host, 9080, client)
    assert found is not None
    return [target.cluster.host.partition(".")[0] for each in found.routes for target in each.targets]


def test_a_producers_route_is_for_every_client_and_a_consumers_for_its_own_namespace():
    mesh = edge(
        route("producer", f"[{to(RATINGS)}]", parent=TO_REVIEWS), service("mine", namespace="shop", ip="10.96.0.7")
    )
    assert [called(mesh, namespace) for namespace in ("default", "shop", "else")] == [["ratings"]] * 3
    consumer = route("consumer", f"[{to('{name: mine, port: 9080}')}]", parent=TO_REVIEWS, namespace="shop")
    mesh.apply(consumer)
    assert [called(mesh, namespace) for namespace in ("default", "shop", "else")] == [
        ["ratings"],
        ["mine"],
        ["ratings"],
    ]
    mesh.delete("HTTPRoute", "producer")
    assert [called(mesh, namespace) for namespace in ("default", "shop", "else")] == [
        ["reviews"],
        ["mine"],
        ["reviews"],
    ]


def test_a_route_for_another_port_leaves_a_port_alone():
    mesh = edge(route("a", f"[{to(RATINGS)}]", parent=f"{TO_REVIEWS}, port: 1234"))
    assert called(mesh, "default") == ["reviews"]
    mesh.apply(route("a", f"[{to(RATINGS)}]", parent=f"{TO_REVIEWS}, port: 9080"))
    assert called(mesh, "default") == ["ratings"]


def test_connections_to_a_service_go_by_routes_that_name_it():
    host = "reviews.default.svc.cluster.local"

    def led() -> list[tuple[tuple[str, ...], str]]:
        client = connection_scope(mesh.db, host).project(ClientTraits(namespace="default"))
        found = connection_routes(mesh.db, host, 9080, client, "10.96.0.1")
        return [(each.server_names, each.targets[0].cluster.host.partition(".")[0]) for each in found]

    mesh = edge(service("reviews", ip="10.96.0.1", port_name="tcp"))
    assert led() == [((), "reviews")]
    mesh.apply(route("a", f"[{to(RATINGS)}]", parent=TO_REVIEWS, kind="TCPRoute").replace("  hostnames: []\n", ""))
    assert led() == [((), "ratings")]
    mesh.apply(service("reviews", ip="10.96.0.1", port_name="tls"))
    mesh.apply(route("b", f"[{to(RATINGS)}]", parent=TO_REVIEWS, kind="TLSRoute", hostnames='"*.shop.org"'))
    assert led() == [(("*.shop.org",), "ratings")]


def test_a_prefix_that_is_replaced_by_nothing_leaves_the_slash():
    for replacement in ("''", "/"):
        path = f"path: {{type: ReplacePrefixMatch, replacePrefixMatch: {replacement}}}"
        filters = f"filters: [{{type: RequestRedirect, requestRedirect: {{{path}}}}}]"
        rule = f"{{matches: [{{path: {{value: /old}}}}], {filters}}}"
        found = the_route(edge(gateway(EVERYWHERE), route("a", f"[{rule}]"))).redirect
        assert found is not None
        assert found.path_prefix == "/"


def policy(name: str, validation: str, made: str = "2026-01-01T00:00:00Z", section: str = "") -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, creationTimestamp: "{made}"}}
spec:
  targetRefs: [{{group: "", kind: Service, name: reviews{section}}}]
  validation: {{{validation}}}
"""


def test_a_service_is_called_by_tls_where_its_own_policy_says_so():
    def tls() -> ClientTls:
        return traffic_policy(mesh.db, "reviews.default.svc.cluster.local", "shop", 9080, "").tls

    mesh = edge()
    assert tls().mode is TlsMode.AUTO
    mesh.apply(policy("young", "hostname: young.org, wellKnownCACertificates: System", "2026-02-01T00:00:00Z"))
    assert (tls().mode, tls().sni, tls().subject_alt_names) == (TlsMode.SIMPLE, "young.org", ("young.org",))
    mesh.apply(policy("old", "hostname: old.org, wellKnownCACertificates: System"))
    assert tls().sni == "old.org"
    (judged,) = verdicts(mesh.db, key_of(mesh.db, "BackendTLSPolicy", "default", "young"))
    assert judged.unaccepted is not None
    assert judged.unaccepted.reason == "Conflicted"
    mesh.apply(policy("port", "hostname: port.org, wellKnownCACertificates: System", section=", sectionName: http"))
    assert tls().sni == "port.org"


def test_a_policy_whose_authorities_are_not_there_trusts_nobody():
    mesh = edge(policy("a", "hostname: a.org, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]"))
    found = traffic_policy(mesh.db, "reviews.default.svc.cluster.local", "shop", 9080, "").tls
    assert found.subject_alt_names == ("nobody.invalid",)
    pem = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----"
    mesh.apply(f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: ca}}
data: {{ca.crt: "{pem}"}}
""")
    found = traffic_policy(mesh.db, "reviews.default.svc.cluster.local", "shop", 9080, "").tls
    assert found.subject_alt_names == ("a.org",)
    assert found.signers.startswith("-----BEGIN")


# --- what it costs ------------------------------------------------------------------------------------------------


def test_a_status_wakes_nobody_who_routes():
    text = route("a", f"[{to(REVIEWS)}]")
    mesh = edge(gateway(EVERYWHERE), text)
    check(mesh, {"*": ["default.a.0"]})
    mesh.ran()
    mesh.apply(text + "status: {parents: [{controllerName: x, parentRef: {name: edge}}]}\n")
    check(mesh, {"*": ["default.a.0"]})
    again = set(mesh.ran())
    assert "mesh.gateway_api.declared.route_spec" in again
    assert not {"mesh.gateway_api.reader.routes", "mesh.gateway_api.parents.parents"} & again
