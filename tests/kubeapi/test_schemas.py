"""What schemas say of documents: built-in kinds from the pack, and kinds that definitions bring."""

from __future__ import annotations

from typing import Any

import pytest

from ostria.base import yaml
from ostria.kubeapi import kinds
from ostria.kubeapi.schemas import Schema, Schemas, strict_decoding_error

SCHEMAS = Schemas.load()


def read(text: str) -> Any:
    (document,) = yaml.read_documents(text, "test")
    assert isinstance(document, yaml.Document)
    return document.value


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, creationTimestamp: null}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web
        ports: [{containerPort: 80}]
        resources: {limits: {cpu: 1, memory: 1Gi}}
"""

WIDGETS = """
type: object
required: [spec]
properties:
  spec:
    type: object
    required: [hosts]
    properties:
      hosts: {type: array, items: {type: string}, minItems: 1, x-kubernetes-list-type: set}
      mode: {type: string, enum: ["ON", "OFF"], default: "ON"}
      weight: {type: integer, format: int32, minimum: 0, maximum: 100}
      name: {type: string, pattern: '^[a-z]+$'}
      port: {x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}
      note: {type: string, nullable: true}
      labels: {type: object, additionalProperties: {type: string}}
      free: {type: object, x-kubernetes-preserve-unknown-fields: true}
      closed: {type: object}
      template: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true}
      uri:
        type: object
        oneOf:
        - not: {anyOf: [{required: [exact]}, {required: [prefix]}]}
        - required: [exact]
        - required: [prefix]
        properties: {exact: {type: string}, prefix: {type: string}}
      rules:
        type: array
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [port, protocol]
        items:
          type: object
          properties:
            port: {type: integer}
            protocol: {type: string, default: TCP}
            retries: {type: object, default: {attempts: 2}, properties: {attempts: {type: integer}}}
