"""What a pod looks like with its proxy, and what holds for every pod."""

from __future__ import annotations

import copy
import json
import pathlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Golden
from ostria.base.yaml import Document, read_documents
from ostria.capture import settings as capture
from ostria.injection import Settings, inject, inject_text, with_mesh_config
from ostria.injection.owner import owner_of
from ostria.injection.pods import take_out
from ostria.resources.mesh_config import parse_mesh_config

GOLDENS = pathlib.Path(__file__).parent / "goldens"


@pytest.mark.parametrize("name", ["sidecar", "gateway", "held", "own-proxy"])
def test_manifests(name: str, golden: Golden) -> None:
    injected = inject_text((GOLDENS / f"{name}.yaml").read_text(), f"{name}.yaml", Settings())
    assert injected.problems == ()
    golden.check(GOLDENS / f"{name}.injected.yaml", injected.text)


def check(pod: dict[str, Any], settings: Settings = Settings()) -> dict[str, Any]:  # noqa: B008
    before = copy.deepcopy(pod)
    injection = inject(pod, "default", settings)
    assert pod == before, "what goes in is not changed"
    assert injection.pod is not None, injection
    assert inject(injection.pod, "default", settings).pod == injection.pod, "injecting twice is injecting once"
    return injection.pod


def shop(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "shop"}, "spec": {"containers": [{"name": "shop", "image": "x"}], **spec}}


def proxy_of(pod: dict[str, Any]) -> dict[str, Any]:
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    (found,) = [each for each in containers if each["name"] == "istio-proxy"]
    result: dict[str, Any] = found
    return result


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in proxy_of(pod)["env"]}


# --- laws ----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "istio-proxy", "istio-init"])
PROBES = st.fixed_dictionaries(
    {},
    optional={
        "httpGet": st.fixed_dictionaries(
            {"port": st.sampled_from([80, "http", "none"])}, optional={"path": st.just("/x")}
        ),
        "timeoutSeconds": st.integers(1, 3),
    },
)
CONTAINERS = st.fixed_dictionaries(
    {"name": NAMES, "image": st.sampled_from(["auto", "x"])},
    optional={
        "env": st.lists(
            st.fixed_dictionaries({"name": st.sampled_from(["A", "POD_NAME"]), "value": st.just("1")}), max_size=1
        ),
        "ports": st.just([{"name": "http", "containerPort": 8080}]),
        "livenessProbe": PROBES,
        "lifecycle": st.fixed_dictionaries({}, optional={"preStop": PROBES}),
        "securityContext": st.fixed_dictionaries({}, optional={"runAsUser": st.integers(0, 2000)}),
    },
)
PODS = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.just("shop")},
            optional={
                "labels": st.dictionaries(st.sampled_from(["app", "version"]), st.sampled_from(["x", "y"])),
                "annotations": st.fixed_dictionaries(
                    {},
                    optional={
                        "prometheus.io/port": st.just("9090"),
                        "prometheus.io/scrape": st.sampled_from(["true", "false"]),
                        "prometheus.istio.io/scrape-targets": st.just("80:/a,90:/b"),
                        "inject.istio.io/templates": st.sampled_from(["gateway", "sidecar"]),
                        "sidecar.istio.io/nativeSidecar": st.sampled_from(["true", "false"]),
                        "status.sidecar.istio.io/port": st.sampled_from(["0", "15099"]),
                        "sidecar.istio.io/interceptionMode": st.sampled_from(["NONE", "REDIRECT"]),
                    },
                ),
            },
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.lists(CONTAINERS, min_size=1, max_size=3, unique_by=lambda each: each["name"])},
            optional={
                "volumes": st.lists(
                    st.fixed_dictionaries({"name": st.sampled_from(["a", "b"]), "emptyDir": st.just({})}),
                    max_size=2,
                    unique_by=lambda each: each["name"],
                ),
                "imagePullSecrets": st.just([{"name": "mine"}]),
                "nodeName": st.just("n"),
            },
        ),
    }
)


@given(PODS, st.booleans())
def test_any_pod(pod: dict[str, Any], plugged: bool) -> None:
    settings = Settings(cni="multus" if plugged else "", pull_secrets=("ours",), network="n1")
    injected = check(pod, settings)
    containers = injected["spec"].get("initContainers", []) + injected["spec"]["containers"]
    assert sum(each["name"] == "istio-proxy" for each in containers) == 1
    names = [each["name"] for each in containers]
    assert len(names) == len(set(names))
    mounted = {mount["name"] for each in containers for mount in each.get("volumeMounts", ())}
    assert mounted <= {volume["name"] for volume in injected["spec"]["volumes"]}
    json.dumps(injected)


