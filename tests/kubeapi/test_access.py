"""Who gets in, as whom, and what they may: tokens, certificates, roles, impersonation, reviews."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from multidict import CIMultiDict

from ostria.kubeapi import pki
from ostria.kubeapi.access import Access
from ostria.kubeapi.authentication import ANONYMOUS, Authenticator
from ostria.kubeapi.authorization import Authorizer, bootstrap
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.kinds import BUILT_IN
from ostria.kubeapi.requests import Attributes, Document, ResourceKey, User
from ostria.kubeapi.reviews import Reviews
from ostria.kubeapi.tokens import Invalid, Issuer, new_key

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
KEY = new_key()
BASE = """
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: shop, uid: sa-1}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: shop, uid: sa-2}}
---
{apiVersion: v1, kind: Node, metadata: {name: here, uid: node-1}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: pod-1}
spec: {serviceAccountName: default, nodeName: here}
"""


class Objects:
    """Objects in memory, read as the store is read."""

    def __init__(self, text: str = "") -> None:
        self.found: dict[tuple[ResourceKey, str, str], Document] = {}
        for document in [*bootstrap(), *yaml.safe_load_all(BASE + "\n---\n" + text)]:
            if document:
                self.put(document)

    def put(self, document: Document) -> None:
        group = document["apiVersion"].rpartition("/")[0]
        resource = next(each for each in BUILT_IN if (each.group, each.kind) == (group, document["kind"]))
        metadata = document["metadata"]
        self.found[resource.key, metadata.get("namespace", ""), metadata["name"]] = document

    def remove(self, plural: str, name: str) -> None:
        self.found = {key: value for key, value in self.found.items() if (key[0].plural, key[2]) != (plural, name)}

    def get(self, key: ResourceKey, namespace: str, name: str) -> Document | None:
        return self.found.get((key, namespace, name))

    def list(self, key: ResourceKey, namespace: str = "") -> Sequence[Document]:
        return [value for at, value in sorted(self.found.items()) if at[0] == key and namespace in ("", at[1])]


class Door:
    """A server's access over some objects, at a time."""

    def __init__(self, text: str = "") -> None:
        self.objects = Objects(text)
        self.now = NOW
        self.issuer = Issuer(KEY, self.objects)
        self.authorizer = Authorizer(self.objects)
        self.access = Access(Authenticator(self.issuer, lambda: self.now), self.authorizer)
        self.reviews = Reviews(self.authorizer, self.issuer, lambda: self.now)

    def token(self, account: str = "default", **spec: Any) -> str:
        made = self.issuer.issue("shop", account, {"spec": spec}, self.now, "id-1")
        return str(made["status"]["token"])

    def pod_token(self, **spec: Any) -> str:
        return self.token(boundObjectRef={"kind": "Pod", "name": "web", "uid": "pod-1"}, **spec)

    def caller(self, token: str) -> User:
        return self.access.authenticate(CIMultiDict(Authorization=f"Bearer {token}"), None)

    def may(
        self, user: User, verb: str, resource: str, namespace: str = "shop", name: str = "", group: str = ""
    ) -> bool:
        plural, _, subresource = resource.partition("/")
        return self.authorizer.decide(user, Attributes(verb, group, "v1", plural, subresource, namespace, name)).allowed

    def review(self, kind: str, spec: Document, user: User = ANONYMOUS, namespace: str = "") -> Document:
        group = "authentication.k8s.io" if kind in ("TokenReview", "SelfSubjectReview") else "authorization.k8s.io"
        status: Document = self.reviews.answer(group, kind, {"spec": spec}, user, namespace)["status"]
        return status


def claims(token: str) -> Document:
    part = token.split(".")[1]
    found: Document = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def refused(code: int, *words: str) -> Any:
    class _Check:
        def __enter__(self) -> None:
            self.raises = pytest.raises(StatusError)
            self.info = self.raises.__enter__()

        def __exit__(self, *what: Any) -> bool:
            caught = self.raises.__exit__(*what)
            assert self.info.value.code == code, self.info.value.message
            for word in words:
                assert word in self.info.value.message
            return bool(caught)

    return _Check()


# --- tokens


