"""What is wrong is told at the line of the file that brought the object; pods are counted as kubectl counts them."""

from __future__ import annotations

import os
import pathlib

from ostria.apps import overview
from ostria.apps.following import Brought, Memory
from ostria.base import Level, ObjectKey, Problem
from ostria.sources.manifests import Identity

TEXT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: reviews}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v9}
"""
FIELD = "spec.http[0].route[0].destination.subset"
PROBLEM = Problem(
    "unknown-subset", Level.ERROR, "no such subset", ObjectKey("", "VirtualService", "default", "reviews"), FIELD
)


def memory(folder: pathlib.Path, text: str) -> Memory:
    (folder / "mesh.yaml").write_text(text)
    known = Memory(folder / "brought.json")
    identity = Identity("networking.istio.io", "VirtualService", "default", "reviews")
    known.put(Brought(str(folder / "mesh.yaml"), "networking.istio.io/v1", identity, created=True))
    return Memory(folder / "brought.json")


def test_a_problem_is_told_at_the_line_of_its_field(tmp_path: pathlib.Path) -> None:
    (found,) = overview.located([PROBLEM], memory(tmp_path, TEXT))
    assert found.origin is not None
    assert os.path.abspath(found.origin.source) == str(tmp_path / "mesh.yaml")
    assert (found.origin.line, TEXT.splitlines()[found.origin.line - 1].strip()[:13]) == (12, "- destination")


def test_a_problem_of_what_no_file_says_any_more_has_no_line(tmp_path: pathlib.Path) -> None:
    assert overview.located([PROBLEM], memory(tmp_path, TEXT.replace("name: reviews", "name: other"))) == (PROBLEM,)


def test_a_sidecar_counts_whether_it_is_a_container_or_one_that_starts_before_them() -> None:
    pod = {
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "initContainers": [{"name": "istio-init"}, {"name": "istio-proxy", "restartPolicy": "Always"}],
            "containers": [{"name": "app"}],
        },
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "app", "ready": False, "restartCount": 2}],
            "initContainerStatuses": [{"name": "istio-init", "ready": True}, {"name": "istio-proxy", "ready": True}],
        },
    }
    assert overview.workload(pod) == overview.Workload("default", "a", 1, 2, "Running", 2, proxy=True)
