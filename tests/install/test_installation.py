"""What people say of an installation: layers over each other, and every mistake with its place and a way out."""

from __future__ import annotations

from typing import Any

import pytest

from ostria.apps import istiod
from ostria.base import Level
from ostria.install import Installation, OneMachine, read
from ostria.install.operator import ENVIRONMENT

HEAD = "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"


def installation(text: str = "", *sets: str, machine: OneMachine | None = None) -> Installation:
    found, problems = read([("iop.yaml", HEAD + text)] if text else [], sets, machine=machine)
    assert found is not None, problems
    return found


def check(text: str, *expected: tuple[str, str, str, str], sets: tuple[str, ...] = ()) -> None:
    """What is said of a file and of words after --set: (code, field, origin, hint)."""
    _, problems = read([("iop.yaml", HEAD + text)] if text else [], sets)
    assert [(each.code, each.field, str(each.origin), each.hint) for each in problems] == list(expected)


def test_nobody_says_anything() -> None:
    found = installation()
    assert (found.revision, found.namespace, found.is_default) == ("", "istio-system", True)
    assert [(each.name, each.enabled) for each in found.operator.components.ingress_gateways] == [
        ("istio-ingressgateway", True)
    ]
    assert not found.operator.components.egress_gateways[0].enabled


@pytest.mark.parametrize(
    ("profile", "pilot", "ingress", "egress"),
    [
        ("default", True, True, False),
        ("demo", True, True, True),
        ("minimal", True, False, False),
        ("empty",) + (False,) * 3,
    ],
)
def test_a_profile_says_which_components_there_are(profile: str, pilot: bool, ingress: bool, egress: bool) -> None:
    components = installation("", f"profile={profile}").operator.components
    gateways = components.ingress_gateways[0].enabled, components.egress_gateways[0].enabled
    assert (components.pilot.enabled, *gateways) == (pilot, ingress, egress)


def test_a_file_lies_over_its_profile_and_the_command_line_over_the_file() -> None:
    text = """
spec:
  profile: demo
  meshConfig: {accessLogFile: "", enableAutoMtls: true}
  components:
    pilot: {k8s: {replicaCount: 2}}
    ingressGateways:
    - {name: istio-ingressgateway, label: {app: ingressgateway}}
    - {name: inner, namespace: edge}
"""
    found = installation(text, "components.pilot.k8s.replicaCount=3", "meshConfig.enableAutoMtls=false").operator
    assert found.components.pilot.k8s.replica_count == 3
    assert found.mesh_config == {"accessLogFile": "", "enableAutoMtls": False}
    assert [(each.name, each.namespace, dict(each.label)) for each in found.components.ingress_gateways] == [
        ("istio-ingressgateway", "", {"app": "ingressgateway"}),
        ("inner", "edge", {}),
    ]


def test_the_command_lines_profile_wins() -> None:
    found = installation("spec: {profile: empty}", "profile=demo")
    assert found.operator.components.egress_gateways[0].enabled


def test_paths_reach_into_lists_and_names_with_dots() -> None:
    found = installation(
        "",
        "components.ingressGateways[0].label.istio=edge",
        "components.ingressGateways[name:inner].namespace=edge",
        r"components.ingressGateways[0].k8s.serviceAnnotations.lb\.example\.com/scheme=internal",
        "values.pilot.env.PILOT_FLAG=true",
        "values.global.imagePullSecrets={one,two}",
        "values.global.tag=1.20",
        "revision=1234",
    )
    first, second = found.operator.components.ingress_gateways
    assert first.label == {"istio": "edge"}
    assert first.k8s.service_annotations == {"lb.example.com/scheme": "internal"}
    assert (second.name, second.namespace) == ("inner", "edge")
    assert found.operator.values.global_.image_pull_secrets == ("one", "two")
    assert found.revision == "1234"
    assert not found.is_default


