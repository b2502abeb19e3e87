"""CustomResourceDefinitions: which are in order, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from ostria.kubeapi import crds, kinds
from ostria.kubeapi.defaults import default

NOW = 1_780_000_000.0
CRDS = kinds.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")


def definition(change: Callable[[Any], Any] = lambda crd: None) -> Any:
    document = yaml.safe_load("""
        apiVersion: apiextensions.k8s.io/v1
        kind: CustomResourceDefinition
        metadata: {name: widgets.shop.example}
        spec:
          group: shop.example
          scope: Namespaced
          names: {kind: Widget, plural: widgets, shortNames: [wd]}
          versions:
          - name: v1
            served: true
            storage: true
            schema:
              openAPIV3Schema:
                type: object
                properties:
                  spec: {type: object, properties: {sizes: {type: array, items: {type: integer}}}}
            additionalPrinterColumns: [{name: Size, type: integer, jsonPath: ".spec.sizes[0]"}]
    """)
    change(document)
    assert CRDS is not None
    return default(CRDS, document)


def version(crd: Any) -> Any:
    return crd["spec"]["versions"][0]


def properties(crd: Any) -> Any:
    return version(crd)["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


SCHEMA = "spec.versions[0].schema.openAPIV3Schema"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda crd: None, []),
        (lambda crd: crd["metadata"].update(name="widgets"),
         ['metadata.name: Invalid value: "widgets": must be spec.names.plural+"."+spec.group']),
        (lambda crd: crd["spec"].update(scope="World"),
         ['spec.scope: Unsupported value: "World": supported values: "Cluster", "Namespaced"']),
        (lambda crd: version(crd).update(storage=False),
         ['spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version']),
        (lambda crd: version(crd).pop("schema"), [f"{SCHEMA}: Required value: schemas are required"]),
        (lambda crd: properties(crd).update(sizes={"type": "array"}),
         [f"{SCHEMA}.properties[spec].properties[sizes].items: Required value: must be specified"]),
        (lambda crd: properties(crd).update(sizes={"description": "no type"}),
         [f"{SCHEMA}.properties[spec].properties[sizes].type: Required value: "
          "must not be empty for specified object fields"]),
        (lambda crd: version(crd)["additionalPrinterColumns"][0].update(jsonPath=".spec.sizes[?(@"),
         ['spec.versions[0].additionalPrinterColumns[0].jsonPath: Invalid value: ".spec.sizes[?(@": '
          "invalid json path: '[?(@'"]),
    ],
)  # fmt: skip
def test_a_definition_that_is_not_in_order_says_where(change: Any, words: list[str]) -> None:
    assert [f"{cause.field}: {cause.message}" for cause in crds.check(definition(change))] == words


def test_a_definition_is_established_and_remembers_since_when() -> None:
    crd = definition()
    crd["status"] = crds.status(crd, (), NOW)
    assert crds.is_established(crd)
    assert crd["status"]["storedVersions"] == ["v1"]
    assert crd["status"]["acceptedNames"]["listKind"] == "WidgetList"
    assert crds.status(crd, (crd,), NOW + 60) == crd["status"]


def test_the_second_of_one_name_waits() -> None:
    first = definition()
    first["status"] = crds.status(first, (), NOW)
    second = definition(lambda crd: (crd["metadata"].update(name="gadgets.shop.example"),
                                     crd["spec"]["names"].update(plural="gadgets", singular="gadget")))  # fmt: skip
    second["status"] = crds.status(second, (first, second), NOW)
    accepted = second["status"]["conditions"][0]
    assert (accepted["status"], accepted["reason"]) == ("False", "ShortNamesConflict")
    assert not crds.is_established(second)
    assert crds.is_established({"status": crds.status(second, (second,), NOW)})
