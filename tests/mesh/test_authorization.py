"""Who may do what with a workload: which policies are for it, and what their words mean."""

from __future__ import annotations

import json

import pytest

from doubles.meshes import Mesh
from ostria.base import ObjectKey
from ostria.mesh.attachments import GATEWAY_NAME_LABEL
from ostria.mesh.authorization import authorization, authorization_of, policy
from ostria.mesh.model import OPEN, AccessRule, AccessTest, Action, Attribute, Authorization
from ostria.mesh.traits import ClientTraits, ProxyType

REVIEWS = ClientTraits(namespace="default", labels=(("app", "reviews"), ("version", "v1")))
RATINGS = ClientTraits(namespace="default", labels=(("app", "ratings"),))


def access(name: str, spec: str = "{rules: [{}]}", namespace: str = "default", more: str = "") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}{more}}}
spec: {spec}
"""


def mesh_config(text: str) -> str:
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: {json.dumps(text)}}}
"""


def names(found: Authorization) -> list[str]:
    return sorted(key.name for key in found.origins)


def test_without_a_policy_everything_is_open():
    assert authorization_of(Mesh().db, REVIEWS) == OPEN


@pytest.mark.parametrize(
    ("spec", "namespace", "client", "meant"),
    [
        ("{}", "default", REVIEWS, True),
        ("{}", "other", REVIEWS, False),
        ("{}", "istio-system", REVIEWS, True),
        ("{selector: {matchLabels: {app: reviews}}}", "default", REVIEWS, True),
        ("{selector: {matchLabels: {app: reviews}}}", "default", RATINGS, False),
        ("{selector: {matchLabels: {app: reviews, version: v2}}}", "default", REVIEWS, False),
        ("{selector: {matchLabels: {app: reviews}}}", "istio-system", REVIEWS, True),
        ("{selector: {matchLabels: {app: reviews}}}", "istio-system", RATINGS, False),
        ("{targetRefs: [{kind: Service, group: '', name: reviews}]}", "default", REVIEWS, False),
        (
            "{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: front}]}",
            "default",
            ClientTraits(ProxyType.GATEWAY, "default", ((GATEWAY_NAME_LABEL, "front"),)),
            True,
        ),
        (
            "{targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: front}]}",
            "istio-system",
            ClientTraits(ProxyType.GATEWAY, "default", ((GATEWAY_NAME_LABEL, "front"),)),
            False,
        ),
    ],
)
def test_whose_workloads_a_policy_is_for(spec: str, namespace: str, client: ClientTraits, meant: bool):
    found = authorization_of(Mesh(access("guard", spec, namespace)).db, client)
    assert names(found) == (["guard"] if meant else [])


def test_policies_are_told_apart_by_what_they_do():
    provider = (
        "extensionProviders: [{name: opa, envoyExtAuthzGrpc: {service: opa.default.svc.cluster.local, port: 9000}}]"
    )
    mesh = Mesh(
        mesh_config(provider),
        access("a"),
        access("d", "{action: DENY, rules: [{}]}"),
        access("l", "{action: AUDIT, rules: [{}]}"),
        access("c", "{action: CUSTOM, provider: {name: opa}, rules: [{}]}"),
        access("t", more=", annotations: {istio.io/dry-run: 'true'}"),
    )
    found = authorization_of(mesh.db, REVIEWS)
    assert [[each.origin.name for each in group] for group in found[:4]] == [["c"], ["l"], ["d"], ["a", "t"]]
    assert [each.on_trial for each in found.allow] == [False, True]
    (asked,) = found.authorizers
    assert asked.fault == 'the provider "opa" cannot be asked: the service "opa.default.svc.cluster.local" is not known'


def read(spec: str, mesh: Mesh | None = None) -> tuple[AccessTest, ...]:
    mesh = mesh or Mesh()
    mesh.apply(access("guard", spec))
    found = policy(mesh.db, ObjectKey("", "AuthorizationPolicy", "default", "guard"))
    assert found is not None
    (rule,) = found.rules
    return (*rule.sources[0], *rule.operations[0])


def test_conditions_hold_beside_each_source_and_each_operation():
    source = "from: [{source: {principals: [a]}}, {source: {principals: [b]}}], to: [{operation: {ports: ['80']}}]"
    when = "when: [{key: source.ip, values: [10.0.0.1]}, {key: connection.sni, notValues: [x]}]"
    mesh = Mesh(access("guard", f"{{rules: [{{{source}, {when}}}]}}"))
    found = policy(mesh.db, ObjectKey("", "AuthorizationPolicy", "default", "guard"))
    assert found is not None
    assert found.action is Action.ALLOW
    (rule,) = found.rules
    address = AccessTest(Attribute.ADDRESS, ("10.0.0.1",))
    assert rule.sources == (
        (AccessTest(Attribute.PRINCIPAL, ("a",)), address),
        (AccessTest(Attribute.PRINCIPAL, ("b",)), address),
    )
    assert rule.operations == ((AccessTest(Attribute.PORT, ("80",)), AccessTest(Attribute.SERVER_NAME, (), ("x",))),)


def test_what_has_a_name_keeps_it():
    keys = ("request.headers[x-a]", "request.auth.claims[a][b]", "experimental.envoy.filters.a.b[c]")
    when = ", ".join(f"{{key: '{key}', values: [v]}}" for key in keys)
    assert {(test.attribute, test.name) for test in read(f"{{rules: [{{when: [{when}]}}]}}")} == {
        (Attribute.HEADER, ("x-a",)),
        (Attribute.CLAIM, ("a", "b")),
        (Attribute.METADATA, ("envoy.filters.a.b", "c")),
    }


