"""The door: what people write becomes typed objects, or problems that name the field and the line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ostria.base import Level, ObjectKey, Problem
from ostria.resources import Reading, read_text
from ostria.resources.destination_rule import DestinationRule
from ostria.resources.kubernetes import ConfigMap, Pod, Service
from ostria.resources.mesh_config import parse_mesh_config
from ostria.resources.virtual_service import Destination, StringMatch, VirtualService

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\n"


def parsed(text: str) -> Any:
    reading = read_text(text, "f.yaml")
    (change,) = reading.changes
    assert change.object is not None, change.problems
    return change.object


def check(text: str, *expected: tuple[str, str, int]) -> tuple[Problem, ...]:
    """The document is refused for exactly these (code, field, line)."""
    reading = read_text(text, "f.yaml")
    found = reading.problems + tuple(problem for change in reading.changes for problem in change.problems)
    assert [(problem.code, problem.field, problem.origin and problem.origin.line) for problem in found] == list(
        expected
    )
    assert all(change.object is None for change in reading.changes)
    return found


def test_a_virtual_service_in_any_version_is_one_kind() -> None:
    for version in ("v1", "v1beta1", "v1alpha3"):
        text = (
            HEAD.replace("/v1", f"/{version}")
            + "spec: {hosts: [a], http: [{timeout: 2s, route: [{destination: {host: b}}]}]}"
        )
        reading = read_text(text, "f.yaml", namespace="shop")
        (change,) = reading.changes
        assert change.key == ObjectKey("", "VirtualService", "shop", "reviews")
        assert isinstance(change.object, VirtualService)
        assert change.object.spec.http[0].route[0].destination == Destination("b")
        assert change.object.spec.http[0].timeout == 2_000_000_000
        assert change.object.metadata.namespace == "shop"


def test_what_every_write_changes_has_no_part_in_equality() -> None:
    plain = parsed(HEAD + "spec: {hosts: [a], http: [{route: [{destination: {host: b}}]}]}")
    noisy = parsed(
        HEAD.replace(
            "{name: reviews}", "{name: reviews, namespace: default, resourceVersion: '7', managedFields: [{}]}"
        )
        + "spec: {hosts: [a], gateways: null, http: [{route: [{weight: 0, destination: {host: b}}]}]}\nstatus: {x: 1}"
    )
    assert plain == noisy


def test_every_mistake_is_told_with_its_field_its_line_and_what_was_meant() -> None:
    found = check(
        HEAD
        + """spec:
  hosts: [reviews]
  gatways: [a]
  http:
  - route:
    - destination: {host: reviews, subst: v1}
      weight: "90"
    - destination: {subset: 2}
    timeout: 5
    match:
    - uri: {exact: /, prefix: /}
      headers: {a.b: {exact: 1}}
    corsPolicy: {unmatchedPreflights: FORWRD}
  tls: {}
