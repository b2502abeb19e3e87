"""Events are one kind in two groups."""

from __future__ import annotations

from typing import Any

from ostria.kubeapi import kinds
from ostria.kubeapi.events import converted


def test_there_and_back_again_nothing_is_lost() -> None:
    older, newer = (kinds.find(group, "v1", "events") for group in ("", "events.k8s.io"))
    assert older is not None
    assert newer is not None
    event: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "a"},
        "involvedObject": {"kind": "Pod", "name": "web"},
        "message": "again",
        "count": 3,
        "reportingComponent": "kubelet",
        "reportingInstance": "here",
    }
    there = converted(newer, event)
    assert there["apiVersion"] == "events.k8s.io/v1"
    assert (there["regarding"]["name"], there["note"], there["deprecatedCount"]) == ("web", "again", 3)
    assert converted(older, there) == event