def test_an_account_without_a_namespace_is_of_the_policys():
    (test,) = read("{rules: [{from: [{source: {serviceAccounts: [a, other/b]}}]}]}")
    assert test.values == ("default/a", "other/b")


@pytest.mark.parametrize(
    ("principal", "values"),
    [
        ("td1/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("td2/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("cluster.local/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("foreign/ns/a/sa/b", ("foreign/ns/a/sa/b",)),
        ("*/ns/a/sa/b", ("*/ns/a/sa/b",)),
        ("*1/ns/a/sa/b", ("*1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("*", ("*",)),
    ],
)
def test_trust_domains_have_aliases(principal: str, values: tuple[str, ...]):
    mesh = Mesh(mesh_config("trustDomain: td1\ntrustDomainAliases: [td2]"))
    (test,) = read(f"{{rules: [{{from: [{{source: {{principals: ['{principal}']}}}}]}}]}}", mesh)
    assert test.values == values


@pytest.mark.parametrize(
    ("providers", "fault"),
    [
        ("[]", "does not exist"),
        ("[{name: opa}]", "authorizes nothing"),
        ("[{name: opa, envoyExtAuthzGrpc: {}}, {name: opa}]", "more than once"),
        ("[{name: opa, envoyExtAuthzGrpc: {port: 1}}]", "names no service"),
        ("[{name: opa, envoyExtAuthzGrpc: {service: a.b, port: 0}}]", "0 is no port"),
        ("[{name: opa, envoyExtAuthzHttp: {service: a.b, port: 1, statusOnError: '299'}}]", "statusOnError"),
        ("[{name: opa, envoyExtAuthzHttp: {service: a.b, port: 1, pathPrefix: check}}]", "pathPrefix"),
        ("[{name: opa, envoyExtAuthzHttp: {service: a.b, port: 1}}]", "not known"),
    ],
)
def test_who_cannot_be_asked(providers: str, fault: str):
    custom = access("c", "{action: CUSTOM, provider: {name: opa}, rules: [{}]}")
    (asked,) = authorization_of(Mesh(mesh_config(f"extensionProviders: {providers}"), custom).db, REVIEWS).authorizers
    assert fault in asked.fault


def test_an_edit_runs_nothing_for_those_who_do_not_have_the_policy():
    mesh = Mesh(access("guard", "{selector: {matchLabels: {app: reviews}}}"), access("all", namespace="istio-system"))
    for client in (REVIEWS, RATINGS):
        authorization_of(mesh.db, client)
    mesh.ran()
    mesh.apply(access("guard", "{selector: {matchLabels: {app: reviews}}, rules: [{}]}"))
    assert names(authorization_of(mesh.db, RATINGS)) == ["all"]
    assert "authorization" not in {name.rpartition(".")[2] for name in mesh.ran()}
    assert names(authorization_of(mesh.db, REVIEWS)) == ["all", "guard"]


def test_a_root_policy_runs_for_those_whom_it_selects():
    mesh = Mesh(access("own"), access("old", "{selector: {matchLabels: {app: ratings}}}", "istio-system"))
    for client in (REVIEWS, RATINGS):
        authorization_of(mesh.db, client)
    mesh.ran()
    mesh.apply(access("new", "{selector: {matchLabels: {app: ratings}}}", "istio-system"))
    before = authorization(mesh.db, "default", ())
    assert names(before) == ["own"]
    assert "authorization" not in {name.rpartition(".")[2] for name in mesh.ran()}
    assert names(authorization_of(mesh.db, RATINGS)) == ["new", "old", "own"]


@pytest.mark.parametrize(
    ("action", "allow", "deny"),
    [
        ("ALLOW", [()], []),
        ("DENY", [], [(AccessRule(),)]),
        ("CUSTOM, provider: {name: x}", [], [(AccessRule(),)]),
        ("AUDIT", [], []),
    ],
)
def test_what_envoy_refuses_of_a_policy_leaves_nothing_open(action: str, allow: list[object], deny: list[object]):
    spec = f"{{action: {action}, rules: [{{}}], selector: {{matchLabels: {{app: reviews}}}}}}"
    mesh = Mesh(access("guard", spec))
    key = ObjectKey("", "AuthorizationPolicy", "default", "guard")
    mesh.store.withdraw(key, "no")
    found = authorization_of(mesh.db, REVIEWS)
    assert [each.rules for each in found.allow] == allow
    assert [each.rules for each in found.deny] == deny
    assert authorization_of(mesh.db, RATINGS) == OPEN
    # What is on trial denies nothing, and what was good before stands in.
    mesh.apply(access("guard", spec, more=', annotations: {istio.io/dry-run: "true"}'))
    mesh.store.withdraw(key, "no")
    assert authorization_of(mesh.db, REVIEWS) == OPEN
    mesh.delete("AuthorizationPolicy", "guard")
    assert authorization_of(mesh.db, REVIEWS) == OPEN


def test_the_last_good_policy_stands_in_for_one_that_envoy_refuses():
    mesh = Mesh(access("guard", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"))
    before = authorization_of(mesh.db, REVIEWS)
    mesh.apply(access("guard", "{rules: [{to: [{operation: {methods: [PUT]}}]}]}"))
    mesh.store.withdraw(ObjectKey("", "AuthorizationPolicy", "default", "guard"), "no")
    assert authorization_of(mesh.db, REVIEWS) == before
