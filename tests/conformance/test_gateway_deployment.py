"""A Gateway that names no Service: which objects are made for it, called what, bearing what, and owned by whom.

The pod's inside is injection's, which has a suite of its own; what the reference fills in itself is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from doubles import conformance
from doubles.gateway_api import Case, documents, expected
from ostria.controllers.gateway_deployments import CONTENT, deployment_writes

SUITE = "gateway-deployment"
KINDS = ("ServiceAccount", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget")

# Classes of proxies that a mesh with sidecars does not have.
WITHOUT_SIDECARS = ("istio-waypoint", "istio-east-west", "istio-agentgateway", "istio-agentgateway-waypoint")


def out_of_scope(case: Mapping[str, Any], given: list[dict[str, Any]]) -> str | None:
    """The reason for which a case is left out, if a rule applies."""
    classes = {value["spec"]["gatewayClassName"] for value in given if value["kind"] == "Gateway"}
    if classes.intersection(WITHOUT_SIDECARS):
        return "waypoints, east-west gateways of ambient and agentgateway: no part of a mesh with sidecars"
    return "HTTP/3 is not served by gateways yet" if case.get("quicListeners") else None


def comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    meta = document["metadata"]
    annotations = {name: value for name, value in (meta.get("annotations") or {}).items() if name != CONTENT}
    made: dict[str, Any] = {
        "labels": meta.get("labels") or {},
        "annotations": annotations,
        "owners": [(each["apiVersion"], each["kind"], each["name"]) for each in meta.get("ownerReferences") or ()],
    }
    if document["kind"] == "Service":
        made["spec"] = document["spec"]
    elif document["kind"] == "Deployment":
        template = document["spec"]["template"]
        made["selector"] = document["spec"]["selector"]
        made["replicas"] = document["spec"].get("replicas")
        made["account"] = template["spec"]["serviceAccountName"]
    elif "spec" in document:
        made["spec"] = document["spec"]
    return made


@pytest.mark.parametrize("case", conformance.cases(SUITE))
def test_what_is_made(case: dict[str, Any]) -> None:
    given = documents(SUITE, case["input"])
    reason = out_of_scope(case, given)
    if reason:
        pytest.skip(reason)
    around = documents(SUITE, "environment/objects.yaml")
    mesh = Case(SUITE, given, around).mesh
    made = [msgspec.json.decode(write.patch) for write in deployment_writes(mesh.db)]
    if case.get("ignored"):
        assert made == []
        return
    found = {(each["kind"], each["metadata"]["name"]): comparable(each) for each in made}
    wanted = {
        (each["kind"], each["metadata"]["name"]): comparable(each)
        for each in expected(SUITE, case["expected"])
        if each["kind"] in KINDS
    }
    assert found == wanted
