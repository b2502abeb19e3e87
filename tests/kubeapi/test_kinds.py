"""What is served: names that clash with nobody, and what a CustomResourceDefinition brings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

from ostria.kubeapi import kinds
from ostria.kubeapi.requests import Column

WIDGETS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.shop.example}
spec:
  group: shop.example
  scope: Namespaced
  names: {kind: Widget, plural: widgets, shortNames: [wd], categories: [all]}
  versions:
  - {name: v1beta1, served: false, storage: false}
  - name: v1
    served: true
    storage: false
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size, priority: 1}
    subresources: {status: {}, scale: {specReplicasPath: .spec.size}}
  - {name: v2, served: true, storage: true}
"""


def crd(text: str = WIDGETS) -> Any:
    return yaml.safe_load(text)


def test_no_two_resources_answer_to_one_path() -> None:
    paths = Counter((each.group, each.version, each.plural) for each in kinds.BUILT_IN)
    assert [path for path, times in paths.items() if times > 1] == []


def test_both_groups_of_events_share_what_is_stored() -> None:
    ours, theirs = (kinds.find(group, "v1", "events") for group in ("", "events.k8s.io"))
    assert ours is not None
    assert theirs is not None
    assert ours.key == theirs.key


def test_a_pod_can_be_evicted_in_the_words_of_another_group() -> None:
    pods = kinds.find("", "v1", "pods")
    assert pods is not None
    assert kinds.subresource(pods, "eviction") == ("policy", "v1", "Eviction", ("create",))
    assert kinds.subresource(pods, "status") == ("", "v1", "Pod", ("get", "patch", "update"))


def test_a_definition_brings_each_version_that_is_served() -> None:
    found = kinds.from_crd(crd())
    assert [(each.version, each.storage_version) for each in found] == [("v1", "v2"), ("v2", "v2")]
    assert found[0].subresources == ("scale", "status")
    assert found[0].columns == (Column("Size", "integer", ".spec.size", 1),)
    assert found[1].columns == (Column("Age", "date", ".metadata.creationTimestamp"),)
    assert found[0].singular == "widget"


def test_what_nobody_acts_on_says_so() -> None:
    assert {each.kind for each in kinds.BUILT_IN if each.not_acted_on} >= {"NetworkPolicy", "StatefulSet", "LimitRange"}
    assert not any(each.not_acted_on for each in kinds.BUILT_IN if each.kind in ("Pod", "Service", "Deployment", "Job"))
