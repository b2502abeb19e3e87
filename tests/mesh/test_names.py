"""Which names a workload's sidecar answers for, and with which addresses."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.base import ObjectKey
from ostria.mesh.names import names_in, names_of

SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints:
- {addresses: [10.0.0.1], hostname: web-0}
- {addresses: [10.0.0.2], hostname: web-1, conditions: {ready: true}}
- {addresses: [10.0.0.3], hostname: web-2, conditions: {ready: false}}
- {addresses: [10.0.0.4]}
"""
WEB = "web.default.svc.cluster.local"


def entry(spec: str, name: str = "e", status: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec: {{ports: [{{number: 80, name: http, protocol: HTTP}}], {spec}}}
status: {{addresses: [{status}]}}
"""


def names(mesh: Mesh, host: str) -> dict[str, tuple[str, ...]]:
    return {each.name: each.addresses for each in names_of(mesh.db, host, "default")}


def test_a_services_name_means_its_own_address():
    assert names(Mesh(service("web", ip="10.96.0.1")), WEB) == {WEB: ("10.96.0.1",)}


def test_a_headless_services_name_means_its_pods_which_have_names_of_their_own():
    mesh = Mesh(service("web"), SLICE)
    assert names(mesh, WEB) == {
        WEB: ("10.0.0.1", "10.0.0.2", "10.0.0.4"),
        f"web-0.{WEB}": ("10.0.0.1",),
        f"web-1.{WEB}": ("10.0.0.2",),
    }


def test_a_service_entrys_hosts_are_names_wildcards_too():
    mesh = Mesh(entry("hosts: ['*.wild.test', api.test], addresses: [240.9.9.9, 10.0.0.0/8], resolution: NONE"))
    assert names(mesh, "*.wild.test") == {"*.wild.test": ("240.9.9.9",)}
    assert names(mesh, "api.test") == {"api.test": ("240.9.9.9",)}


def test_what_has_no_address_here_is_left_to_others():
    mesh = Mesh(
        entry("hosts: [none.test], resolution: NONE", "none"),
        entry("hosts: [block.test], addresses: [10.0.0.0/8], resolution: NONE", "block"),
        service("web"),
    )
    assert [names(mesh, host) for host in ("none.test", "block.test", WEB, "unknown.test")] == [{}] * 4


def test_a_host_that_the_mesh_gives_an_address_is_found_at_it():
    given = "{value: 240.240.0.7, host: db.test}"
    assert names(Mesh(entry("hosts: [db.test], resolution: DNS", status=given)), "db.test") == {
        "db.test": ("240.240.0.7",)
    }


def test_a_client_is_told_of_what_it_sees_and_knows():
    private = entry("hosts: [db.test], resolution: DNS, exportTo: ['.']")
    sidecar = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s}
spec: {egress: [{hosts: ['./web.default.svc.cluster.local']}]}
"""
    mesh = Mesh(private, service("web", ip="10.96.0.1"), sidecar)

    def told(namespace: str, governed: bool = False) -> list[str]:
        by = ObjectKey("", "Sidecar", "default", "s") if governed else None
        return [each.name for each in names_in(mesh.db, "default", namespace, by)]

    assert told("default") == ["db.test", WEB]
    assert told("other") == [WEB]
    assert told("default", governed=True) == [WEB]


def test_an_endpoint_that_comes_costs_the_names_of_its_own_service():
    mesh = Mesh(service("web"), service("other", ip="10.96.0.2"), SLICE)
    mesh.db.watch(names_in, "default", "", None)
    mesh.ran()
    mesh.apply(SLICE.replace("10.0.0.4", "10.0.0.5"))
    mesh.db.flush()
    assert mesh.ran().count("mesh.names.names_of") == 1