def test_a_token_says_whose_it_is_and_for_whom() -> None:
    door = Door()
    found = claims(door.pod_token(audiences=["istio-ca"], expirationSeconds=3600))
    assert found == {
        "aud": ["istio-ca"],
        "exp": int(NOW.timestamp()) + 3600,
        "iat": int(NOW.timestamp()),
        "nbf": int(NOW.timestamp()),
        "iss": "https://kubernetes.default.svc.cluster.local",
        "jti": "id-1",
        "sub": "system:serviceaccount:shop:default",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "default", "uid": "sa-1"},
            "pod": {"name": "web", "uid": "pod-1"},
            "node": {"name": "here", "uid": "node-1"},
        },
    }


def test_a_token_review_tells_the_pod() -> None:
    door = Door()
    status = door.review("TokenReview", {"token": door.pod_token(audiences=["istio-ca"]), "audiences": ["istio-ca"]})
    assert status == {
        "authenticated": True,
        "audiences": ["istio-ca"],
        "user": {
            "username": "system:serviceaccount:shop:default",
            "uid": "sa-1",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/credential-id": ["JTI=id-1"],
                "authentication.kubernetes.io/node-name": ["here"],
                "authentication.kubernetes.io/node-uid": ["node-1"],
                "authentication.kubernetes.io/pod-name": ["web"],
                "authentication.kubernetes.io/pod-uid": ["pod-1"],
            },
        },
    }


def test_a_token_is_good_for_its_audience_only() -> None:
    door = Door()
    token = door.pod_token(audiences=["istio-ca"])
    with refused(401):
        door.caller(token)
    for_server = door.pod_token()
    assert door.caller(for_server).name == "system:serviceaccount:shop:default"
    status = door.review("TokenReview", {"token": for_server, "audiences": ["istio-ca"]})
    assert status["authenticated"] is False
    assert "audiences" in status["error"]


@pytest.mark.parametrize(("plural", "name"), [("pods", "web"), ("serviceaccounts", "default")])
def test_a_token_ends_with_its_pod_and_with_its_account(plural: str, name: str) -> None:
    door = Door()
    token = door.pod_token()
    assert door.caller(token)
    door.objects.remove(plural, name)
    with refused(401):
        door.caller(token)


def test_a_pod_of_the_same_name_does_not_inherit_a_token() -> None:
    door = Door()
    token = door.pod_token()
    pod = door.objects.get(ResourceKey("", "pods"), "shop", "web")
    assert pod is not None
    door.objects.put({**pod, "metadata": {**pod["metadata"], "uid": "pod-2"}})
    with refused(401):
        door.caller(token)


def test_a_token_ends_at_its_time_and_with_a_pod_that_should_be_gone() -> None:
    door = Door()
    token = door.pod_token(expirationSeconds=600)
    door.now = NOW + timedelta(seconds=599)
    assert door.caller(token)
    pod = door.objects.get(ResourceKey("", "pods"), "shop", "web")
    assert pod is not None
    door.objects.put({**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-05-01T12:00:00Z"}})
    with refused(401):
        door.caller(token)
    door.objects.put(pod)
    door.now = NOW + timedelta(seconds=600)
    with refused(401):
        door.caller(token)


def test_what_another_key_signed_or_somebody_changed_is_refused() -> None:
    door = Door()
    head, _, signature = door.pod_token().split(".")
    stranger = Issuer(new_key(), door.objects).issue("shop", "default", {}, NOW, "x")["status"]["token"]
    for token in (stranger, f"{head}.e30.{signature}", "e30.e30.", "nonsense", "a" * 20_000, "", "\u00e9.x.y"):
        with refused(401):
            door.caller(token)
    with pytest.raises(Invalid):
        door.issuer.review("", ["a"], NOW)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"expirationSeconds": 599}, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": "600"}, "spec.expirationSeconds"),
        ({"audiences": [""]}, "spec.audiences"),
        ({"boundObjectRef": {"kind": "Pod", "name": "absent"}}, "absent"),
        ({"boundObjectRef": {"kind": "Pod", "name": "web", "uid": "other"}}, "does not match"),
        ({"boundObjectRef": {"kind": "Service", "name": "web"}}, "Service"),
    ],
)
def test_a_token_that_cannot_be_is_not_made(spec: Document, words: str) -> None:
    with pytest.raises(StatusError, match=words):
        Door().token(**spec)


