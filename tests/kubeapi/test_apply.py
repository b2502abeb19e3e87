"""Server-side apply: who owns which field, who may change it, and what goes when nobody wants it any more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ostria.base import yaml
from ostria.kubeapi.errors import StatusError
from ostria.kubeapi.patches import apply, track
from ostria.kubeapi.patches.field_sets import fields, from_fields_v1, to_fields_v1
from ostria.kubeapi.schemas import Schemas

SCHEMA = Schemas.load().of("apps", "v1", "Deployment")
NOW, LATER = "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"


def read(text: str) -> Any:
    (document,) = yaml.read_documents(text, "test")
    assert isinstance(document, yaml.Document)
    return document.value


def deployment(spec: str, labels: str = "{}") -> Any:
    head = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return {**head, "metadata": {"name": "web", "labels": read(labels)}, "spec": read(spec)}


def owners(document: Any) -> dict[str, Any]:
    return {
        f"{each['manager']}/{each['operation']}": each["fieldsV1"] for each in document["metadata"]["managedFields"]
    }


def containers(document: Any) -> Any:
    return document["spec"]["template"]["spec"]["containers"]


ONE = "{replicas: 1, template: {spec: {containers: [{name: web, image: '1', ports: [{containerPort: 80}]}]}}}"


def test_the_first_apply_creates_and_owns_what_it_sends() -> None:
    found = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    assert {**found, "metadata": {"name": "web", "labels": {}}} == deployment(ONE)
    (entry,) = found["metadata"]["managedFields"]
    port = 'k:{"containerPort":80,"protocol":"TCP"}'
    assert entry == {
        "manager": "kubectl",
        "operation": "Apply",
        "apiVersion": "apps/v1",
        "time": NOW,
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:labels": {}},
            "f:spec": {
                "f:replicas": {},
                "f:template": {
                    "f:spec": {
                        "f:containers": {
                            'k:{"name":"web"}': {
                                ".": {},
                                "f:name": {},
                                "f:image": {},
                                "f:ports": {port: {".": {}, "f:containerPort": {}}},
                            }
                        }
                    }
                },
            },
        },
    }


def test_the_same_apply_again_changes_nothing_not_even_the_time() -> None:
    once = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    assert apply(once, deployment(ONE), "kubectl", SCHEMA, now=LATER) == once


def test_what_an_applier_no_longer_sends_goes_unless_another_wants_it() -> None:
    both = "{replicas: 1, template: {spec: {containers: [{name: web, image: '1'}, {name: side, image: '1'}]}}}"
    live = apply(None, deployment(both, "{a: '1', b: '1'}"), "kubectl", SCHEMA, now=NOW)
    live = apply(live, deployment("{replicas: 1}", "{b: '1'}"), "other", SCHEMA, now=NOW)
    one = "{template: {spec: {containers: [{name: web, image: '1'}]}}}"
    found = apply(live, deployment(one), "kubectl", SCHEMA, now=LATER)
    assert [each["name"] for each in containers(found)] == ["web"]
    assert found["spec"]["replicas"] == 1, "the other applier still wants it"
    assert found["metadata"]["labels"] == {"b": "1"}


def test_items_keep_their_keys_while_another_manager_has_a_part_of_them() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    seen = {**live, "spec": read(ONE)}
    containers(seen)[0]["env"] = [{"name": "A", "value": "1"}]
    live = track(live, seen, "injector", "apps/v1", "Update", NOW, schema=SCHEMA)
    found = apply(live, deployment("{replicas: 1}"), "kubectl", SCHEMA, now=LATER)
    assert containers(found) == [{"name": "web", "env": [{"name": "A", "value": "1"}]}]


def test_a_field_of_another_with_another_value_is_a_conflict() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    with pytest.raises(StatusError) as refused:
        apply(live, deployment("{replicas: 3}"), "scaler", SCHEMA, now=LATER)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas'
    assert refused.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".spec.replicas"}
    ]


def test_conflicts_with_one_who_updated_tell_when_and_each_field() -> None:
    new = deployment(ONE)
    live = track(None, new, "kubectl-create", "apps/v1", "Update", NOW, schema=SCHEMA)
    wanted = "{replicas: 2, template: {spec: {containers: [{name: web, image: '2'}]}}}"
    with pytest.raises(StatusError) as refused:
        apply(live, deployment(wanted), "kubectl", SCHEMA, now=LATER)
    assert refused.value.message == (
        f'Apply failed with 2 conflicts: conflicts with "kubectl-create" using apps/v1 at {NOW}:\n'
        "- .spec.replicas\n"
        '- .spec.template.spec.containers[name="web"].image'
    )


def test_force_takes_the_field_over() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    found = apply(live, deployment("{replicas: 3}"), "scaler", SCHEMA, now=LATER, force=True)
    assert found["spec"]["replicas"] == 3
    assert "f:replicas" not in owners(found)["kubectl/Apply"]["f:spec"]
    assert owners(found)["scaler/Apply"]["f:spec"] == {"f:replicas": {}}
    # The first may not take it back silently.
    with pytest.raises(StatusError, match="scaler"):
        apply(found, deployment(ONE), "kubectl", SCHEMA, now=LATER)


def test_equal_values_are_owned_by_both() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    found = apply(live, deployment("{replicas: 1}"), "other", SCHEMA, now=LATER)
    assert "f:replicas" in owners(found)["kubectl/Apply"]["f:spec"]
    assert "f:replicas" in owners(found)["other/Apply"]["f:spec"]


def test_an_object_without_owners_belongs_to_those_before() -> None:
    live = deployment(ONE)
    found = apply(live, deployment("{replicas: 1}"), "kubectl", SCHEMA, now=NOW)
    assert set(owners(found)) == {"kubectl/Apply", "before-first-apply/Update"}
    with pytest.raises(StatusError, match="before-first-apply"):
        apply(live, deployment("{replicas: 2}"), "kubectl", SCHEMA, now=NOW)


def test_an_update_owns_what_it_changes_and_loses_what_it_removes() -> None:
    live = apply(None, deployment(ONE, "{a: '1'}"), "kubectl", SCHEMA, now=NOW)
    scaled = {**live, "metadata": {**live["metadata"], "labels": {}}, "spec": {**live["spec"], "replicas": 5}}
    found = track(live, scaled, "scaler", "apps/v1", "Update", LATER, schema=SCHEMA, subresource="scale")
    assert owners(found)["scaler/Update"]["f:spec"] == {"f:replicas": {}}
    assert "f:replicas" not in owners(found)["kubectl/Apply"]["f:spec"]
    assert "f:metadata" not in owners(found)["kubectl/Apply"]
    (entry,) = [each for each in found["metadata"]["managedFields"] if each["manager"] == "scaler"]
    assert (entry["subresource"], entry["time"]) == ("scale", LATER)


def test_a_write_that_changes_nothing_leaves_the_record_alone() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    bare = {**live, "metadata": {k: v for k, v in live["metadata"].items() if k != "managedFields"}}
    assert track(live, bare, "someone", "apps/v1", "Update", LATER, schema=SCHEMA) == live


def test_an_empty_record_forgets_all_owners() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    emptied = {**live, "metadata": {**live["metadata"], "managedFields": []}}
    assert "managedFields" not in track(live, emptied, "someone", "apps/v1", "Update", LATER, schema=SCHEMA)["metadata"]


def test_who_applies_must_not_send_the_record() -> None:
    live = apply(None, deployment(ONE), "kubectl", SCHEMA, now=NOW)
    with pytest.raises(StatusError, match="managedFields must be nil"):
        apply(live, live, "kubectl", SCHEMA, now=NOW)


def test_atomic_objects_are_one_field() -> None:
    live = apply(None, deployment("{selector: {matchLabels: {a: '1'}}}"), "one", SCHEMA, now=NOW)
    with pytest.raises(StatusError) as refused:
        apply(live, deployment("{selector: {matchLabels: {b: '1'}}}"), "two", SCHEMA, now=NOW)
    assert refused.value.details["causes"][0]["field"] == ".spec.selector"


def test_custom_objects_merge_by_the_list_types_of_their_definition() -> None:
    schema = Schemas.load().from_crd(
        read("""
        type: object
        properties:
          spec:
            type: object
            properties:
              hosts: {type: array, items: {type: string}, x-kubernetes-list-type: set}
              tags: {type: array, items: {type: string}}
        """)
    )
    live = apply(None, read("{apiVersion: x/v1, kind: X, spec: {hosts: [a, b], tags: [t]}}"), "one", schema, now=NOW)
    live = apply(live, read("{apiVersion: x/v1, kind: X, spec: {hosts: [b, c]}}"), "two", schema, now=NOW)
    assert live["spec"] == {"hosts": ["a", "b", "c"], "tags": ["t"]}
    live = apply(live, read("{apiVersion: x/v1, kind: X, spec: {hosts: []}}"), "one", schema, now=NOW, force=True)
    assert live["spec"] == {"hosts": ["b", "c"]}


def test_fields_survive_their_writing() -> None:
    paths = {("f:a",), ("f:a", "f:b"), ("f:c", 'k:{"n":1}'), ("f:c", 'k:{"n":1}', "f:n"), ("f:d", 'v:"x"')}
    assert from_fields_v1(to_fields_v1(paths)) == paths


LABELS = some.dictionaries(some.sampled_from("abcd"), some.sampled_from("12"), max_size=4)
IMAGES = some.dictionaries(some.sampled_from(["web", "side", "log"]), some.sampled_from("12"), max_size=3)


def wish(labels: dict[str, str], images: dict[str, str]) -> Any:
    items = [{"name": name, "image": image} for name, image in images.items()]
    spec = {"template": {"spec": {"containers": items}}} if items else {}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels}, "spec": spec}


def labels_and_images(document: Any) -> Any:
    items = document["spec"].get("template", {}).get("spec", {}).get("containers", [])
    labels = document["metadata"].get("labels", {})
    return labels, {each["name"]: each["image"] for each in items}


@given(LABELS, IMAGES, LABELS, IMAGES, LABELS, IMAGES)
def test_what_two_appliers_want_is_there_and_nothing_that_neither_wants(
    labels: Any, images: Any, others: Any, other_images: Any, last: Any, last_images: Any
) -> None:
    live = apply(None, wish(labels, images), "one", SCHEMA, now=NOW)
    live = apply(live, wish(others, other_images), "two", SCHEMA, now=NOW, force=True)
    found = apply(live, wish(last, last_images), "one", SCHEMA, now=LATER, force=True)
    assert labels_and_images(found) == ({**others, **last}, {**other_images, **last_images})
    assert apply(found, wish(last, last_images), "one", SCHEMA, now="later still") == found


@given(LABELS, IMAGES, LABELS, IMAGES)
def test_each_field_that_is_written_has_its_last_writer_as_owner(
    labels: Any, images: Any, others: Any, other_images: Any
) -> None:
    live = track(None, wish(labels, images), "one", "apps/v1", "Update", NOW, schema=SCHEMA)
    found = track(live, wish(others, other_images), "two", "apps/v1", "Update", LATER, schema=SCHEMA)
    owned = {each["manager"]: from_fields_v1(each["fieldsV1"]) for each in found["metadata"].get("managedFields", ())}
    present = set(fields(found, SCHEMA))
    assert owned.get("one", set()) | owned.get("two", set()) == present
    assert not owned.get("one", set()) & owned.get("two", set())
