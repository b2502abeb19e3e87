"""Which tokens a workload takes: every policy that is for it counts, and keys are facts of their own."""

from __future__ import annotations

import pytest

from doubles.guarded_envoy import GATEWAY, SIDECAR
from doubles.meshes import Mesh, pod, service
from doubles.token_issuer import TokenIssuer
from ostria.analysis.tokens import token_problems
from ostria.base import ObjectKey
from ostria.envoy.catalogue import fragment, names, scope
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.model import KeySource
from ostria.mesh.request_authentication import (
    FETCH_TIMEOUT,
    FetchedKeys,
    fetched_keys_input,
    keys_in_force,
    token_rules_of,
    wanted_keys,
)
from ostria.mesh.settings import KeyFetching, Settings
from ostria.mesh.traits import ClientTraits, ProxyType
from ostria.resources.key_sets import NO_KEYS

OTHER = ClientTraits(ProxyType.SIDECAR, "default", (("app", "c"),))
ELSEWHERE = ClientTraits(ProxyType.SIDECAR, "shop", (("app", "b"),))
NAMED = ClientTraits(ProxyType.GATEWAY, "default", (("gateway.networking.k8s.io/gateway-name", "edge"),))


def policy(issuers: str, more: str = "", *, name: str = "p", namespace: str = "default", made: str = "01") -> str:
    """A policy with a rule for each of these issuers, which are letters."""
    rules = ", ".join(f"{{issuer: {issuer}, jwksUri: 'https://{issuer}/keys'}}" for issuer in issuers)
    return f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-{made}T00:00:00Z"}}
