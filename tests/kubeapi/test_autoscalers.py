"""HorizontalPodAutoscalers are one kind in two versions."""

from __future__ import annotations

from typing import Any

from ostria.kubeapi import kinds
from ostria.kubeapi.autoscalers import converted


def test_what_the_older_version_says_comes_back_from_the_newer() -> None:
    older, newer = (kinds.find("autoscaling", version, "horizontalpodautoscalers") for version in ("v1", "v2"))
    assert older is not None
    assert newer is not None
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec: dict[str, Any] = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4}
    for said in ({}, {"targetCPUUtilizationPercentage": 60}):
        autoscaler = {
            "apiVersion": "autoscaling/v1",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {**spec, **said},
        }
        there = converted(newer, autoscaler)
        assert [each["resource"]["target"]["averageUtilization"] for each in there["spec"].get("metrics", ())] == list(
            said.values()
        )
        assert converted(older, there) == autoscaler
        assert autoscaler["spec"] == {**spec, **said}
