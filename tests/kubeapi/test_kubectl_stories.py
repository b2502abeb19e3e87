"""kubectl against the API server: stories in stories/*.yaml, told by every kubectl that is there.

A step runs one command and says what it must come to: `prints` (all of stdout; `{age}` is a span of time, `{any}` a
word, and two spaces stand for those between columns), `contains` (parts of stdout), `fails` (the exit code is not
0, and a part of stderr), `says` (a part of stderr although it goes well). `NS` is the story's namespace.
"""

from __future__ import annotations

import pathlib
import re
import shlex
from typing import Any, NamedTuple

import pytest
import yaml

from doubles import kubectl_summary
from doubles.api_process import Done, Session
from doubles.kubectl_summary import DRIVEN

FOLDER = pathlib.Path(__file__).parent / "stories"
STORIES = {
    f"{path.stem}: {story['story']}": story["steps"]
    for path in sorted(FOLDER.glob("*.yaml"))
    for story in yaml.safe_load(path.read_text())
}


def check(step: dict[str, Any], answer: Done, namespace: str) -> None:
    told = f"kubectl {step['run']}\n{answer.out}{answer.err}"
    step = {name: meant(value, namespace) for name, value in step.items()}
    if "fails" in step:
        assert answer.code != 0, told
        assert step["fails"] in answer.err, told
    else:
        assert answer.code == 0, told
    assert step.get("says", "") in answer.err, told
    if "prints" in step:
        expected = re.escape(squeezed(step["prints"]))
        expected = expected.replace(r"\{age\}", r"(\d+[smhdy])+").replace(r"\{any\}", r"\S+")
        assert re.fullmatch(expected, squeezed(answer.out)), f"{told}\nbut not:\n{step['prints']}"
    listed = step.get("contains", [])
    for part in [listed] if isinstance(listed, str) else listed:
        assert squeezed(part) in squeezed(answer.out), f"{told}\nwithout: {part}"


def meant(value: Any, namespace: str) -> Any:
    """What a story says, of its own namespace."""
    if isinstance(value, list):
        return [meant(each, namespace) for each in value]
    return re.sub(r"\bNS\b", namespace, value)


def squeezed(text: str) -> str:
    """Text whose columns stand two spaces apart."""
    return "\n".join(re.sub(r" {2,}", "  ", line).strip() for line in text.strip().split("\n"))


@pytest.mark.parametrize("story", STORIES)
def test_a_story_goes_as_it_is_told(story: str, kubectl: Session, record_property: Any) -> None:
    for step in STORIES[story]:
        command, text = (meant(step.get(name, ""), kubectl.namespace) for name in ("run", "input"))
        # Older versions take what begins with a brace for JSON, which YAML in one line is not.
        check(step, kubectl(*shlex.split(command), stdin=f"---\n{text}"), kubectl.namespace)
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
