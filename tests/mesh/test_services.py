"""Which hosts the mesh knows, who sees them, and what they speak."""

from __future__ import annotations

import pytest

from doubles.meshes import Mesh, service
from ostria.mesh.model import Protocol
from ostria.mesh.protocols import protocol_of
from ostria.mesh.services import service as service_of
from ostria.mesh.services import wildcards_over
from ostria.resources.kubernetes import ServicePort

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{created}"}}
spec:
  hosts: [api.example.com]
  ports: [{{number: {port}, name: https, protocol: TLS}}]
  resolution: DNS
  exportTo: [{export}]
"""


def entry(name: str, namespace: str, port: int, export: str = "'*'", created: str = "2026-01-01T00:00:00Z") -> str:
    return ENTRY.format(name=name, namespace=namespace, port=port, export=export, created=created)


def seen_port(mesh: Mesh, namespace: str) -> int | None:
    found = service_of(mesh.db, "api.example.com", namespace)
    return found.ports[0].number if found else None


def test_a_client_sees_its_own_namespaces_declaration_of_a_host_first():
    mesh = Mesh(entry("one", "a", 1), entry("two", "b", 2))
    assert (seen_port(mesh, "a"), seen_port(mesh, "b")) == (1, 2)


def test_others_see_the_oldest_declaration():
    mesh = Mesh(entry("one", "a", 1, created="2026-01-02T00:00:00Z"), entry("two", "b", 2))
    assert seen_port(mesh, "c") == 2


def test_what_is_not_exported_is_not_seen():
    mesh = Mesh(entry("one", "a", 1, export="."))
    assert (seen_port(mesh, "a"), seen_port(mesh, "b")) == (1, None)


def test_a_kubernetes_service_may_be_kept_to_some_namespaces():
    text = service("reviews", annotations={"networking.istio.io/exportTo": "a,."})
    mesh = Mesh(text)
    host = "reviews.default.svc.cluster.local"
    assert [service_of(mesh.db, host, each) is not None for each in ("a", "default", "b")] == [True, True, False]


def test_a_headless_service_has_no_address_of_its_own():
    found = service_of(Mesh(service("web")).db, "web.default.svc.cluster.local", "")
    assert found is not None
    assert (found.addresses, found.resolution.value) == ((), "original")


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        (ServicePort(80, name="http"), Protocol.HTTP),
        (ServicePort(80, name="http-web"), Protocol.HTTP),
        (ServicePort(80, name="httpweb"), Protocol.AUTO),
        (ServicePort(80, name="grpc-web"), Protocol.GRPC_WEB),
        (ServicePort(80, name="grpc-api"), Protocol.GRPC),
        (ServicePort(80, name="tcp-echo"), Protocol.TCP),
        (ServicePort(443, name="https"), Protocol.HTTPS),
        (ServicePort(80), Protocol.AUTO),
        (ServicePort(3306), Protocol.MYSQL),
        (ServicePort(53, protocol="UDP"), Protocol.UDP),
        (ServicePort(80, name="tcp", app_protocol="http"), Protocol.HTTP),
        (ServicePort(80, app_protocol="kubernetes.io/h2c"), Protocol.HTTP2),
        (ServicePort(80, name="http", app_protocol="example.com/own"), Protocol.AUTO),
    ],
)
def test_what_a_port_speaks(port: ServicePort, protocol: Protocol):
    assert protocol_of(port) is protocol


def test_the_wildcards_over_a_host_become_less_specific():
    assert wildcards_over("a.b.c") == ("*.b.c", "*.c", "*")
    assert wildcards_over("*.b.c") == ("*.b.c", "*.c", "*")
    assert wildcards_over("*") == ("*",)