spec: {{jwtRules: [{rules}], {more}}}
---
"""


def issuers(mesh: Mesh, client: ClientTraits) -> str:
    return "".join(rule.issuer for rule in token_rules_of(mesh.db, client))


APP_B = "selector: {matchLabels: {app: b}}"


@pytest.mark.parametrize(
    ("more", "namespace", "expected"),
    [
        ("", "default", [SIDECAR, OTHER, NAMED]),
        ("", "istio-system", [SIDECAR, OTHER, ELSEWHERE, GATEWAY, NAMED]),
        (APP_B, "default", [SIDECAR]),
        (APP_B, "istio-system", [SIDECAR, ELSEWHERE]),
        ("selector: {matchLabels: {istio: ingressgateway}}", "istio-system", [GATEWAY]),
        ("selector: {}", "shop", [ELSEWHERE]),
        ("targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]", "default", [NAMED]),
        ("targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge}", "default", [NAMED]),
        ("targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]", "shop", []),
    ],
)
def test_whose_it_is(more: str, namespace: str, expected: list[ClientTraits]) -> None:
    mesh = Mesh(policy("a", more, namespace=namespace))
    assert [each for each in (SIDECAR, OTHER, ELSEWHERE, GATEWAY, NAMED) if issuers(mesh, each)] == expected


def test_all_that_are_for_a_workload_stand_together_by_issuer() -> None:
    mesh = Mesh(
        policy("cb", APP_B, name="own", made="01"),
        policy("d", name="namespace", made="02"),
        policy("ba", namespace="istio-system", made="03"),
        policy("x", "selector: {matchLabels: {app: c}}", name="others"),
    )
    assert issuers(mesh, SIDECAR) == "abbcd"
    # Of two for one issuer the mesh's stands first.
    assert [rule.origin.namespace for rule in token_rules_of(mesh.db, SIDECAR)][1:3] == ["istio-system", "default"]
    mesh.delete("RequestAuthentication", "own")
    assert issuers(mesh, SIDECAR) == "abd"


def test_keys_are_wanted_once_by_whoever_has_most_time() -> None:
    mesh = Mesh(
        policy("ab", name="one"),
        policy("b", name="two").replace("keys'}", "keys', timeout: 9s}"),
        policy("c", name="three").replace(", jwksUri: 'https://c/keys'", ", timeout: 10ms"),
    )
    assert wanted_keys(mesh.db) == (
        (KeySource(issuer="c"), 10),
        (KeySource("https://a/keys"), FETCH_TIMEOUT),
        (KeySource("https://b/keys"), 9000),
    )


def inbound(mesh: Mesh, client: ClientTraits = SIDECAR) -> Fragment:
    found = fragment(
        mesh.db,
        ResourceType.LISTENER,
        "virtualInbound",
        scope(mesh.db, ResourceType.LISTENER, "virtualInbound").project(client),
    )
    assert found is not None
    return found


def fetched(mesh: Mesh, uri: str, text: str, failure: str = "") -> None:
    with mesh.db.write() as write:
        write.set(fetched_keys_input, KeySource(uri), FetchedKeys(text, failure))


def test_keys_that_change_reach_those_who_verify_with_them_and_nobody_else() -> None:
    mesh = Mesh(
        service("b", 80, selector={"app": "b"}),
        pod("b", "10.0.0.1", {"app": "b"}),
        policy("a", APP_B),
        policy("z", "selector: {matchLabels: {app: c}}", name="z"),
    )
    before, others = inbound(mesh), inbound(mesh, OTHER)
    assert keys_in_force(mesh.db, KeySource("https://a/keys")) == NO_KEYS.text
    assert {key.name for key in before.origins if key.kind == "RequestAuthentication"} == {"p"}
    mesh.ran()
    keys = TokenIssuer().published()
    fetched(mesh, "https://a/keys", keys)
    assert inbound(mesh).version != before.version
    assert inbound(mesh, OTHER) is others
    assert set(mesh.ran()) <= {
        "mesh.request_authentication.keys_in_force",
        "envoy.lds._virtual_inbound",
        "envoy.catalogue.fragment",
    }, mesh.ran()
    # A failure behind which the keys stand is nobody's business but the analysis'.
    fetched(mesh, "https://a/keys", keys, "no answer")
    inbound(mesh)
    assert mesh.ran() == ["mesh.request_authentication.keys_in_force"]


def test_who_is_told_apart_by_nothing_shares() -> None:
    mesh = Mesh(policy("a", APP_B))
    twin = SIDECAR._replace(labels=(*SIDECAR.labels, ("pod-template-hash", "1")))
    assert token_rules_of(mesh.db, SIDECAR) is token_rules_of(mesh.db, twin)


@pytest.mark.parametrize(
    ("uri", "mode", "asked", "istiods"),
    [
        ("http://b.default.svc.cluster.local/keys", KeyFetching.ISTIOD, False, True),
        ("http://b.default.svc.cluster.local/keys", KeyFetching.HYBRID, True, False),
        ("http://b.default.svc:80/keys", KeyFetching.HYBRID, True, False),
        ("http://b.default.svc.cluster.local:81/keys", KeyFetching.HYBRID, False, True),
        ("https://b.default.svc.cluster.local/keys", KeyFetching.HYBRID, False, True),
        ("https://b.example/keys", KeyFetching.HYBRID, False, True),
        ("https://b.example/keys", KeyFetching.ENVOY, False, False),
        ("http://b.default.svc.cluster.local/keys", KeyFetching.ENVOY, True, False),
    ],
)
def test_who_fetches_keys(uri: str, mode: KeyFetching, asked: bool, istiods: bool) -> None:
    text = policy("a").replace("https://a/keys", uri)
    mesh = Mesh(service("b", 80, ip="10.96.0.2"), text, settings=Settings(keys=mode))
    cluster = "outbound|80||b.default.svc.cluster.local"
    (rule,) = token_rules_of(mesh.db, SIDECAR)
    assert (rule.asked.name if rule.asked else "") == (cluster if asked else "")
    assert bool(wanted_keys(mesh.db)) is istiods
    assert asked is ((ResourceType.CLUSTER, cluster) in inbound(mesh).references)
    # A proxy that knows nothing of that service calls it all the same.
    assert not asked or cluster in names(mesh.db, ResourceType.CLUSTER, SIDECAR._replace(on_demand=True))
    codes = [each.code for each in token_problems(mesh.db, ObjectKey("", "RequestAuthentication", "default", "p"))]
    assert codes == ([] if asked or istiods else ["keys-not-fetched"])
