"""Questions of an API server, and what they are answered."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles.reviews import review, reviewed
from ostria.admission import Limits, Refused, mutate, settings_at, validate
from ostria.injection import Settings

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "shop-"},
    "spec": {"containers": [{"name": "shop", "image": "x"}]},
}

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews}, weight: WEIGHT}]}]
"""


def ask(obj: Any, settings: Settings = Settings(), **more: Any) -> dict[str, Any]:  # noqa: B008
    return reviewed(mutate(review(obj, **more), settings))


def judge(obj: Any, **more: Any) -> dict[str, Any]:
    return reviewed(validate(review(obj, **more)))


def patch_of(response: dict[str, Any]) -> list[dict[str, Any]]:
    assert response["patchType"] == "JSONPatch"
    found: list[dict[str, Any]] = json.loads(base64.b64decode(response["patch"]))
    return found


# --- pods ----------------------------------------------------------------------------------------------------------


def test_a_pod_gets_its_proxy_as_a_patch() -> None:
    response = ask(POD)
    assert response["allowed"]
    added = {operation["path"]: operation for operation in patch_of(response)}
    assert [each["name"] for each in added["/spec/initContainers"]["value"]] == ["istio-init", "istio-proxy"]
    assert all(operation["op"] == "add" for operation in added.values())


def test_a_dry_run_is_answered_as_any_other() -> None:
    assert ask(POD, dryRun=True) == ask(POD)


@pytest.mark.parametrize(
    "more",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "obj": None},
        {"subResource": "ephemeralcontainers"},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
    ],
)
def test_what_is_no_new_pod_is_left_alone(more: dict[str, Any]) -> None:
    assert ask(**{"obj": POD, **more}) == {"uid": "u-1", "allowed": True}


def test_a_pod_that_asks_and_cannot_have_one_is_warned() -> None:
    pod = {**POD, "metadata": {"labels": {"sidecar.istio.io/inject": "true"}}, "spec": {"hostNetwork": True}}
    response = ask(pod)
    assert response["allowed"]
    assert "patch" not in response
    assert response["warnings"] == [
        "the pod asks for a proxy and gets none: it uses the host's network, where traffic cannot be captured"
    ]


def test_a_pod_that_cannot_be_followed_is_refused_by_field() -> None:
    pod = {**POD, "metadata": {"annotations": {"sidecar.istio.io/proxyCPU": "lots"}}}
    response = ask(pod)
    assert not response["allowed"]
    assert response["status"]["code"] == 422
    (cause,) = response["status"]["details"]["causes"]
    assert cause["field"] == 'metadata.annotations["sidecar.istio.io/proxyCPU"]'
    assert "write one such as 100m" in response["status"]["message"]


def test_the_namespace_is_the_questions() -> None:
    assert "patch" not in ask(POD, namespace="kube-system")


def test_the_path_names_cluster_and_network() -> None:
    found = settings_at("/inject/cluster/remote%2D1/net/n2", Settings())
    assert (found.cluster, found.network) == ("remote-1", "n2")
    assert settings_at("/inject", Settings()) == Settings()
    assert settings_at("/inject/cluster", Settings()) == Settings()


# --- the mesh's objects ----------------------------------------------------------------------------------------------


def test_what_is_right_is_taken() -> None:
    assert judge(ROUTE.replace("WEIGHT", "100")) == {"uid": "u-1", "allowed": True}


def test_every_error_is_told_by_field_and_with_its_hint() -> None:
    response = judge(ROUTE.replace("WEIGHT", "much").replace("http:", "htp: 1\n  http:"))
    assert not response["allowed"]
    causes = {cause["field"]: cause["message"] for cause in response["status"]["details"]["causes"]}
    assert "spec.http[0].route[0].weight" in causes
    assert "try:" in causes["spec.htp"]
    assert "spec.htp" in response["status"]["message"]