@given(PODS)
def test_taking_out_leaves_the_containers_that_were_there(pod: dict[str, Any]) -> None:
    bare = take_out(check(pod))

    def normal(containers: list[dict[str, Any]]) -> dict[str, Any]:
        # A probe's port is a number from now on.
        text = json.dumps({each["name"]: each for each in containers})
        return json.loads(text.replace('"http"', "8080"))  # type: ignore[no-any-return]

    assert normal(bare["spec"]["containers"]) == normal(pod["spec"]["containers"])
    assert bare["spec"].get("volumes", []) == pod["spec"].get("volumes", [])
    assert "initContainers" not in bare["spec"]


# --- stories -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_followed_refuses_the_pod_by_the_annotations_name() -> None:
    pod = shop()
    pod["metadata"]["annotations"] = {
        "status.sidecar.istio.io/port": "many",
        "proxy.istio.io/config": "[",
        "sidecar.istio.io/proxyCPU": "lots",
        "sidecar.istio.io/userVolume": '{"a": 1}',
        "traffic.sidecar.istio.io/excludeInboundPorts": "http",
        "sidecar.istio.io/nativeSidecar": "perhaps",
    }
    injection = inject(pod, "default", Settings())
    assert injection.refused
    for name in pod["metadata"]["annotations"]:
        assert any(name in problem.message for problem in injection.problems), name


@pytest.mark.parametrize(
    ("volumes", "mounts"),
    [
        ('{"ca": {"secret": {"secretName": "ca"}}}', '{"ca": {"mountPath": "/etc/ca"}}'),
        ('[{"name": "ca", "secret": {"secretName": "ca"}}]', '[{"name": "ca", "mountPath": "/etc/ca"}]'),
    ],
)
def test_volumes_of_ones_own_are_maps_by_name_or_lists(volumes: str, mounts: str) -> None:
    pod = shop()
    names = ("sidecar.istio.io/userVolume", "sidecar.istio.io/userVolumeMount")
    pod["metadata"]["annotations"] = dict(zip(names, (volumes, mounts), strict=True))
    spec = check(pod)["spec"]
    assert {"name": "ca", "secret": {"secretName": "ca"}} in spec["volumes"]
    (proxy,) = (each for each in spec.get("initContainers", []) + spec["containers"] if each["name"] == "istio-proxy")
    assert {"name": "ca", "mountPath": "/etc/ca"} in proxy["volumeMounts"]


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        ("text", ""),
        ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers[0]"),
        ({"spec": {"containers": {"name": "x"}}}, "spec.containers"),
        ({"metadata": {"labels": {"a": 1}}, "spec": {}}, "metadata.labels[...]"),
        ({"spec": {"volumes": ["a"]}}, "spec.volumes[0]"),
        ({"spec": {"containers": [{"name": "x", "env": {}}]}}, "spec.containers[0].env"),
    ],
)
def test_what_is_not_shaped_as_a_pod_is_refused(pod: Any, field: str) -> None:
    injection = inject(pod, "default", Settings())
    assert injection.refused
    assert injection.problems[0].field == field


SPIRE = """
spec:
  containers:
  - name: istio-proxy
    env: [{name: CA_ADDR, value: "spire:1"}]
  volumes: [{name: workload-socket, csi: {driver: csi.spiffe.io}}]
"""


def test_templates_of_ones_own_are_laid_over_in_order_and_the_author_has_the_last_word() -> None:
    settings = Settings(templates={"spire": SPIRE})
    pod = shop()
    pod["metadata"]["annotations"] = {"inject.istio.io/templates": "sidecar, spire"}
    injected = check(pod, settings)
    assert {"name": "workload-socket", "csi": {"driver": "csi.spiffe.io"}} in injected["spec"]["volumes"]
    assert variables(injected)["CA_ADDR"] == "spire:1"
    assert [each["name"] for each in injected["spec"]["containers"]] == ["shop"]
    pod["spec"]["containers"].append({"name": "istio-proxy", "env": [{"name": "CA_ADDR", "value": "mine:1"}]})
    assert variables(check(pod, settings))["CA_ADDR"] == "mine:1"


