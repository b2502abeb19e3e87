"""What the page on AuthorizationPolicy shows does what the page says, by what `ostria simulate` says of calls."""

from __future__ import annotations

import json
import re

import pytest

from architecture.repository import ROOT, text_of
from doubles.meshes import Mesh, endpoint_slice, pod, service
from ostria.analysis.findings import findings
from ostria.analysis.simulation import Failure, call_to, simulate, told
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of

PAGE = text_of(ROOT / "docs" / "authorization.md")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
APPS = {"reviews": ("http", 9080), "mysqldb": ("tcp", 3306), "ratings": ("http", 9080), "httpbin": ("http", 8000)}
PEERS = ("productpage", "ratings-v2", "other")
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""


def mesh(*blocks: str, providers: str = "") -> Mesh:
    config = json.dumps({"mesh": providers})
    texts = [
        STRICT,
        f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {config}}}",
    ]
    for at, (app, (name, port)) in enumerate(APPS.items()):
        ip = f"10.1.0.{at + 1}"
        texts += [pod(app, ip, {"app": app}), service(app, port, port_name=name, ip=f"10.96.0.{at + 1}")]
        texts.append(endpoint_slice(app, {app: ip}, port=port, port_name=name))
    for at, peer in enumerate(PEERS):
        texts.append(pod(peer, f"10.2.0.{at + 1}", {"app": peer}, account=f"bookinfo-{peer}"))
    return Mesh(*texts, *blocks)


def call(found: Mesh, caller: str, url: str, method: str = "GET") -> tuple[Failure | None, str]:
    """Why a call fails, and what is told of it."""
    key = ObjectKey("", "Pod", "default", caller)
    client = traits_of(found.db, key)
    assert client is not None
    trace = simulate(found.db, client, call_to(found.db, url, client)._replace(method=method), key)
    return trace.failure, told(trace)


def test_let_in_only_whom_you_name() -> None:
    found = mesh(BLOCKS[0])
    assert call(found, "productpage", "http://reviews:9080/reviews/1")[0] is None
    assert call(found, "productpage", "http://reviews:9080/health/live")[0] is None
    for caller, path, method in (
        ("other", "/reviews/1", "GET"),
        ("productpage", "/reviews/1", "POST"),
        ("productpage", "/health/live/more", "GET"),
    ):
        assert call(found, caller, f"http://reviews:9080{path}", method)[0] is Failure.DENIED
    failure, words = call(found, "productpage", "http://ratings:9080/")
    assert failure is Failure.DENIED
    assert "AuthorizationPolicy default/allow-nothing (mesh.yaml:" in words


def test_deny_something() -> None:
    found = mesh(BLOCKS[1])
    failure, words = call(found, "productpage", "http://reviews:9080/admin/users")
    assert failure is Failure.DENIED
    assert "ns[default]-policy[no-admin-from-outside]-rule[0] denies the call" in words
    assert "AuthorizationPolicy default/no-admin-from-outside (mesh.yaml:" in words
    assert call(found, "productpage", "http://reviews:9080/reviews/1")[0] is None


def test_tcp() -> None:
    found = mesh(BLOCKS[2])
    assert call(found, "ratings-v2", "tcp://mysqldb:3306")[0] is None
    assert call(found, "other", "tcp://mysqldb:3306")[0] is Failure.DENIED


def test_a_trial() -> None:
    assert call(mesh(BLOCKS[3]), "other", "http://ratings:9080/ratings/9")[0] is None


def test_ask_somebody_else() -> None:
    found = mesh(BLOCKS[5], providers=BLOCKS[4])
    assert [(each.code, each.object.name) for each in findings(found.db) if each.object] == [
        ("no-authorizer", "ext-authz")
    ]
    assert call(found, "other", "http://httpbin:8000/headers")[0] is Failure.DENIED
    found.apply(service("ext-authz", 8000))
    assert findings(found.db) == ()
    failure, _ = call(found, "other", "http://httpbin:8000/headers")
    assert failure is None
    assert call(found, "other", "http://httpbin:8000/ip")[0] is None
    other = BLOCKS[5].replace("name: ext-authz", "name: second").replace("sample-ext-authz-http", "another")
    providers = BLOCKS[4] + BLOCKS[4].partition("\n")[2].replace("sample-ext-authz-http", "another")
    found = mesh(BLOCKS[5], other, service("ext-authz", 8000), providers=providers)
    assert {each.code for each in findings(found.db)} == {"several-authorizers"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if "kind:" in block])
def test_what_is_shown_is_taken(block: str) -> None:
    assert not [each for each in findings(mesh(block).db) if each.code != "no-authorizer"]
