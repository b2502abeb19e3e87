"""IstioOperator overlays of Istio's own: what they ask for is found on what is installed.

The expected documents are those of Istio's charts; what is compared is what the overlays decide.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from doubles.conformance import cases, text
from ostria.install import read, render
from ostria.install.objects import reference_of

# What these bring is not there yet, and is said instead: CNI and ztunnel (DaemonSets), policies of the network.
NOT_THERE = {"istio-cni", "istio-cni_tolerations", "networkpolicy_enabled", "ztunnel"}
# Istio's charts let istiod run on nodes that wait for its CNI plugin, which is not there yet.
CNI = {"key": "cni.istio.io/not-ready", "operator": "Exists"}
KINDS = ("Deployment", "HorizontalPodAutoscaler", "Service")


@pytest.mark.parametrize("case", cases("manifests"))
def test_overlay(case: Mapping[str, Any]) -> None:
    files = [(case["input"], text("manifests", case["input"]))] if case["input"] else []
    sets = [flag for flag in case["flags"] if not flag.startswith("--")]
    installation, problems = read(files, sets)
    if case["name"] in NOT_THERE:
        assert any(problem.code in ("not-acted-on", "invalid-value") for problem in problems)
        return
    if "--force" in case["flags"]:
        # There is no way to install what nobody understands.
        assert [problem.code for problem in problems if problem.level == "error"] == ["unknown-field"]
        return
    assert installation is not None, problems
    made = {str(reference_of(document)): document for part in render(installation) for document in part.documents}
    expected = yaml.safe_load_all(text("manifests", case["expected"]))
    for document in (each for each in expected if each and each["kind"] in KINDS and _selected(case, each)):
        found = made.get(str(reference_of(document)))
        assert found is not None, f"{reference_of(document)} is not among {sorted(made)}"
        assert _facts(found) == _facts(document)


def _selected(case: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    reference = reference_of(document)
    words = f"{reference.kind}:{reference.namespace}:{reference.name}"
    return any(
        fnmatch.fnmatch(words, glob) or re.fullmatch(glob.replace("*", ".*"), words) for glob in case["select"] or ["*"]
    )


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an overlay decides of an object."""
    spec = document["spec"]
    if document["kind"] == "HorizontalPodAutoscaler":
        return {name: spec.get(name) for name in ("minReplicas", "maxReplicas", "metrics")}
    if document["kind"] == "Service":
        return {"type": spec.get("type", "ClusterIP"), "externalTrafficPolicy": spec.get("externalTrafficPolicy")}
    pod = spec["template"]["spec"]
    return {
        "replicas": spec.get("replicas"),
        "resources": pod["containers"][0].get("resources"),
        "nodeSelector": pod.get("nodeSelector") or None,
        "tolerations": [each for each in pod.get("tolerations") or () if each != CNI],
    }
