"""What the documents promise is so: codes and annotations are explained, invariants name the test that holds them."""

from __future__ import annotations

import ast
import re

import pytest

from architecture.repository import ROOT, modules, text_of

CODE = re.compile(r"^[a-z]+(-[a-z0-9]+)+$")


def constants() -> dict[str, str]:
    """Module-level NAME = "a-code", over all modules."""
    found = {}
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.Assign):
                for name, value in zip(_pairs(node.targets[0]), _pairs(node.value), strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and CODE.match(str(value.value)):
                        found[name.id] = str(value.value)
    return found


def _pairs(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def code_takers() -> dict[str, set[int]]:
    """Functions and records that take a problem's code, and at which places."""
    takers: dict[str, set[int]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef):
                takers.setdefault(node.name, set()).update(_places(node))
            elif isinstance(node, ast.ClassDef):
                names = [field.target for field in node.body if isinstance(field, ast.AnnAssign)]
                places = {at for at, name in enumerate(names) if isinstance(name, ast.Name) and name.id == "code"}
                for made in node.body:
                    if isinstance(made, ast.FunctionDef) and made.name == "__init__":
                        places |= {at - 1 for at in _places(made)}
                takers.setdefault(node.name, set()).update(places)
    return {name: places for name, places in takers.items() if places}


def _places(function: ast.FunctionDef) -> set[int]:
    return {at for at, argument in enumerate(function.args.args) if argument.arg == "code"}


def problem_codes() -> set[str]:
    """Every code that some call gives to a Problem, directly or through a function that makes one."""
    takers, known = code_takers(), constants()
    found = set()
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            given = [word.value for word in node.keywords if word.arg == "code"]
            given += [argument for at, argument in enumerate(node.args) if at in takers.get(called, ())]
            for part in (part for argument in given for part in ast.walk(argument)):
                value = known.get(part.id) if isinstance(part, ast.Name) else getattr(part, "value", None)
                if isinstance(value, str) and CODE.match(value):
                    found.add(value)
    return found


def documented_codes() -> list[str]:
    return re.findall(r"^\| `([a-z0-9-]+)` \|", text_of(ROOT / "docs" / "problems.md"), re.MULTILINE)


def test_the_search_for_codes_finds_them() -> None:
    assert {"missing-subset", "yaml-syntax", "invalid-value", "yaml-too-deep"} <= problem_codes()


def test_every_problem_is_explained_and_every_explanation_is_of_a_problem() -> None:
    documented = documented_codes()
    assert problem_codes() - set(documented) == set(), "add a row to docs/problems.md"
    assert set(documented) - problem_codes() == set(), "docs/problems.md explains what no code says"
    assert documented == sorted(set(documented)), "the rows of docs/problems.md are sorted"


def test_every_annotation_of_ours_is_explained() -> None:
    used = {
        name
        for module in modules()
        for name in re.findall(r"[\"']((?:[a-z-]+\.)*ostria\.dev/[a-z][a-zA-Z-]*)[\"']", text_of(module.path))
        if not name.endswith("/v1")
    }
    explained = set(re.findall(r"`([a-z.-]*ostria\.dev/[a-zA-Z-]+)`", text_of(ROOT / "docs" / "annotations.md")))
    assert used - explained == set(), "add it to docs/annotations.md"


def test_every_invariant_names_the_test_that_holds_it() -> None:
    text = text_of(ROOT / "ARCHITECTURE.md")
    paragraphs = [part for part in re.split(r"\n\s*\n|\n(?=[*-] )", text) if "**Invariant**:" in part]
    assert len(paragraphs) >= 10
    for paragraph in paragraphs:
        named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", paragraph)
        assert named, f"this invariant names no test:\n{paragraph}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "SECURITY.md"])
def test_every_test_that_is_named_is_there(name: str) -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", text_of(ROOT / name))
    assert len(named) >= 5
    for path, function in named:
        assert (ROOT / path).is_file(), f"{path} does not exist"
        assert not function or f"def {function}(" in text_of(ROOT / path), f"{path} has no {function}"


def test_every_class_of_weaknesses_names_a_test() -> None:
    rows = re.findall(
        r"^\| (?!class|---)[^|]+\|[^|]*(?:CVE|ISTIO-SECURITY)[^|]*\|([^|]*)\|$", text_of(ROOT / "SECURITY.md"), re.M
    )
    assert len(rows) >= 5
    assert all("`tests/" in row for row in rows)
