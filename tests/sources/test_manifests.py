"""What a set of files says: steps from texts to texts, and what differs."""

from __future__ import annotations

import itertools

import pytest

from ostria.base import Level
from ostria.resources import Change
from ostria.sources.manifests import EMPTY, Diff, FolderState, Manifest, changes_of, update

A = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '1'}\n"
B = A.replace("name: a", "name: b")
A2 = A.replace("'1'", "'2'")
UNREAD = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec: {replicas: 1}\n"
BROKEN = "apiVersion: v1\nkind: ConfigMap\nmeta"
LIST = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n"


def steps(*texts: dict[str, str | None]) -> tuple[FolderState, Diff]:
    state, diff = EMPTY, Diff()
    for step in texts:
        state, diff = update(state, step)
    return state, diff


def told(diff: Diff) -> dict[str, list[str]]:
    groups = diff._asdict()
    return {
        name: [f"{m.identity.kind} {m.identity.name} {m.origin}" for m in groups[name]]
        for name in ("added", "changed", "deleted", "moved")
        if groups[name]
    }


CASES: dict[str, tuple[tuple[dict[str, str | None], ...], dict[str, list[str]]]] = {
    "new objects stand where they are written": (
        ({"x.yaml": f"{A}---\n{B}"},),
        {"added": ["ConfigMap a x.yaml:1:1", "ConfigMap b x.yaml:6:1"]},
    ),
    "a kind that the mesh does not read is told too": (
        ({"x.yaml": UNREAD},),
        {"added": ["StatefulSet web x.yaml:1:1"]},
    ),
    "the items of a list stand at their own lines": (({"x.yaml": LIST},), {"added": ["ConfigMap a x.yaml:4:3"]}),
    "a save that changes one object tells of that one": (
        ({"x.yaml": f"{A}---\n{B}"}, {"x.yaml": f"{A2}---\n{B}"}),
        {"changed": ["ConfigMap a x.yaml:1:1"]},
    ),
    "a save that changes nothing tells nothing": (({"x.yaml": A}, {"x.yaml": A}), {}),
    "a comment moves an object": (({"x.yaml": A}, {"x.yaml": f"# why\n{A}"}), {"moved": ["ConfigMap a x.yaml:2:1"]}),
    "a deleted file deletes only what it brought": (
        ({"x.yaml": A, "y.yaml": B}, {"x.yaml": None}),
        {"deleted": ["ConfigMap a x.yaml:1:1"]},
    ),
    "a renamed file moves what it holds": (
        ({"x.yaml": A}, {"x.yaml": None, "z.yaml": A}),
        {"moved": ["ConfigMap a z.yaml:1:1"]},
    ),
    "an object that goes to another file moves": (
        ({"x.yaml": f"{A}---\n{B}", "y.yaml": ""}, {"x.yaml": B, "y.yaml": A}),
        {"moved": ["ConfigMap a y.yaml:1:1", "ConfigMap b x.yaml:1:1"]},
    ),
    "a half-written file loses nothing": (({"x.yaml": A}, {"x.yaml": BROKEN}), {}),
    "a half-written file brings what it already holds": (
        ({"x.yaml": A}, {"x.yaml": f"{B}---\n{BROKEN}"}),
        {"added": ["ConfigMap b x.yaml:1:1"]},
    ),
    "what a broken file held goes when it is whole without it": (
        ({"x.yaml": A}, {"x.yaml": BROKEN}, {"x.yaml": B}),
        {"added": ["ConfigMap b x.yaml:1:1"], "deleted": ["ConfigMap a x.yaml:1:1"]},
    ),
    "a broken file that is deleted takes what it held with it": (
        ({"x.yaml": A}, {"x.yaml": BROKEN}, {"x.yaml": None}),
        {"deleted": ["ConfigMap a x.yaml:1:1"]},
    ),
    "of two files the first by path counts": (
        ({"y.yaml": A2}, {"x.yaml": A}),
        {"changed": ["ConfigMap a x.yaml:1:1"]},
    ),
    "when the first goes the second counts": (
        ({"x.yaml": A, "y.yaml": A2}, {"x.yaml": None}),
        {"changed": ["ConfigMap a y.yaml:1:1"]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_tells_what_differs(case: str) -> None:
    texts, expected = CASES[case]
    assert told(steps(*texts)[1]) == expected


def test_an_object_written_twice_is_a_problem_that_names_both_places() -> None:
    state, _ = steps({"y.yaml": A2, "x.yaml": f"{B}---\n{A}"})
    (found,) = (change for change in state.changes() if change.key.name == "a")
    (problem,) = found.problems
    assert problem.code == "duplicate-object"
    assert problem.level is Level.WARNING
    assert problem.message == ("ConfigMap default/a is written more than once: x.yaml:6:1 counts, y.yaml:1:1 does not")
    assert state.problems() == ()


def test_the_problem_goes_with_the_second_place() -> None:
    _, diff = steps({"x.yaml": A, "y.yaml": A2}, {"y.yaml": None})
    (change,) = changes_of(diff)
    assert change.problems == ()


def test_a_repeated_object_of_another_kind_is_a_problem_of_the_folder() -> None:
    state, _ = steps({"x.yaml": UNREAD, "y.yaml": UNREAD})
    assert [problem.code for problem in state.problems()] == ["duplicate-object"]


def test_two_versions_of_a_kind_are_one_object() -> None:
    rule = (
        "apiVersion: networking.istio.io/{}\nkind: VirtualService\nmetadata: {{name: a}}\n"
        "spec: {{hosts: [a], http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n"
    )
    state, _ = steps({"x.yaml": rule.format("v1"), "y.yaml": rule.format("v1beta1")})
    assert len(state.effective) == 1


def test_the_problems_of_a_file_name_its_lines() -> None:
    state, diff = steps({"x.yaml": f"{A}---\n- 1\n"})
    assert [str(problem.origin) for problem in state.problems()] == ["x.yaml:6:1"]
    assert diff.problems == state.problems()
    assert diff.loses


def test_the_order_of_files_and_steps_does_not_matter() -> None:
    texts: dict[str, str | None] = {"x.yaml": A, "y.yaml": f"{A2}---\n{B}", "z.yaml": UNREAD}
    whole, _ = update(EMPTY, texts)
    for order in itertools.permutations(texts):
        state, _ = steps(*({path: texts[path]} for path in order))
        assert state.effective == whole.effective
        assert sorted(state.changes()) == sorted(whole.changes())


def test_a_diff_is_a_batch() -> None:
    _, diff = steps({"x.yaml": f"{A}---\n{UNREAD}"}, {"x.yaml": B})
    batch = {change.key.name: change for change in changes_of(diff)}
    assert set(batch) == {"a", "b"}
    assert batch["a"] == Change(batch["a"].key, None)
    assert isinstance(diff.deleted[0], Manifest)