def test_a_token_is_not_bound_to_a_pod_of_another_account() -> None:
    with refused(400, "another serviceaccount"):
        Door().token("robot", boundObjectRef={"kind": "Pod", "name": "web"})


def test_the_key_that_is_published_verifies_tokens() -> None:
    import jwt

    door = Door()
    key = jwt.PyJWK(door.issuer.keys()["keys"][0])
    read = jwt.decode(
        door.pod_token(),
        key,
        audience=door.issuer.issuer,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert read["sub"] == "system:serviceaccount:shop:default"
    assert door.issuer.configuration("127.0.0.1:6443")["jwks_uri"] == "https://127.0.0.1:6443/openid/v1/jwks"


# --- certificates, nobody, and speaking for others


def certificate(user: str, *groups: str) -> bytes:
    pair = pki.client(pki.authority(NOW), user, groups, NOW)
    return x509.load_pem_x509_certificate(pair.certificate).public_bytes(Encoding.DER)


def test_a_certificate_says_name_and_groups() -> None:
    door = Door()
    admin = door.access.authenticate(CIMultiDict(), certificate("admin", "system:masters"))
    assert admin == User("admin", ("system:masters", "system:authenticated"))
    door.access.authorize(admin, Attributes("delete", "x", "v9", "anything"))


def test_who_brings_nothing_is_nobody_and_may_see_the_version_only() -> None:
    door = Door()
    user = door.access.authenticate(CIMultiDict(), None)
    assert user == ANONYMOUS
    door.access.authorize(user, Attributes("get", path="/version"))
    with refused(403, 'User "system:anonymous" cannot get path "/api"'):
        door.access.authorize(user, Attributes("get", path="/api"))


def test_speaking_for_others_must_be_allowed() -> None:
    door = Door("""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: speaker}
rules:
- {apiGroups: [""], resources: [users], verbs: [impersonate], resourceNames: [jane]}
- {apiGroups: [""], resources: [groups], verbs: [impersonate], resourceNames: [dev]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: speaker}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: speaker}
subjects: [{kind: ServiceAccount, name: robot, namespace: shop}]
""")
    mine = ("Authorization", f"Bearer {door.token('robot')}")
    as_jane = door.access.authenticate(
        CIMultiDict([mine, ("Impersonate-User", "jane"), ("Impersonate-Group", "dev")]), None
    )
    assert as_jane == User("jane", ("dev", "system:authenticated"))
    with refused(403, 'cannot impersonate resource "users"'):
        door.access.authenticate(CIMultiDict([mine, ("Impersonate-User", "root")]), None)
    with refused(403, 'cannot impersonate resource "groups"'):
        door.access.authenticate(
            CIMultiDict(
                [
                    mine,
                    ("Impersonate-User", "jane"),
                    ("Impersonate-Group", "dev"),
                    ("Impersonate-Group", "system:masters"),
                ]
            ),
            None,
        )
    with refused(400):
        door.access.authenticate(CIMultiDict([mine, ("Impersonate-Group", "dev")]), None)
    as_account = certificate("admin", "system:masters")
    found = door.access.authenticate(CIMultiDict({"Impersonate-User": "system:serviceaccount:shop:robot"}), as_account)
    assert found.groups == ("system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated")


# --- roles


def test_a_pods_own_token_reads_and_writes_nothing() -> None:
    door = Door()
    user = door.caller(door.pod_token())
    door.access.authorize(user, Attributes("get", path="/apis"))
    for resource in BUILT_IN:
        own = resource.plural in ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")
        for verb in (*resource.verbs, "impersonate"):
            for part in ("", *resource.subresources):
                about = Attributes(verb, resource.group, resource.version, resource.plural, part, "shop", "web")
                assert door.authorizer.decide(user, about).allowed == (own and verb == "create"), about


GRANTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list]}
- {apiGroups: [apps], resources: ["*/scale"], verbs: ["*"]}
- {apiGroups: [""], resources: [configmaps], verbs: [get], resourceNames: [one]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: robot, namespace: shop}, {kind: User, name: jane}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewers, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: Group, name: guests}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: admins, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{kind: User, name: boss}]
"""


def test_a_role_allows_what_it_says_and_no_more() -> None:
    door = Door(GRANTS)
    jane = User("jane")
    assert door.may(jane, "get", "pods", name="web")
    assert door.may(jane, "get", "pods/log", name="web")
    assert not door.may(jane, "create", "pods/exec", name="web")
    assert not door.may(jane, "delete", "pods", name="web")
    assert not door.may(jane, "get", "pods", namespace="other")
    assert not door.may(jane, "list", "pods", namespace="")
    assert door.may(jane, "patch", "deployments/scale", group="apps")
    assert not door.may(jane, "patch", "deployments", group="apps")
    assert door.may(jane, "get", "configmaps", name="one")
    assert not door.may(jane, "get", "configmaps", name="two")
    assert not door.may(jane, "list", "configmaps")
    assert door.may(door.caller(door.token("robot")), "list", "pods")
    with refused(
        403,
        'pods "web" is forbidden: User "jane" cannot delete resource "pods" in API group "" in the namespace "shop"',
    ):
        door.access.authorize(jane, Attributes("delete", "", "v1", "pods", "", "shop", "web"))


def test_an_aggregated_role_has_its_parts_also_those_that_come_later() -> None:
    door = Door(GRANTS)
    guest, boss = User("g", ("guests",)), User("boss")
    assert door.may(guest, "list", "services")
    assert not door.may(guest, "list", "secrets")
    assert door.may(boss, "list", "secrets")
    assert door.may(boss, "list", "services")
    assert not door.may(guest, "list", "virtualservices", group="networking.istio.io")
    rules = [{"apiGroups": ["networking.istio.io"], "resources": ["*"], "verbs": ["list"]}]
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    door.objects.put({**kind, "metadata": {"name": "mesh-view", "labels": labels}, "rules": rules})
    assert door.may(guest, "list", "virtualservices", group="networking.istio.io")
    assert door.may(boss, "list", "virtualservices", group="networking.istio.io")


def test_what_somebody_lacks_of_a_role_is_told() -> None:
    door = Door(GRANTS)
    jane = User("jane")
    held = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "get"]}
    assert door.authorizer.lacks(jane, "shop", [held]) is None
    more = {**held, "verbs": ["get", "delete"]}
    assert door.authorizer.lacks(jane, "shop", [held, more]) == {**held, "verbs": ["delete"]}
    named = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    assert door.authorizer.lacks(jane, "shop", [{**named, "resourceNames": ["one"]}]) is None
    assert door.authorizer.lacks(jane, "shop", [named]) == named
    assert door.authorizer.lacks(User("a", ("system:masters",)), "shop", [named]) is None


# --- reviews


def test_reviews_of_access_tell_what_would_be_decided() -> None:
    door = Door(GRANTS)
    about = {"verb": "list", "resource": "pods", "namespace": "shop"}
    spec = {"user": "jane", "resourceAttributes": about}
    assert door.review("SubjectAccessReview", spec) == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "reader/shop" of Role "reader" to User "jane"',
    }
    assert door.review("SelfSubjectAccessReview", {"resourceAttributes": about}) == {"allowed": False}
    assert door.review("SelfSubjectAccessReview", {"resourceAttributes": about}, User("jane"))["allowed"]
    path = {"nonResourceAttributes": {"path": "/version", "verb": "get"}}
    assert door.review("SelfSubjectAccessReview", path)["allowed"]
    assert door.review("LocalSubjectAccessReview", spec, namespace="shop")["allowed"]
    with refused(422, "must match"):
        door.review("LocalSubjectAccessReview", spec, namespace="other")
    with refused(422, "exactly one"):
        door.review("SelfSubjectAccessReview", {})
    with refused(422, "spec.user"):
        door.review("SubjectAccessReview", {"resourceAttributes": about})
    rules = door.review("SelfSubjectRulesReview", {"namespace": "shop"}, User("jane"))
    assert {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]} in rules["resourceRules"]
    assert door.review("SelfSubjectReview", {}, User("jane", ("dev",)))["userInfo"] == {
        "username": "jane",
        "groups": ["dev"],
    }
