"""kubectl against the API server: stories in stories/*.yaml, told by every kubectl that is there."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import pytest

from doubles import kubectl_summary
from doubles.api_process import Done, Session
from doubles.kubectl_stories import check, command, stories
from doubles.kubectl_summary import DRIVEN

STORIES = stories(pathlib.Path(__file__).parent / "stories")


@pytest.mark.parametrize("story", STORIES)
def test_a_story_goes_as_it_is_told(story: str, kubectl: Session, record_property: Any) -> None:
    for step in STORIES[story]:
        arguments, text = command(step, kubectl.namespace)
        check(step, kubectl(*arguments, stdin=text), kubectl.namespace)
    # The namespace that was made for it is counted already.
    record_property(DRIVEN, f"{kubectl.version} {len(STORIES[story])}")


def test_a_story_that_goes_otherwise_is_noticed() -> None:
    """What judges the stories is itself judged: each of these answers is not the one that was told."""
    good = Done(0, "NAME   AGE\nweb    5s\n", "Warning: old\n")
    check({"run": "get", "prints": "NAME  AGE\nweb  {age}", "says": "Warning"}, good, "shop")
    for step, answer in (
        ({"run": "get", "prints": "NAME  AGE"}, good),
        ({"run": "get", "prints": "NAME  AGE\napi  {age}"}, good),
        ({"run": "get", "contains": ["web", "api"]}, good),
        ({"run": "get", "says": "Warning: new"}, good),
        ({"run": "get", "fails": "not found"}, good),
        ({"run": "get"}, good._replace(code=1)),
    ):
        with pytest.raises(AssertionError):
            check(step, answer, "shop")


def test_there_are_enough_checks() -> None:
    assert sum(len(steps) for steps in STORIES.values()) >= 100


class Report(NamedTuple):
    """What the summary looks at in a test's report."""

    nodeid: str
    when: str = "call"
    user_properties: tuple[tuple[str, str], ...] = ()


def test_a_run_says_which_versions_drove_the_server_or_that_none_did() -> None:
    driven = Report("test_kubectl_a.py", user_properties=((DRIVEN, "v1.33.1 12"),))
    assert kubectl_summary.told([driven, driven]) == ["kubectl v1.33.1: 24 checks"]
    assert kubectl_summary.told([Report("test_other.py")]) == []
    assert "INCOMPLETE" in kubectl_summary.told([Report("test_kubectl_a.py", "setup")])[0]