"""


def deployment() -> Schema:
    found = SCHEMAS.of("apps", "v1", "Deployment")
    assert found is not None
    return found


def widgets() -> Schema:
    return SCHEMAS.from_crd(read(WIDGETS))


def told(schema: Schema, document: Any) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in schema.check(document)]


@pytest.mark.parametrize("resource", kinds.BUILT_IN, ids=lambda each: f"{each.group}-{each.kind}")
def test_every_built_in_kind_has_a_schema(resource: Any) -> None:
    schema = SCHEMAS.of(resource.group, resource.version, resource.kind)
    assert schema is not None
    assert "metadata" in schema.fields


def test_a_good_deployment_passes_whole() -> None:
    document = read(DEPLOYMENT)
    assert deployment().check(document) == ()
    assert deployment().unknown(document) == ()
    assert deployment().decoding_error(document) is None
    assert deployment().prune(document) == document


def test_unknown_fields_are_named_by_their_paths_and_pruned() -> None:
    document = read(DEPLOYMENT)
    document["spec"]["foo"] = 1
    document["spec"]["template"]["spec"]["containers"][0]["imag"] = "x"
    found = deployment().unknown(document)
    assert found == ("spec.template.spec.containers[0].imag", "spec.foo")
    assert strict_decoding_error(("spec.foo",)) == 'strict decoding error: unknown field "spec.foo"'
    assert deployment().prune(document) == read(DEPLOYMENT)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "replicas",
            "3",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        ("paused", 1, "json: cannot unmarshal number into Go struct field DeploymentSpec.spec.paused of type bool"),
        (
            "selector",
            "x",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.selector of type v1.LabelSelector",
        ),
    ],
)
def test_a_wrong_type_in_a_built_in_kind_is_a_decoding_error(path: str, value: Any, words: str) -> None:
    document = read(DEPLOYMENT)
    document["spec"][path] = value
    wrong = deployment().decoding_error(document)
    assert wrong is not None
    assert wrong.message == words


def test_a_built_in_kind_wants_its_required_fields_but_not_in_status() -> None:
    document = read(DEPLOYMENT)
    del document["spec"]["selector"]
    document["status"] = {"conditions": [{"type": "Available"}]}
    assert told(deployment(), document) == ["spec.selector: Required value"]


def test_secret_names_are_free() -> None:
    schema = SCHEMAS.of("", "v1", "ConfigMap")
    assert schema is not None
    assert schema.unknown({"data": {"any.key": "x"}, "datas": {}}) == ("datas",)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{}", "spec.hosts: Required value"),
        (
            "{hosts: [], weight: 3}",
            'spec.hosts: Invalid value: "array": spec.hosts in body should have at least 1 items',
        ),
        (
            "{hosts: a}",
            'spec.hosts: Invalid value: "string": spec.hosts in body must be of type array: "string"',
        ),
        (
            "{hosts: [a], weight: many}",
            'spec.weight: Invalid value: "string": spec.weight in body must be of type integer: "string"',
        ),
        (
            "{hosts: [a], weight: 101}",
            "spec.weight: Invalid value: 101: spec.weight in body should be less than or equal to 100",
        ),
        (
            "{hosts: [a], weight: 150.0}",
            "spec.weight: Invalid value: 150: spec.weight in body should be less than or equal to 100",
        ),
        ("{hosts: [a], mode: on-ish}", 'spec.mode: Unsupported value: "on-ish": supported values: "ON", "OFF"'),
        (
            "{hosts: [a], name: A}",
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        ("{hosts: [a, b, a]}", 'spec.hosts[2]: Duplicate value: "a"'),
        (
            "{hosts: [a], uri: {exact: a, prefix: b}}",
            'spec.uri: Invalid value: "object": "spec.uri" must validate one and only one schema (oneOf).'
            " Found 2 valid alternatives",
        ),
        (
            "{hosts: [a], rules: [{port: 1}, {port: 1, protocol: TCP}]}",
            'spec.rules[1]: Duplicate value: {"port":1,"protocol":"TCP"}',
        ),
        (
            "{hosts: [a], name: null}",
            'spec.name: Invalid value: "null": spec.name in body must be of type string: "null"',
        ),
        (
            "{hosts: [a], port: true}",
            'spec.port: Invalid value: "boolean": spec.port in body must be of type integer or string: "boolean"',
        ),
    ],
)
def test_a_custom_object_is_refused_in_the_servers_words(spec: str, words: str) -> None:
    assert told(widgets(), {"spec": read(spec)}) == [words]


def test_a_good_custom_object_passes() -> None:
    spec = read("{hosts: [a], weight: 100, name: x, port: http, note: null, uri: {exact: a}, rules: [{port: 1}]}")
    assert widgets().check({"metadata": {"name": "x", "creationTimestamp": None}, "spec": spec}) == ()


def test_a_custom_object_is_pruned_to_its_schema() -> None:
    document = {
        "kind": "Widget",
        "metadata": {"name": "x", "more": 1},
        "spec": {"hosts": ["a"], "free": {"a": 1}, "closed": {"a": 1}, "template": {"spec": {"x": 1}}, "zip": 3},
        "extra": 1,
    }
    assert widgets().unknown(document) == ("metadata.more", "spec.closed.a", "spec.zip", "extra")
    assert widgets().prune(document) == {
        "kind": "Widget",
        "metadata": {"name": "x"},
        "spec": {"hosts": ["a"], "free": {"a": 1}, "closed": {}, "template": {"spec": {"x": 1}}},
    }


def test_defaults_come_where_nothing_is_written_and_into_what_is_there() -> None:
    document = {"spec": {"mode": None, "rules": [{"port": 1, "retries": {}}, {"port": 2}]}}
    filled = widgets().default(document)
    assert filled["spec"]["mode"] == "ON"
    assert filled["spec"]["rules"] == [
        {"port": 1, "retries": {}, "protocol": "TCP"},
        {"port": 2, "protocol": "TCP", "retries": {"attempts": 2}},
    ]
    filled["spec"]["rules"][1]["retries"]["attempts"] = 9
    assert widgets().default(document)["spec"]["rules"][1]["retries"] == {"attempts": 2}
    assert document == {"spec": {"mode": None, "rules": [{"port": 1, "retries": {}}, {"port": 2}]}}
