"""What a change behind a gateway costs: the virtual hosts that it is about, and not the table."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.envoy.catalogue import fragment
from ostria.envoy.fragments import ResourceType
from ostria.mesh.traits import ClientTraits, ProxyType

EDGE = ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),))

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ["*"]}]}
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec:
  hosts: [NAME.example.com]
  gateways: [edge]
  http: [{match: [{uri: {prefix: /PATH}}], route: [{destination: {host: reviews}}]}]
"""
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: NAME, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules:
  - host: NAME.example.com
    http: {paths: [{path: /PATH, pathType: Prefix, backend: {service: {name: reviews, port: {number: 9080}}}}]}
"""


def costs(text: str) -> tuple[list[str], list[str]]:
    """The queries that run when one of many is edited, and when one more comes."""
    mesh = Mesh(service("reviews", ip="10.96.0.1"), GATEWAY)

    def apply(name: str, path: str) -> list[str]:
        mesh.apply(text.replace("NAME", name).replace("PATH", path))
        found = fragment(mesh.db, ResourceType.ROUTES, "http.80", EDGE)
        assert found is not None
        assert f"{name}.example.com".encode() in found.body
        assert path.encode() in found.body
        return mesh.ran()

    for number in range(30):
        apply(f"n{number}", "before")
    return apply("n7", "after"), apply("new", "path")


def test_a_rule_costs_its_host() -> None:
    for ran in costs(RULE):
        assert ran.count("envoy.rds._gateway_host") == 1
        assert len(ran) < 20, "less than one query a host"


def test_an_ingress_costs_its_host() -> None:
    for ran in costs(INGRESS):
        assert ran.count("envoy.rds._gateway_host") == 1
        assert len(ran) < 30, "less than one query a host"
