"""YAML as Kubernetes reads it: what scalars mean, where fields stand, and what is refused before it costs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.base import Problem
from ostria.base.yaml import MAX_BYTES, Document, field_path, field_steps, read_documents


def check(text: str, *expected: Any) -> None:
    assert [document.value for document in documents(text)] == list(expected)


def documents(text: str) -> list[Document]:
    found = list(read_documents(text, "f.yaml"))
    assert all(isinstance(document, Document) for document in found), found
    return [document for document in found if isinstance(document, Document)]


def refusal(text: str | bytes) -> Problem:
    (problem,) = (found for found in read_documents(text, "f.yaml") if isinstance(found, Problem))
    return problem


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", True),
        ("On", True),
        ("n", False),
        ("~", None),
        ("", None),
        ("2026-11-20", "2026-11-20"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("12:30:45", "12:30:45"),
        ("1_000", 1000),
        ("0x1F", 31),
        ("0777", 511),
        ("0o17", 15),
        ("0b101", 5),
        ("08", "08"),
        ("-3", -3),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        ('"10"', "10"),
        ("!!str 10", "10"),
        ("!!int '10'", 10),
        ("1.2.3", "1.2.3"),
        ("- ", [None]),
    ],
)
def test_a_scalar_means_what_kubernetes_takes_it_for(scalar: str, value: Any) -> None:
    if value is None and not scalar:
        check("a: ", {"a": None})
    else:
        check(f"a:\n  {scalar}", {"a": value})


def test_every_key_is_a_text() -> None:
    check("{8080: a, true: b, 1.5: c, ~: d}", {"8080": "a", "true": "b", "1.5": "c", "~": "d"})


def test_documents_are_read_apart_from_each_other() -> None:
    found = list(read_documents("# top\n---\na: 1\n---\nb: [\n---\n# nothing\n---\nc: 3\n", "f.yaml"))
    assert [document.value for document in found if isinstance(document, Document)] == [{"a": 1}, {"c": 3}]
    (problem,) = (document for document in found if isinstance(document, Problem))
    assert problem.code == "yaml-syntax"
    assert problem.origin is not None
    assert problem.origin.line in (5, 6)


def test_anchors_and_merges_are_written_out() -> None:
    check(
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a]\nd: {<<: [*a, {z: 4}]}",
        {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}], "d": {"x": 1, "y": 2, "z": 4}},
    )


def test_every_field_knows_its_line_and_column() -> None:
    (document,) = documents(
        "spec:\n  http:\n  - route:\n    - weight: 1\n    - host: a\n      weight: 2\n  headers: {x.y: 1}\n"
    )
    assert document.position("spec.http[0].route[1].weight") == (6, 7)
    assert document.position("spec.http[0].route[1]") == (5, 7)
    assert document.position('spec.headers["x.y"]') == (7, 13)
    # What is not written stands where it is missing.
    assert document.position("spec.http[0].timeout") == (3, 5)
    assert document.position("") == (1, 1)


def test_lines_count_from_the_top_of_the_stream() -> None:
    second = documents("a: 1\n---\n\nb: 2\n")[1]
    assert second.origin("b").line == 4


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "yaml-duplicate-key", 3),
        ("a: [1\n", "yaml-syntax", 2),
        ("a: *nobody\n", "yaml-syntax", 1),
        ("a: &a [*a]\n", "yaml-syntax", 1),
        ("a: !!python/object:os.system x\n", "yaml-syntax", 1),
        ("{[1]: 2}", "yaml-syntax", 1),
        ("a: .nan", "yaml-syntax", 1),
        ("a: 1e999", "yaml-syntax", 1),
        ("a:\n\t- 1", "yaml-syntax", 2),
        ("a: \x00", "yaml-syntax", 1),
        ("\n".join(" " * depth + "a:" for depth in range(500)), "yaml-too-deep", 101),
        ("[" * 100_000, "yaml-too-deep", 1),
        ("<<: 1\n<<: 2\na: [1, {<<: [3]}]", "yaml-syntax", 3),
    ],
)
def test_what_is_no_document_is_told_with_its_line(text: str, code: str, line: int) -> None:
    problem = refusal(text)
    assert problem.origin is not None
    assert (problem.code, problem.origin.line) == (code, line)


def test_bytes_that_are_no_text_are_told_with_their_line() -> None:
    problem = refusal(b"a: 1\nb: \xff\n")
    assert problem.origin is not None
    assert (problem.code, problem.origin.line) == ("yaml-syntax", 2)


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
MERGE_BOMB = (
    "a: &a {" + ",".join(f"k{i}: 0" for i in range(1000)) + "}\nb:\n" + "".join("- {<<: *a}\n" for _ in range(500))
)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "x" * 10_000_000,
        "[" + "1," * 5_000_000 + "]",
        BOMB,
        MERGE_BOMB,
        "[" + "1," * (MAX_BYTES // 2 - 10) + "]",
    ],
    ids=["ten megabytes", "ten megabytes of values", "aliases", "merges", "many values"],
)
def test_what_is_too_large_is_refused_with_little_memory(text: str) -> None:
    tracemalloc.start()
    try:
        assert refusal(text).code == "yaml-too-large"
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`<,? \n\t0123.~")) | st.text())
def test_no_text_makes_reading_raise(text: str) -> None:
    for found in read_documents(text, "f.yaml"):
        assert isinstance(found, Document | Problem)


@given(st.binary())
def test_no_bytes_make_reading_raise(raw: bytes) -> None:
    list(read_documents(raw, "f.yaml"))


@given(
    st.lists(st.text(min_size=1) | st.integers(0, 10_000), min_size=1).filter(lambda steps: isinstance(steps[0], str))
)
def test_a_field_path_reads_back(steps: list[str | int]) -> None:
    assert field_steps(field_path(tuple(steps))) == tuple(steps)
