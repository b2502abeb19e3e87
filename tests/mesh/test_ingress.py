"""Kubernetes' Ingresses: which the mesh serves, on which ports, and what becomes of requests for their hosts."""

from __future__ import annotations

import json
from typing import Any

from doubles.meshes import Mesh, service
from ostria.mesh.gateways import gateway_conflicts, gateway_ports, gateway_virtual_hosts
from ostria.mesh.model import MissingDestination
from ostria.mesh.traits import ClientTraits, ProxyType

EDGE = ClientTraits(ProxyType.GATEWAY, "istio-system", (("istio", "ingressgateway"),))
ISTIO = {"kubernetes.io/ingress.class": "istio"}

CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}}}
spec: {{controller: {controller}}}
"""


def mesh_config(**values: Any) -> str:
    mesh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    return json.dumps({**mesh, "data": {"mesh": json.dumps(values)}})


def backend(port: int | str = 9080, name: str = "reviews") -> dict[str, Any]:
    return {"service": {"name": name, "port": {"name": port} if isinstance(port, str) else {"number": port}}}


def path(text: str, kind: str = "Prefix", to: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"path": text, "pathType": kind, "backend": to or backend()}


def ingress(
    name: str,
    rules: dict[str, list[dict[str, Any]]],
    *,
    day: int = 1,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> str:
    """An Ingress, by default of the mesh's class; rules are host -> paths."""
    listed = [{**({"host": host} if host else {}), "http": {"paths": paths}} for host, paths in rules.items()]
    metadata = {
        "name": name,
        "creationTimestamp": f"2026-01-0{day}T00:00:00Z",
        "annotations": ISTIO if annotations is None else annotations,
    }
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress"}
    return json.dumps({**kind, "metadata": metadata, "spec": {"rules": listed, **spec}})


def served(mesh: Mesh, table: str = "http.80") -> dict[str, list[str]]:
    """Domain -> its routes as "kind path -> port"."""
    return {
        host.domains[0]: [
            f"{f'{route.match.path.kind} {route.match.path.value}' if route.match.path else 'any'}"
            f" -> {route.targets[0].cluster.port}"
            for route in host.routes
        ]
        for host in gateway_virtual_hosts(mesh.db, table, EDGE)
    }


def edge(*texts: str) -> Mesh:
    return Mesh(service("reviews", ip="10.96.0.1"), *texts)


def one(**changes: Any) -> str:
    return ingress("one", {"a.example.com": [path("/")]}, **changes)


def test_an_ingress_is_the_meshs_by_its_annotation():
    assert served(edge(one())) == {"a.example.com": ["any -> 9080"]}
    assert served(edge(one(annotations={"kubernetes.io/ingress.class": "nginx"}))) == {}


def test_an_ingress_is_the_meshs_by_its_class():
    mine = CLASS.format(name="mine", controller="istio.io/ingress-controller")
    other = CLASS.format(name="other", controller="k8s.io/ingress-nginx")
    assert served(edge(mine, one(annotations={}, ingressClassName="mine"))) != {}
    assert served(edge(other, one(annotations={}, ingressClassName="other"))) == {}
    assert served(edge(one(annotations={}, ingressClassName="mine"))) == {}


def test_the_mode_says_what_becomes_of_ingresses_without_a_class():
    none = one(annotations={})
    assert served(edge(none)) == {}
    assert served(edge(none, mesh_config(ingressControllerMode="DEFAULT"))) != {}
    assert served(edge(one(), mesh_config(ingressControllerMode="OFF"))) == {}
    assert served(edge(one(), mesh_config(ingressClass="other"))) == {}


def test_the_mesh_says_which_gateway_serves_ingresses():
    labels = (("istio", "edge"),)
    mesh = edge(one(), mesh_config(ingressSelector="edge"))
    assert [place.port for place in gateway_ports(mesh.db, EDGE._replace(labels=labels))] == [80]
    assert gateway_ports(mesh.db, EDGE) == ()
    mesh = edge(one(), mesh_config(ingressSelector="", ingressService="edge"))
    assert [place.port for place in gateway_ports(mesh.db, EDGE._replace(labels=labels))] == [80]