def test_what_is_misspelt_is_an_error_with_its_place_and_the_nearest_name() -> None:
    check(
        """spec:
  profil: demo
  meshConfig:
    accessLogFil: /dev/stdout
  components:
    pilot:
      k8s:
        replicaCount: two
  values:
    global: {proxy: {logLevl: debug}}
""",
        ("unknown-field", "spec.meshConfig.accessLogFil", "iop.yaml:6:5", "did you mean `accessLogFile`?"),
        ("unknown-field", "spec.profil", "iop.yaml:4:3", "did you mean `profile`?"),
        ("wrong-type", "spec.components.pilot.k8s.replicaCount", "iop.yaml:10:9", ""),
        ("unknown-field", "spec.values.global.proxy.logLevl", "iop.yaml:12:22", "did you mean `logLevel`?"),
    )
    check(
        "",
        ("unknown-field", "components.pilott", "--set components.pilott.enabled=true", "did you mean `pilot`?"),
        ("invalid-value", "", "--set profile", ""),
        ("invalid-value", "spec.profile", "--set profile=dmo", "did you mean `demo`?"),
        sets=("components.pilott.enabled=true", "profile", "profile=dmo"),
    )


def test_what_istio_has_and_has_no_effect_here_is_said_and_stops_nothing() -> None:
    text = """spec:
  meshConfig: {defaultProviders: {tracing: [otel]}}
  components: {cni: {enabled: true}, ztunnel: {enabled: false}}
  values: {pilot: {traceSampling: 100}}
"""
    found, problems = read([("iop.yaml", HEAD + text)])
    assert found is not None
    assert [(each.code, each.level, each.field) for each in problems] == [
        ("not-acted-on", Level.WARNING, "spec.components.cni"),
        ("not-acted-on", Level.WARNING, "spec.values.pilot.traceSampling"),
        ("not-acted-on", Level.WARNING, "spec.meshConfig.defaultProviders"),
    ]


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("values.pilot.traceSampling=1", "values.pilot.traceSampling"),
        ("components.cni.enabled=true", "components.cni"),
        ("values.global.proxy.tracer=zipkin", "values.global.proxy.tracer"),
        ("meshConfig.defaultProviders.tracing[0]=otel", "meshConfig.defaultProviders"),
    ],
)
def test_on_a_command_line_too(word: str, field: str) -> None:
    found, problems = read((), [word])
    assert found is not None, problems
    assert [(each.code, each.field, str(each.origin)) for each in problems] == [
        ("not-acted-on", field, f"--set {word}")
    ]


def test_variables_that_istiod_does_not_read_are_said() -> None:
    text = """spec:
  components:
    pilot:
      k8s:
        env:
        - {name: CLUSTER_ID, value: c}
        - {name: PILOT_FILTER_GATEWAY_CLUSTER_CONFIG, value: "true"}
"""
    found, problems = read([("iop.yaml", HEAD + text)], ["values.pilot.env.ENABLE_NATIVE_SIDECARS=false"])
    assert found is not None
    assert [(each.code, each.field) for each in problems] == [("not-acted-on", "spec.components.pilot.k8s.env[1]")]


def test_the_variables_that_are_known_are_those_that_istiod_reads() -> None:
    class Recording(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return default

    asked: set[str] = set()
    istiod.settings_from(Recording())
    # The log's, and those of the child that fetches modules.
    others = {"OSTRIA_LOG", "OSTRIA_ALLOWED_CIDRS_IN_MODULE_URLS", "WASM_INSECURE_REGISTRIES"}
    assert asked | others == ENVIRONMENT


def test_another_kind_of_document_is_refused() -> None:
    _, problems = read([("x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")])
    assert [(each.code, str(each.origin)) for each in problems] == [("unknown-kind", "x.yaml:1:1")]


def test_ports_and_ranges_that_are_none_are_refused_before_anything_is_installed() -> None:
    for word in ("values.global.proxy.excludeInboundPorts=80,http", "values.global.proxy.includeIPRanges=10.0.0.0/99"):
        found, problems = read((), [word])
        assert found is None
        assert [each.field for each in problems] == ["spec.values.global.proxy"]


def test_on_one_machine_there_is_a_mark_and_no_hub() -> None:
    machine = OneMachine()
    found, problems = read((), ["profile=demo", "hub=docker.io/istio", "tag=1.25.0"], machine=machine)
    assert found is not None
    assert [(each.code, each.level) for each in problems] == [("not-acted-on", Level.WARNING)]
    assert found.operator.values.pilot.env == {
        "OSTRIA_SOCKET_MARK": "1337",
    }
