"""The fast door: a Kubernetes API's bytes, each object for itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ostria.base import Level, ObjectKey, Origin
from ostria.resources import KINDS
from ostria.resources.decode import decode_event, decode_list
from ostria.resources.kubernetes import Pod
from ostria.resources.virtual_service import VirtualService


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "a", "resourceVersion": "5"}, "spec": {"nodeName": "n", **spec}}


def listing(*items: Any) -> bytes:
    return json.dumps({"kind": "List", "metadata": {"resourceVersion": "9", "continue": "c"}, "items": items}).encode()


ROUTES = {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "b"}}], "timeout": "2s"}]}


def test_a_page_of_a_list() -> None:
    page = decode_list(KINDS["Pod"], listing(pod("x"), pod("y")), cluster="east", source="east")
    assert (page.resource_version, page.continue_token) == ("9", "c")
    assert [change.key for change in page.changes] == [ObjectKey("east", "Pod", "a", name) for name in "xy"]
    assert isinstance(page.changes[0].object, Pod)
    assert page.changes[0].origin == Origin("east")


def test_one_bad_object_costs_the_others_nothing() -> None:
    page = decode_list(KINDS["Pod"], listing(pod("x"), pod("bad", nodeName=7), pod("y", hostname=None)))
    good, bad, nulled = page.changes
    assert good.object is not None
    assert nulled.object is not None
    assert bad.object is None
    assert [(problem.code, problem.field) for problem in bad.problems] == [("wrong-type", "spec.nodeName")]


def test_an_unknown_field_of_a_newer_api_is_a_warning() -> None:
    document = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a"}}
    body = listing({**document, "spec": {**ROUTES, "future": 1}}, {**document, "spec": ROUTES, "status": {}})
    first, second = decode_list(KINDS["VirtualService"], body).changes
    assert [(problem.level, problem.field) for problem in first.problems] == [(Level.WARNING, "spec.future")]
    assert first.object == second.object
    assert isinstance(second.object, VirtualService)
    assert second.problems == ()


def test_what_the_webhook_would_refuse_is_refused() -> None:
    change = decode_list(
        KINDS["VirtualService"], listing({"metadata": {"name": "a"}, "spec": {"hosts": ["a"]}})
    ).changes[0]
    assert change.object is None
    assert change.problems[0].object == change.key


def test_what_looks_like_a_status_within_an_object_harms_no_list() -> None:
    sloppy = {"metadata": {"name": "a"}, "spec": {"hosts": ["a"], "http": [{"directResponse": {"status": 200}}]}}
    changes = decode_list(KINDS["VirtualService"], listing({**sloppy, "code": None, "message": 5}, sloppy)).changes
    assert [len(change.problems) for change in changes] == [2, 0]
    assert all(change.object is not None for change in changes)


def test_an_empty_list() -> None:
    assert decode_list(KINDS["Pod"], b'{"metadata":{"resourceVersion":"1"},"items":null}').changes == ()


def test_watch_events() -> None:
    def event(kind: str, obj: Any) -> Any:
        return decode_event(KINDS["Pod"], json.dumps({"type": kind, "object": obj}).encode())

    added = event("ADDED", pod("x"))
    assert (added.resource_version, added.change.key.name, added.change.object is None) == ("5", "x", False)
    deleted = event("DELETED", pod("x"))
    assert (deleted.change.key, deleted.change.object, deleted.change.problems) == (added.change.key, None, ())
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "77"}})
    assert (bookmark.change, bookmark.resource_version) == (None, "77")
    gone = event("ERROR", {"kind": "Status", "code": 410, "message": "too old", "metadata": {}})
    assert (gone.change, gone.code, gone.message) == (None, 410, "too old")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"items":7}', b"\xff"])
def test_what_is_no_list_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgspec words it.
        decode_list(KINDS["Pod"], body)
