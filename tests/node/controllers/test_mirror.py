"""What controllers see: their own writes at once, and whatever the watch tells in the end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ostria.base import ObjectKey
from ostria.node.controllers.mirror import PATIENCE, Mirror
from ostria.node.controllers.objects import POD
from ostria.resources import Change
from ostria.resources.shapes import Meta
from ostria.sources.documents import Document

KEY = ObjectKey("", "Pod", "default", "web")


def pod(version: int, uid: str = "a") -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "default", "uid": uid, "resourceVersion": str(version)}}


def told(mirror: Mirror, value: dict[str, Any] | None) -> None:
    held = None if value is None else Document(Meta("web", "default"), value)
    list(mirror.apply([Change(KEY, held)]))


def seen(mirror: Mirror) -> tuple[str, str] | None:
    found = mirror.get(POD, "default", "web")
    assert list(mirror.list(POD, "default")) == ([] if found is None else [found])
    return None if found is None else (found["metadata"]["uid"], found["metadata"]["resourceVersion"])


def test_a_write_is_seen_before_its_echo_and_an_older_echo_does_not_hide_it() -> None:
    mirror = Mirror()
    told(mirror, pod(1))
    mirror.note(POD, pod(5), 0.0)
    assert seen(mirror) == ("a", "5")
    told(mirror, pod(3))
    assert seen(mirror) == ("a", "5")
    told(mirror, pod(7))
    assert seen(mirror) == ("a", "7")


def test_an_answer_that_comes_after_a_later_echo_is_passed_over() -> None:
    mirror = Mirror()
    told(mirror, pod(7))
    assert mirror.note(POD, pod(5), 0.0) is None
    assert seen(mirror) == ("a", "7")


def test_what_has_been_deleted_does_not_come_back_by_an_older_echo() -> None:
    mirror = Mirror()
    told(mirror, pod(1))
    mirror.note_gone(POD, "default", "web", "a", 0.0)
    told(mirror, pod(2))
    assert seen(mirror) is None
    told(mirror, pod(9, uid="b"))
    assert seen(mirror) == ("b", "9")


def test_the_end_of_an_earlier_one_is_not_the_end_of_its_successor() -> None:
    mirror = Mirror()
    told(mirror, pod(1))
    mirror.note_gone(POD, "default", "web", "a", 0.0)
    told(mirror, None)
    mirror.note(POD, pod(6, uid="b"), 0.0)
    assert seen(mirror) == ("b", "6")


def test_a_write_whose_echo_never_comes_is_forgotten() -> None:
    mirror = Mirror()
    mirror.note(POD, pod(5), 0.0)
    assert list(mirror.expire(PATIENCE - 1)) == []
    (changed,) = mirror.expire(PATIENCE)
    assert changed.after is None
    assert seen(mirror) is None


@given(st.lists(st.sampled_from(["write", "delete", "create", "hear"]), max_size=30))
def test_when_everything_has_been_heard_it_is_as_the_api_says(steps: list[str]) -> None:
    """Writes of one's own and a watch that lags: in any order, the last word is the API's."""
    mirror = Mirror()
    truth: dict[str, Any] | None = None
    echoes: list[dict[str, Any] | None] = []
    for version, step in enumerate(steps, 1):
        if step == "hear" and echoes:
            told(mirror, echoes.pop(0))
        elif step == "create" and truth is None:
            truth = pod(version, uid=f"uid-{version}")
            echoes.append(truth)
            mirror.note(POD, truth, 0.0)
        elif step == "write" and truth is not None:
            truth = pod(version, uid=truth["metadata"]["uid"])
            echoes.append(truth)
            mirror.note(POD, truth, 0.0)
        elif step == "delete" and truth is not None:
            mirror.note_gone(POD, "default", "web", truth["metadata"]["uid"], 0.0)
            truth = None
            echoes.append(None)
        assert seen(mirror) == named(truth), "nobody else writes: it is always as we have made it"
    for echo in echoes:
        told(mirror, echo)
    assert seen(mirror) == named(truth)


def named(value: dict[str, Any] | None) -> tuple[str, str] | None:
    return None if value is None else (value["metadata"]["uid"], value["metadata"]["resourceVersion"])
