"""What kubectl reads of kinds in OpenAPI v3 before it applies or explains."""

from __future__ import annotations

from typing import Any

import pytest

from ostria.kubeapi import openapi
from ostria.kubeapi.kinds import BUILT_IN, from_crd
from ostria.kubeapi.requests import Resource
from ostria.kubeapi.schemas import Schemas

SCHEMAS = Schemas.load()


def definition(kind: str = "integer") -> Any:
    spec = {"type": "object", "description": "What is wanted.", "properties": {"size": {"type": kind}}}
    schema = {"type": "object", "description": "A widget.", "properties": {"spec": spec}}
    return {
        "metadata": {"name": "widgets.example.dev"},
        "spec": {
            "group": "example.dev",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def built_in(_: Resource) -> None:
    return None


def document(group: str, version: str) -> Any:
    found = openapi.group_version(group, version, BUILT_IN, SCHEMAS, built_in)
    assert found is not None
    return found


GROUPS = sorted({(each.group, each.version) for each in BUILT_IN})


@pytest.mark.parametrize(("group", "version"), GROUPS)
def test_every_reference_of_a_document_resolves(group: str, version: str) -> None:
    found = document(group, version)

    def references(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(references, node)) if node else set()
        if not isinstance(node, dict):
            return set()
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))

    named = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert references(found) <= named


@pytest.mark.parametrize("resource", [each for each in BUILT_IN if "patch" in each.verbs], ids=lambda each: each.kind)
def test_every_kind_can_be_applied_and_explained(resource: Resource) -> None:
    found = document(resource.group, resource.version)
    gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    patches = [
        held["patch"]
        for path, held in found["paths"].items()
        if path.endswith(f"/{resource.plural}/{{name}}") and "patch" in held
    ]
    assert [each["x-kubernetes-group-version-kind"] for each in patches] == [gvk]
    assert "application/strategic-merge-patch+json" in patches[0]["requestBody"]["content"]
    assert {"dryRun", "fieldValidation"} <= {each["name"] for each in patches[0]["parameters"]}
    kinds = [
        schema
        for schema in found["components"]["schemas"].values()
        if gvk in schema.get("x-kubernetes-group-version-kind", ())
    ]
    assert len(kinds) == 1
    assert kinds[0]["description"]


def test_merge_keys_reach_the_client_also_beside_references() -> None:
    schemas = document("apps", "v1")["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    strategy = schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"]
    assert strategy["x-kubernetes-patch-strategy"] == "retainKeys"
    assert strategy["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]


def test_a_definition_brings_a_document_that_knows_no_strategic_patch() -> None:
    crd = definition()
    found = openapi.group_version("example.dev", "v1", from_crd(crd), SCHEMAS, lambda _: crd)
    assert found is not None
    patch = found["paths"]["/apis/example.dev/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]
    schema = found["components"]["schemas"]["dev.example.v1.Widget"]
    assert schema["properties"]["spec"]["properties"] == {"size": {"type": "integer"}}
    assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in found["components"]["schemas"]


def test_the_index_names_every_group_and_its_address_changes_with_what_is_said() -> None:
    def addresses(crd: Any) -> dict[str, str]:
        rows = (*BUILT_IN, *from_crd(crd))
        paths = openapi.index(rows, SCHEMAS, lambda each: crd if each.crd else None)["paths"]
        return {path: held["serverRelativeURL"] for path, held in paths.items()}

    one, same, other = addresses(definition()), addresses(definition()), addresses(definition("string"))
    assert {"api/v1", "apis/apps/v1", "apis/example.dev/v1"} <= one.keys()
    assert one == same
    assert {path for path in one if one[path] != other[path]} == {"apis/example.dev/v1"}


def test_nothing_is_told_of_what_is_not_served() -> None:
    assert openapi.group_version("apps", "v1beta1", BUILT_IN, SCHEMAS, built_in) is None
