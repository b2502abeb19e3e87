"""Who must prove who they are: mesh, namespace, workload and port, the narrower before the wider."""

from __future__ import annotations

from doubles.meshes import Mesh
from ostria.mesh.model import MutualTls
from ostria.mesh.security import peer_mode_of

V1 = (("app", "reviews"), ("version", "v1"))


def policy(name: str, namespace: str, mode: str, more: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  mtls: {{mode: {mode}}}
  {more}
"""


def mode(mesh: Mesh, port: int = 9080) -> MutualTls:
    return peer_mode_of(mesh.db, "default", V1).of_port(port)


def test_without_a_policy_both_are_taken():
    assert mode(Mesh()) is MutualTls.PERMISSIVE


def test_each_narrower_level_goes_before_the_wider():
    mesh = Mesh(policy("mesh", "istio-system", "STRICT"))
    assert mode(mesh) is MutualTls.STRICT
    mesh.apply(policy("namespace", "default", "PERMISSIVE"))
    assert mode(mesh) is MutualTls.PERMISSIVE
    mesh.apply(policy("workload", "default", "STRICT", "selector: {matchLabels: {version: v1}}"))
    assert mode(mesh) is MutualTls.STRICT


def test_unset_asks_the_wider_level():
    mesh = Mesh(policy("mesh", "istio-system", "STRICT"), policy("namespace", "default", "UNSET"))
    assert mode(mesh) is MutualTls.STRICT


def test_a_port_may_have_a_mode_of_its_own():
    more = "selector: {matchLabels: {app: reviews}}\n  portLevelMtls: {9080: {mode: DISABLE}, 9081: {mode: UNSET}}"
    mesh = Mesh(policy("workload", "default", "STRICT", more.replace("9080:", "'9080':").replace("9081:", "'9081':")))
    assert [mode(mesh, port) for port in (9080, 9081, 9082)] == [
        MutualTls.DISABLE,
        MutualTls.STRICT,
        MutualTls.STRICT,
    ]


def test_a_policy_for_other_workloads_says_nothing():
    mesh = Mesh(policy("workload", "default", "STRICT", "selector: {matchLabels: {version: v2}}"))
    assert mode(mesh) is MutualTls.PERMISSIVE