def test_what_is_taken_and_probably_not_meant_is_a_warning() -> None:
    text = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: reviews, namespace: shop}
    spec:
      hosts: [reviews]
      http:
      - {route: [{destination: {host: reviews}}]}
      - {route: [{destination: {host: ratings}}]}
    """
    response = judge(text)
    assert response["allowed"]
    assert response["warnings"]


def test_mesh_config_is_judged_where_it_lies() -> None:
    text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '['}}"
    assert not judge(text)["allowed"]


@pytest.mark.parametrize(
    "more",
    [
        {"operation": "DELETE", "obj": None},
        {"subResource": "status"},
        {"obj": "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: 1}"},
        {"obj": "{apiVersion: [], kind: {}}"},
        {"obj": []},
    ],
)
def test_what_is_not_judged_is_taken(more: dict[str, Any]) -> None:
    assert judge(**{"obj": ROUTE, **more}) == {"uid": "u-1", "allowed": True}


def test_what_was_bad_before_may_still_be_labelled_and_leave() -> None:
    bad = ROUTE.replace("WEIGHT", "-1")
    touched = bad.replace("{name", "{annotations: {a: b}, name")
    response = judge(touched, operation="UPDATE", old=bad)
    assert response["allowed"]
    assert response["warnings"]
    going = bad.replace("{name", "{deletionTimestamp: now, name")
    assert judge(going, operation="UPDATE", old=ROUTE)["allowed"]
    assert not judge(bad, operation="UPDATE", old=ROUTE)["allowed"]


def test_warnings_are_as_long_as_an_api_server_passes_on() -> None:
    text = ROUTE.replace("hosts: [reviews]", f"hosts: [{', '.join(['a.b!'] * 40)}]").replace("WEIGHT", "1")
    response = judge(text, operation="UPDATE", old=text)
    assert len(response["warnings"]) <= 16
    assert all(len(warning) <= 256 for warning in response["warnings"])


# --- what is no question ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
        b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": 1}}',
        b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "a"}}',
        review([[[[[[[[POD]]]]]]]]),
        review("x" * 10_000),
        review(list(range(2_000))),
    ],
    ids=range(11),
)
def test_a_body_that_is_no_question_is_refused_in_one_sentence(body: bytes) -> None:
    limits = Limits(size=9_000, depth=10, values=1_000)
    for answer in (lambda: mutate(body, Settings(), limits), lambda: validate(body, limits)):
        with pytest.raises(Refused) as refused:
            answer()
        assert str(refused.value)
        assert "\n" not in str(refused.value)
        assert refused.value.__suppress_context__ or refused.value.__context__ is None


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
    | st.sampled_from(["auto", "istio-proxy", "true", '{"containers": [{}, {"name": 1}]}', "[1]"])
)
FIELDS = st.sampled_from(
    [
        *(
            "metadata",
            "labels",
            "annotations",
            "ownerReferences",
            "name",
            "controller",
            "kind",
            "spec",
            "http",
            "hosts",
        ),
        *(
            "containers",
            "initContainers",
            "volumes",
            "env",
            "value",
            "ports",
            "port",
            "image",
            "livenessProbe",
            "httpGet",
        ),
        *("lifecycle", "preStop", "securityContext", "runAsUser", "imagePullSecrets", "resources", "volumeMounts"),
        *("sidecar.istio.io/status", "proxy.istio.io/overrides", "proxy.istio.io/config", "mountPath"),
        *("inject.istio.io/templates", "prometheus.istio.io/scrape-targets", "sidecar.istio.io/userVolume"),
    ]
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4), max_leaves=30
)
NEARLY = st.fixed_dictionaries({"metadata": ANYTHING, "spec": ANYTHING}) | st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {
                "annotations": st.dictionaries(
                    FIELDS, st.text(max_size=3) | SCALARS.filter(lambda each: isinstance(each, str)), max_size=4
                )
            }
        ),
        "spec": st.fixed_dictionaries(
            {
                "containers": st.lists(
                    st.dictionaries(FIELDS, ANYTHING, max_size=3).map(lambda each: {**each, "name": "a"}), max_size=2
                )
            }
        ),
    }
)


@given(ANYTHING | NEARLY)
def test_whatever_is_asked_is_answered(value: Any) -> None:
    assert isinstance(ask(value)["allowed"], bool)
    if isinstance(value, dict):
        head = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
        assert isinstance(judge({**value, **head})["allowed"], bool)
