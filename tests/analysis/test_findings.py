"""What is wrong with a mesh although every object by itself is right."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.analysis import findings
from ostria.mesh.settings import Settings

RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [reviews]
  gateways: [mesh%s]
  http: [{route: [{destination: %s}]}]
"""
DESTINATION = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: reviews, subsets: [{name: version-1, labels: {version: v1}}]}
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: %s, creationTimestamp: "%s"}
spec: {selector: {%s}, servers: [{port: {number: 80, name: p, protocol: %s}, hosts: ["*"]}]}
"""
EDGE = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  labels: {app: istio-ingressgateway, istio: ingressgateway}
  annotations: {inject.istio.io/templates: gateway}
"""


def check(mesh: Mesh, *expect: str) -> None:
    """`code field: hint` of everything that is found."""
    found = [f"{problem.code} {problem.field}: {problem.hint}" for problem in findings(mesh.db)]
    assert found == list(expect)


def shop(destination: str, gateways: str = "") -> Mesh:
    return Mesh(service("reviews", ip="10.96.0.1"), DESTINATION, RULE % (gateways, destination))


def test_nothing_is_wrong():
    check(shop("{host: reviews, subset: version-1, port: {number: 9080}}"))


def test_a_misspelt_subset_is_said_of_its_field_with_the_nearest_name():
    check(
        shop("{host: reviews, subset: version1}"),
        "missing-subset spec.http[0].route[0].destination.subset: did you mean `version-1`?",
    )


def test_a_host_that_nobody_has():
    check(
        shop("{host: review}"),
        "missing-host spec.http[0].route[0].destination.host: did you mean `reviews.default.svc.cluster.local`?",
    )


def test_a_port_that_the_host_does_not_have():
    check(
        shop("{host: reviews, port: {number: 80}}"),
        "missing-port spec.http[0].route[0].destination.port.number: it has 9080",
    )


def test_a_gateway_that_does_not_exist():
    check(shop("{host: reviews}", ", edge"), "missing-gateway spec.gateways[1]: ")


def test_what_was_missing_and_comes_is_found_no_more():
    mesh = shop("{host: later}")
    assert [problem.code for problem in findings(mesh.db)] == ["missing-host"]
    mesh.apply(service("later", ip="10.96.0.2"))
    check(mesh)


def test_a_selector_that_no_pod_matches_names_the_nearest_labels():
    mesh = Mesh(EDGE, GATEWAY % ("g", "2026-01-01T00:00:00Z", "app: ingressgateway", "HTTP"))
    check(
        mesh,
        "gateway-without-workload spec.selector: "
        "the gateways that run have app=istio-ingressgateway and istio=ingressgateway",
    )


def test_the_younger_of_two_gateways_that_want_one_port_is_told():
    mesh = Mesh(
        EDGE,
        GATEWAY % ("old", "2026-01-01T00:00:00Z", "istio: ingressgateway", "HTTP"),
        GATEWAY % ("young", "2026-01-02T00:00:00Z", "istio: ingressgateway", "TCP"),
    )
    check(
        mesh,
        "gateway-conflict spec.servers[0]: use another port, or a gateway workload of its own; "
        "until then the older of the two is served",
    )


def test_a_name_that_has_a_certificate_already_is_told():
    secure = GATEWAY.replace('hosts: ["*"]', 'hosts: ["*"], tls: {mode: SIMPLE, credentialName: a}')
    mesh = Mesh(
        EDGE,
        secure % ("old", "2026-01-01T00:00:00Z", "istio: ingressgateway", "HTTPS"),
        secure % ("young", "2026-01-02T00:00:00Z", "istio: ingressgateway", "HTTPS"),
    )
    (problem,) = (each for each in findings(mesh.db) if each.code == "gateway-conflict")
    assert "is taken by Gateway default/old: a name has one certificate" in problem.message


def test_a_rule_whose_hosts_its_gateway_does_not_have():
    gateway = (GATEWAY % ("edge", "2026-01-01T00:00:00Z", "istio: ingressgateway", "HTTP")).replace(
        '"*"', "other/a.b, c.d"
    )
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec: {hosts: [%s], gateways: [edge], http: [{redirect: {uri: /}}]}
"""
    hint = "host-not-at-gateway spec.gateways[0]: it has c.d, other/a.b"
    check(Mesh(EDGE, gateway, rule % "a.b"), hint)
    check(Mesh(EDGE, gateway, rule % "e.f"), hint)
    check(Mesh(EDGE, gateway, rule % '"*"'))


INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: default, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}}]
"""


