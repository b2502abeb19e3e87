"""Namespaces that MeshConfig's discoverySelectors choose, while they change."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.base import ObjectKey
from ostria.mesh.services import service as known
from ostria.resources import problems

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: "discoverySelectors: {selectors}"}}
"""
PROD = "[{matchLabels: {env: prod}}, {matchExpressions: [{key: region, operator: In, values: [eu]}]}]"


def namespace(name: str, labels: str = "{}") -> str:
    return f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {labels}}}}}"


def sees(mesh: Mesh, *names: str) -> None:
    found = [
        name for name in ("a", "b", "c") if known(mesh.db, f"{name}.{name}.svc.cluster.local", "anywhere") is not None
    ]
    assert found == list(names)


SERVICES = [service(name, namespace=name, ip=f"10.0.0.{at}") for at, name in enumerate("abc", 1)]


def test_without_selectors_everything_belongs_to_the_mesh():
    sees(Mesh(*SERVICES), "a", "b", "c")


def test_any_of_the_selectors_lets_a_namespace_in():
    spaces = (namespace("a", "{env: prod}"), namespace("b", "{region: eu}"), namespace("c", "{env: test}"))
    sees(Mesh(CONFIG.format(selectors=PROD), *spaces, *SERVICES), "a", "b")
    # In whatever order they come.
    sees(Mesh(*SERVICES, *spaces, CONFIG.format(selectors=PROD)), "a", "b")


def test_namespaces_come_and_go_by_their_labels():
    mesh = Mesh(CONFIG.format(selectors=PROD), *SERVICES)
    sees(mesh)
    mesh.apply(namespace("c", "{env: prod}"))
    sees(mesh, "c")
    mesh.apply(namespace("c", "{env: test}"))
    sees(mesh)
    # What has changed meanwhile is as it is now.
    mesh.delete("Service", "c", "c").apply(namespace("c", "{env: prod}"), namespace("a", "{env: prod}"))
    sees(mesh, "a")
    mesh.delete("Namespace", "a", "")
    sees(mesh)


def test_the_selectors_may_change():
    mesh = Mesh(namespace("a", "{env: prod}"), *SERVICES)
    sees(mesh, "a", "b", "c")
    mesh.apply(CONFIG.format(selectors=PROD))
    sees(mesh, "a")
    mesh.apply(CONFIG.format(selectors="[{matchExpressions: [{key: env, operator: DoesNotExist}]}]"))
    sees(mesh, "b", "c")
    mesh.apply(CONFIG.format(selectors="[]"))
    sees(mesh, "a", "b", "c")


def test_the_settings_of_the_mesh_are_read_whatever_the_selectors_say():
    mesh = Mesh(CONFIG.format(selectors="[{matchLabels: {never: there}}]"), *SERVICES)
    sees(mesh)
    mesh.apply(CONFIG.format(selectors="[]"))
    sees(mesh, "a", "b", "c")


def test_what_is_outside_has_no_problems():
    """Nobody waits for the verdict of a mesh that does not read an object."""
    mesh = Mesh(CONFIG.format(selectors=PROD), namespace("a", "{env: prod}"))
    key = ObjectKey("", "VirtualService", "a", "v")
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: a}
spec: {hosts: [x.example.com], http: [{route: [{destination: {host: x.example.com}}], mirrorPercent: 1}]}
"""
    mesh.apply(text)
    found = problems(mesh.db, key)
    assert found
    mesh.apply(namespace("a"))
    assert problems(mesh.db, key) is None
    mesh.apply(namespace("a", "{env: prod}"))
    assert problems(mesh.db, key) == found
