"""Istio's own samples are read whole, are valid, and nothing is wrong with them beside the rest of their sample."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from doubles import conformance
from doubles.conformance import DATA
from ostria.analysis import findings
from ostria.base import Level, Problem
from ostria.base.yaml import Document, read_documents
from ostria.engine import Engine
from ostria.resources import KINDS, Change, Store
from ostria.resources.parse import read_text
from ostria.sources.manifests import items

SUITE = "samples"
_OURS = (".istio.io/", "gateway.networking.k8s.io/")

# What the samples stand on: the control plane, gateways' pods, and what cert-manager makes while it is asked.
AROUND = "\n---\n".join(
    [
        f"""
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: istio-system
  labels: {{istio: {name}, app: istio-{name}}}
  annotations: {{inject.istio.io/templates: gateway}}
"""
        for name in ("ingressgateway", "egressgateway")
    ]
    + [
        f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: istio-system}}
spec: {{clusterIP: 10.96.9.{number}, ports: [{{name: http, port: {port}}}, {{name: tls, port: 443}}]}}
"""
        for number, (name, port) in enumerate(
            (
                ("istiod", 15012),
                ("istio-ingressgateway", 80),
                ("istio-egressgateway", 80),
                ("cert-manager-resolver", 8089),
            )
        )
    ]
)


def out_of_scope(documents: list[Document]) -> str:
    """Why a sample is nothing that this mesh reads."""
    if any("apiVersion" not in document.value for document in documents):
        return "values of a chart, and no objects"
    if {document.value["kind"] for document in documents} & {"IstioOperator"}:
        return "an installation, which no API is asked to keep"
    unknown = sorted({each.value["kind"] for each in documents if is_ours(each)} - KINDS.keys())
    return f"not served yet: {', '.join(unknown)}" if unknown else ""


def is_judged(case: dict[str, Any], problem: Problem) -> bool:
    """Fragments come without the applications that they name."""
    return case["input"].startswith("samples/") or problem.code not in ("missing-host", "missing-gateway")


def documents_of(path: str) -> list[Document]:
    found = read_documents((DATA / SUITE / path).read_text(), path)
    return [item for document in found if isinstance(document, Document) for item in items(document)]


def is_ours(document: Document) -> bool:
    return any(group in document.value["apiVersion"] for group in _OURS)


def beside(case: dict[str, Any]) -> Iterator[Change]:
    """Everything else of the same sample, as its pages have one apply it; DestinationRules for all of it count most."""
    own = pathlib.Path(case["input"])
    sample = DATA / SUITE / pathlib.Path(*own.parts[: 2 if own.parts[0] == "samples" else len(own.parts) - 1])
    for path in sorted(sample.rglob("*.yaml"), key=lambda path: (path.name.startswith("destination-rule-all"), path)):
        if path != DATA / SUITE / own:
            yield from read_text(path.read_text(), str(path), namespace="default").changes


@pytest.mark.parametrize("case", conformance.cases(SUITE))
def test_case(case: dict[str, Any]) -> None:
    documents = documents_of(case["input"])
    assert len(documents) == case["documents"]
    assert [_listed(each.value) for each in documents if "apiVersion" in each.value] == case["resources"]
    if why := out_of_scope(documents):
        pytest.skip(why)
    assert sorted({each.value["kind"] for each in documents if is_ours(each)}) == sorted(case["meshKinds"])
    reading = read_text(conformance.text(SUITE, case["input"]), case["input"], namespace="default")
    assert not reading.problems
    wrong = [each for change in reading.changes for each in change.problems if each.level is Level.ERROR]
    if wrong and all(each.code == "unknown-field" for each in wrong):
        pytest.skip(f"a field that the API has no more, and kubectl refuses: {wrong[0].field}")
    assert not wrong
    db = Engine()
    around = read_text(AROUND, "around", namespace="default").changes
    Store(db, envoy_version="1.40.0").apply([*around, *beside(case), *reading.changes])
    own = {change.key for change in reading.changes}
    found = [each for each in findings(db) if each.level is Level.ERROR and each.object in own]
    assert not [str(each) for each in found if is_judged(case, each)]


def _listed(value: dict[str, Any]) -> dict[str, Any]:
    metadata = value.get("metadata") or {}
    return {
        "apiVersion": value.get("apiVersion"),
        "kind": value.get("kind"),
        "name": metadata.get("name"),
        "namespace": metadata.get("namespace"),
    }