@pytest.mark.parametrize(
    ("text", "code"),
    [(None, "unknown-template"), ("spec: {{ .Spec }}", "unsupported-template"), ("[]", "unsupported-template")],
)
def test_a_template_that_cannot_be_used(text: str | None, code: str) -> None:
    settings = Settings(templates={"mine": text} if text else {})
    pod = shop()
    pod["metadata"]["annotations"] = {"inject.istio.io/templates": "mine"}
    (problem,) = inject(pod, "default", settings).problems
    assert problem.code == code


def test_mesh_config_is_followed() -> None:
    text = "{trustDomain: td, enablePrometheusMerge: false, defaultConfig: {concurrency: 3, drainDuration: 5s}}"
    mesh, problems = parse_mesh_config(text)
    assert not problems
    injected = check(shop(), with_mesh_config(Settings(), mesh))
    assert variables(injected)["TRUST_DOMAIN"] == "td"
    assert json.loads(variables(injected)["PROXY_CONFIG"]) == {"concurrency": 3, "drainDuration": "5s"}
    assert "prometheus.io/port" not in injected["metadata"]["annotations"]


def test_one_machine_knows_the_proxy_by_its_mark() -> None:
    injected = check(shop(), Settings(capture=capture.marked()))
    assert variables(injected)["OSTRIA_SOCKET_MARK"] == "1337"
    init = injected["spec"]["initContainers"][0]
    assert init["args"][init["args"].index("--mark") + 1] == "1337"


def test_a_copied_pod_gets_this_revisions_proxy() -> None:
    old = check(shop(), Settings(revision="old", image="old/proxy"))
    injection = inject(old, "default", Settings(revision="new", image="new/proxy"))
    assert injection.pod == inject(shop(), "default", Settings(revision="new", image="new/proxy")).pod


@pytest.mark.parametrize(
    ("controller", "labels", "expected"),
    [
        (None, {}, ("v1", "Pod", "shop-1")),
        (("apps/v1", "ReplicaSet", "shop-5d4f"), {"pod-template-hash": "5d4f"}, ("apps/v1", "Deployment", "shop")),
        (("apps/v1", "ReplicaSet", "shop-5d4f"), {}, ("apps/v1", "ReplicaSet", "shop-5d4f")),
        (("batch/v1", "Job", "nightly-28394820"), {}, ("batch/v1", "CronJob", "nightly")),
        (("batch/v1", "Job", "once"), {}, ("batch/v1", "Job", "once")),
    ],
)
def test_whose_pod_it_is(controller: Any, labels: dict[str, str], expected: Any) -> None:
    references = (
        [dict(zip(("apiVersion", "kind", "name"), controller, strict=True), controller=True)] if controller else []
    )
    pod = {"metadata": {"name": "shop-1", "labels": labels, "ownerReferences": references}}
    assert owner_of(pod, "default")[:3] == expected


def test_settings_are_values() -> None:
    assert msgspec.structs.replace(Settings(), cluster="c2") == Settings(cluster="c2")


# --- manifests -----------------------------------------------------------------------------------------------------


def test_what_holds_no_pods_passes_through() -> None:
    text = 'apiVersion: v1\nkind: Service\nmetadata:\n  name: "yes"\n---\n- 1\n'
    injected = inject_text(text, "x", Settings())
    assert list(injected.documents) == [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "yes"}},
        [1],
    ]


def test_who_is_left_alone_is_told_with_the_line() -> None:
    text = "kind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    spec: {hostNetwork: true}\n"
    (problem,) = inject_text(text, "a.yaml", Settings()).problems
    assert problem.message.startswith('Deployment "default/a" is left as it is: it uses the host')
    assert str(problem.origin) == "a.yaml:4:3"


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    [
        "yes",
        "1e3",
        "0x1f",
        "1_000",
        "-p",
        "--a",
        "---",
        "a: b",
        "a #b",
        "~",
        "",
        "null",
        "12:30:45",
        "*",
        "&a",
        "\n",
        "\ta",
    ]
)


@given(
    st.recursive(
        TEXTS | st.booleans() | st.integers() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(bool), inner, max_size=3),
    )
)
def test_what_is_written_is_read_as_it_was(value: Any) -> None:
    from ostria.injection.files import write

    (document,) = read_documents(write({"value": value}), "x")
    assert isinstance(document, Document), document
    assert document.value == {"value": value}