def test_an_ingress_whose_service_is_not_there_or_that_no_gateway_serves():
    mesh = Mesh(EDGE, INGRESS)
    check(mesh, "missing-port spec.rules[0].http.paths[0].backend.service: ")
    others = INGRESS.replace("class: istio", "class: nginx")
    check(Mesh(EDGE, others))
    check(
        Mesh(service("shop", 80, ip="10.96.0.9"), INGRESS),
        "gateway-without-workload spec.ingressClassName: install a gateway, or mend the selector",
    )


def test_a_delegate_must_be_there_and_ask_for_no_more_than_the_root():
    mesh = Mesh(
        service("reviews", ip="10.96.0.1"),
        """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec: {hosts: [reviews], http: [{delegate: {name: other}}]}
""",
    )
    problem = "missing-delegate spec.http[0].delegate: it must exist, have no hosts, and be exported to this namespace"
    check(mesh, problem)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other, namespace: default}
spec: {http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: reviews}}]}]}
""")
    check(mesh)
    mesh.apply("""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: default}
spec: {hosts: [reviews], http: [{match: [{uri: {exact: /b}}], delegate: {name: other}}]}
""")
    hint = "let the delegate match a part of what is matched here, without regular expressions in both"
    check(mesh, f"delegate-conflict spec.http[0]: {hint}")


def test_a_host_for_which_an_older_rule_speaks():
    def rule(name: str, day: int, more: str = "") -> str:
        return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: default, creationTimestamp: "2026-01-0{day}T00:00:00Z"}}
spec: {{hosts: [reviews], {more} http: [{{route: [{{destination: {{host: reviews}}}}]}}]}}
"""

    hint = "write the rules into one of the two, or say with exportTo to whom each of them speaks"
    mesh = Mesh(service("reviews", ip="10.96.0.1"), rule("old", 1), rule("young", 2))
    check(mesh, f"shadowed-host spec.hosts[0]: {hint}")
    mesh.apply(rule("old", 1, "exportTo: [shop],"), rule("young", 2, "exportTo: [default],"))
    check(mesh)


def test_what_is_for_waypoints_says_that_there_are_none() -> None:
    mesh = Mesh(
        """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: f}
spec: {configPatches: [{applyTo: CLUSTER, match: {context: WAYPOINT}, patch: {operation: REMOVE}}]}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: p}
spec: {url: 'file:///p.wasm', targetRefs: [{kind: Service, name: reviews}]}
"""
    )
    rest = "there are no waypoints here: name the workloads, or a gateway"
    check(
        mesh,
        f"not-acted-on spec.configPatches[0]: {rest}",
        f"not-acted-on spec.targetRefs[0]: {rest}",
    )


def test_a_field_without_effect_is_said_of_the_object_that_has_it():
    mesh = Mesh("""
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: machines}
spec: {template: {serviceAccount: machine}}
""")
    assert [problem.code for problem in findings(mesh.db)] == ["not-acted-on"]


def test_what_is_exported_further_than_tenants_hear_it():
    here = "write exportTo: [.], or have it written in istio-system, which speaks to all"
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec: {hosts: [api.example.com], %s resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
"""
    rule = RULE.replace("[reviews]", "[reviews, %s]") % ("%s", "", "{host: reviews}")
    parts = (service("reviews", ip="10.96.0.1"), service("ratings", ip="10.96.0.2"))
    apart = Settings(strict_tenancy=True)
    check(Mesh(*parts, entry % "exportTo: ['.'],", rule % "ratings", settings=apart))
    problem = f"kept-at-home spec.exportTo: {here}"
    check(Mesh(*parts, entry % "", rule % "ratings.shop", settings=apart), problem, problem)
    check(Mesh(*parts, entry % "", rule % "ratings.shop"))


def test_a_server_name_that_an_older_rule_has_at_the_gateway_is_told():
    gateway = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: p, protocol: TLS}, hosts: ["*.B.example"], tls: {mode: PASSTHROUGH}}]
"""
    rule = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: %s, creationTimestamp: "2026-01-0%dT00:00:00Z"}
spec:
  hosts: ["*.b.example"]
  gateways: [g]
  tls: [{match: [{sniHosts: [%s]}], route: [{destination: {host: reviews, port: {number: 9080}}}]}]
"""
    old, young = rule % ("old", 1, '"*.b.example", a.b.example'), rule % ("young", 2, "a.b.example, c.b.example")
    mesh = Mesh(EDGE, service("reviews", ip="10.96.0.1"), gateway, old, young)
    (problem,) = findings(mesh.db)
    assert (problem.code, problem.object and problem.object.name, problem.field) == (
        "shadowed-server-name",
        "young",
        "spec.tls[0].match[0]",
    )
    assert problem.message.startswith("a.b.example is taken by VirtualService default/old")
