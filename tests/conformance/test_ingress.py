"""Kubernetes Ingress to servers and routes: which ports with which hosts and certificates, and which path goes where.

The expectation is written as the Gateways and VirtualServices that the reference makes of an Ingress. Names aside they
are compared by meaning: servers as (port, hosts, secret), routes as (host, path, kind of match, destination), in order.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from doubles import conformance
from doubles.meshes import Mesh
from ostria.mesh.gateways import gateway_ports, gateway_virtual_hosts, route_table
from ostria.mesh.model import MatchKind, Route
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ClientTraits, ProxyType

SERVER_KEYS = {"hosts", "port", "tls"}
ROUTE_KEYS = {"match", "route"}


@pytest.mark.parametrize("case", conformance.cases("ingress"))
def test_ingress(case: dict[str, Any]) -> None:
    meta = json.loads(conformance.text("ingress", "expected.json"))["meta"]
    assert set(case) == {"name", "input", "expected"}, "the runner must know every key"
    documents = list(yaml.safe_load_all(conformance.text("ingress", case["expected"])))
    gateways = [document for document in documents if document and document["kind"] == "Gateway"]
    rules = [document for document in documents if document and document["kind"] == "VirtualService"]
    assert len(gateways) + len(rules) == len([document for document in documents if document])
    mesh = Mesh(
        mesh_config(meta["ingressClass"]),
        conformance.text("ingress", case["input"]),
        settings=Settings(root_namespace=meta["systemNamespace"], domain_suffix=meta["domainSuffix"]),
    )
    (selector,) = {tuple(sorted(gateway["spec"]["selector"].items())) for gateway in gateways}
    client = ClientTraits(ProxyType.GATEWAY, meta["systemNamespace"], selector)
    ports = gateway_ports(mesh.db, client)
    found = sorted(
        (server.service_port, tuple(host for _, host in server.hosts), server.tls.credential if server.tls else "")
        for port in ports
        for server in port.servers
    )
    assert found == sorted(expected_server(server) for gateway in gateways for server in gateway["spec"]["servers"])
    tables = sorted({route_table(server) for port in ports for server in port.servers})
    hosts = {host.domains[0]: host for table in tables for host in gateway_virtual_hosts(mesh.db, table, client)}
    assert {name: [told(route) for route in host.routes] for name, host in hosts.items()} == {
        host: [expected_route(route) for route in rule["spec"]["http"]]
        for rule in rules
        for host in rule["spec"]["hosts"]
    }


def mesh_config(ingress_class: str) -> str:
    """The cases name no class, and are meant for the mesh."""
    mesh = {"ingressClass": ingress_class, "ingressControllerMode": "DEFAULT"}
    metadata = {"name": "istio", "namespace": "istio-system"}
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": json.dumps(mesh)}}
    )


def expected_server(server: dict[str, Any]) -> tuple[int, tuple[str, ...], str]:
    assert set(server) <= SERVER_KEYS
    return server["port"]["number"], tuple(server["hosts"]), server.get("tls", {}).get("credentialName", "")


def expected_route(route: dict[str, Any]) -> tuple[str, str, str, int]:
    assert set(route) <= ROUTE_KEYS
    (target,) = route["route"]
    ((kind, text),) = route["match"][0]["uri"].items() if "match" in route else [("any", "")]
    return kind, text, target["destination"]["host"], target["destination"]["port"]["number"]


def told(route: Route) -> tuple[str, str, str, int]:
    """A route as (kind of match, path, host, port); a prefix of an Ingress is always one of path elements."""
    assert route.match._replace(path=None) == type(route.match)(), "an Ingress asks for a path only"
    path = route.match.path
    kinds = {MatchKind.EXACT: "exact", MatchKind.PATH_PREFIX: "prefix"}
    (target,) = route.targets
    return (kinds[path.kind] if path else "any", path.value if path else "", target.cluster.host, target.cluster.port)