def test_the_longest_path_counts_and_an_exact_one_before_a_prefix():
    mesh = edge(
        ingress(
            "one",
            {
                "": [
                    path("/a", "Prefix"),
                    path("/a/b", "Prefix"),
                    path("/a/b", "Exact"),
                    path("/c/*", "ImplementationSpecific"),
                    path("/dd", "ImplementationSpecific"),
                    path("", "ImplementationSpecific"),
                ]
            },
        )
    )
    assert served(mesh)["*"] == [
        "exact /a/b -> 9080",
        "path_prefix /a/b -> 9080",
        "exact /dd -> 9080",
        "path_prefix /a -> 9080",
        "path_prefix /c -> 9080",
        "any -> 9080",
    ]


def test_ingresses_that_share_a_host_share_its_paths():
    mesh = edge(
        service("ratings", 9081, ip="10.96.0.2"),
        ingress("late", {"a.example.com": [path("/a", to=backend(9081, "ratings")), path("/a/b")]}, day=2),
        ingress("early", {"a.example.com": [path("/a")]}),
    )
    assert served(mesh)["a.example.com"] == [
        "path_prefix /a/b -> 9080",
        "path_prefix /a -> 9080",
        "path_prefix /a -> 9081",
    ]


def test_the_default_backend_takes_what_no_rule_takes():
    mesh = edge(ingress("one", {"a.example.com": [path("/a")]}, defaultBackend=backend()))
    assert served(mesh) == {"a.example.com": ["path_prefix /a -> 9080", "any -> 9080"], "*": ["any -> 9080"]}


def test_a_service_port_may_be_named():
    assert served(edge(ingress("one", {"": [path("/", to=backend("http"))]}))) == {"*": ["any -> 9080"]}
    mesh = edge(ingress("one", {"": [path("/", to=backend("https"))]}))
    (host,) = gateway_virtual_hosts(mesh.db, "http.80", EDGE)
    assert isinstance(host.routes[0].targets[0].cluster, MissingDestination)


def test_a_certificate_opens_a_port_of_its_own():
    mesh = edge(one(tls=[{"hosts": ["a.example.com"], "secretName": "cert"}, {"hosts": ["b.example.com"]}]))
    (_, secure) = gateway_ports(mesh.db, EDGE)
    (server,) = secure.servers
    assert server.tls is not None
    assert (secure.port, server.hosts, server.tls.credential) == (443, (("*", "a.example.com"),), "cert")
    table = "https.443.https-443-ingress-one-default-0.one-istio-autogenerated-k8s-ingress-default.istio-system"
    assert served(mesh, table) == {"a.example.com": ["any -> 9080"]}


def test_of_two_certificates_for_a_host_the_older_ingress_has_it_and_serves_both():
    tls = [{"hosts": ["a.example.com"], "secretName": "cert"}]
    mesh = edge(
        one(tls=tls),
        service("ratings", 9081, ip="10.96.0.2"),
        ingress("two", {"a.example.com": [path("/b", to=backend(9081, "ratings"))]}, day=2, tls=tls),
    )
    table = "https.443.https-443-ingress-one-default-0.one-istio-autogenerated-k8s-ingress-default.istio-system"
    assert served(mesh, table) == {"a.example.com": ["path_prefix /b -> 9081", "any -> 9080"]}
    conflicts = gateway_conflicts(mesh.db, EDGE)
    assert [(each.server.gateway.name, each.taken_by.gateway.name) for each in conflicts] == [("two", "one")]


def test_a_certificate_for_one_name_opens_what_is_said_of_a_wider_host():
    wide = ingress("one", {"*.example.com": [path("/")]}, tls=[{"hosts": ["a.example.com"], "secretName": "cert"}])
    table = "https.443.https-443-ingress-one-default-0.one-istio-autogenerated-k8s-ingress-default.istio-system"
    assert served(edge(wide), table) == {"a.example.com": ["any -> 9080"]}


def test_a_host_with_and_without_a_rule_of_its_own():
    mesh = edge(ingress("one", {"": [path("/any")], "a.example.com": [path("/a")]}))
    assert served(mesh) == {"*": ["path_prefix /any -> 9080"], "a.example.com": ["path_prefix /a -> 9080"]}