spek: {}
""",
        ("unknown-field", "spec.gatways", 6),
        ("unknown-field", "spec.http[0].route[0].destination.subst", 9),
        ("wrong-type", "spec.http[0].route[0].weight", 10),
        ("wrong-type", "spec.http[0].route[1].destination.subset", 11),
        ("required-field", "spec.http[0].route[1].destination.host", 11),
        ("wrong-type", "spec.http[0].timeout", 12),
        ("one-of", "spec.http[0].match[0].uri.prefix", 14),
        ("wrong-type", 'spec.http[0].match[0].headers["a.b"].exact', 15),
        ("invalid-value", "spec.http[0].corsPolicy.unmatchedPreflights", 16),
        ("wrong-type", "spec.tls", 17),
        ("unknown-field", "spek", 18),
    )
    hints = {problem.field.rpartition(".")[2]: problem.hint for problem in found}
    assert hints["gatways"] == "did you mean `gateways`?"
    assert hints["subst"] == "did you mean `subset`?"
    assert hints["weight"] == "remove the quotes"
    assert hints["timeout"] == 'give the unit: "5s"'
    assert hints["unmatchedPreflights"] == "did you mean `FORWARD`?"
    # `spec` is written already, so that is not what was meant.
    assert hints["spek"] == ""
    assert all(problem.object == ObjectKey("", "VirtualService", "default", "reviews") for problem in found)


@pytest.mark.parametrize(
    ("text", "code", "field", "line"),
    [
        ("just a text", "not-an-object", "", 1),
        ("- 1\n- 2", "not-an-object", "", 1),
        ("kind: Service\nmetadata: {name: a}", "not-an-object", "apiVersion", 1),
        ("apiversion: v1\nkind: Service", "not-an-object", "apiVersion", 1),
        ("apiVersion: v1\nkind: [a]", "not-an-object", "kind", 2),
        ("apiVersion: v1\nkind: Service", "required-field", "metadata.name", 1),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: 1}", "required-field", "metadata.name", 3),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: 1}", "wrong-type", "metadata.namespace", 3),
        ("apiVersion: networking.istio.io/v2\nkind: Gateway\nmetadata: {name: a}", "unknown-kind", "apiVersion", 1),
        ("apiVersion: networking.istio.io/v1\nkind: Gatway\nmetadata: {name: a}", "unknown-kind", "kind", 2),
    ],
)
def test_what_is_no_object_of_the_mesh(text: str, code: str, field: str, line: int) -> None:
    check(text, (code, field, line))


def test_kinds_that_the_mesh_does_not_read_are_passed_over() -> None:
    reading = read_text("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: a, namespace: b}", "f.yaml")
    assert reading == Reading(unread=(("apps/v1", "StatefulSet", "b", "a"),))


def test_a_list_gives_its_items() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a}}\n- 1\n"
    reading = read_text(text, "f.yaml")
    assert [change.key.name for change in reading.changes] == ["a"]
    assert reading.problems[0].origin is not None
    assert reading.problems[0].origin.line == 5


def test_kubernetes_shapes_pass_over_what_a_mesh_does_not_read() -> None:
    service = parsed(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n"
        "spec:\n  clusterIP: None\n  future: 1\n  ports: [{port: 80, targetPort: http}, {port: 81, targetPort: 8081}]\n"
    )
    assert isinstance(service, Service)
    assert (service.spec.cluster_ip, service.spec.ports[0].target_port) == ("None", "http")
    assert service.spec.ports[1].target_port == 8081
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}",
        ("wrong-type", "spec.ports[0].port", 4),
    )
    pod = parsed(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: null}\n"
        "spec: {containers: [{name: c, readinessProbe: {httpGet: {port: 80}}}]}\n"
        "status: {podIP: 1.2.3.4, podIPs: [{ip: 1.2.3.4}]}"
    )
    assert isinstance(pod, Pod)
    assert pod.status.pod_ips[0].ip == "1.2.3.4"


def test_validation_speaks_with_lines_too() -> None:
    check(
        HEAD + "spec:\n  hosts: [a]\n  http:\n  - route:\n    - destination: {host: a}\n      weight: -1\n",
        ("invalid-value", "spec.http[0].route[0].weight", 9),
    )


def test_mesh_config_is_checked_where_it_lies() -> None:
    text = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata:\n  mesh: |\n    accessLogFile: /dev/stdout\n"
    )
    config = parsed(text)
    assert isinstance(config, ConfigMap)
    settings, problems = parse_mesh_config(config.data["mesh"])
    assert (settings.access_log_file, problems) == ("/dev/stdout", ())
    check(text + "    enableAutoMtls: maybe\n", ("wrong-type", "data.mesh.enableAutoMtls", 5))
    # Another ConfigMap may hold what it likes.
    assert parsed(text.replace("name: istio", "name: other") + "    enableAutoMtls: maybe\n")


def test_mesh_config_accepts_what_istio_has_and_warns_of_the_rest() -> None:
    settings, problems = parse_mesh_config(
        "extensionProviders: [{name: x}]\naccessLogFil: a\ndefaultConfig: {future: 1}\n"
    )
    assert settings.enable_auto_mtls
    assert [(problem.level, problem.field, problem.hint) for problem in problems] == [
        (Level.WARNING, "accessLogFil", "did you mean `accessLogFile`?"),
        (Level.WARNING, "defaultConfig.future", ""),
    ]
    assert parse_mesh_config("")[0] == parse_mesh_config("{}")[0]
    assert parse_mesh_config("- 1")[1][0].level is Level.ERROR


def test_conflicting_fields_cannot_exist_in_an_object() -> None:
    with pytest.raises(ValueError, match="at most one of exact, prefix, regex"):
        StringMatch("a", "b")


def test_a_locality_keeps_its_word() -> None:
    rule = parsed(
        HEAD.replace("VirtualService", "DestinationRule")
        + "spec:\n  host: a\n  trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 0}\n"
        "    loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {a/*: 100}}]}}\n"
    )
    assert isinstance(rule, DestinationRule)
    assert rule.spec.traffic_policy is not None
    assert rule.spec.traffic_policy.outlier_detection is not None
    assert rule.spec.traffic_policy.outlier_detection.consecutive_5xx_errors == 0
    assert b'"from":"a/*"' in msgspec.json.encode(rule.spec)


def test_ten_megabytes_and_bombs_harm_no_neighbour() -> None:
    bomb = "a0: &a0 [x,x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]\n" for i in range(1, 40))
    good = HEAD + "spec: {hosts: [a], http: [{route: [{destination: {host: b}}]}]}\n"
    reading = read_text("\n---\n".join(["x: " + "y" * 10_000_000, bomb, "[" * 9999, good]), "f.yaml")
    assert [problem.code for problem in reading.problems] == ["yaml-too-large", "yaml-too-large", "yaml-too-deep"]
    assert reading.changes[0].object is not None
