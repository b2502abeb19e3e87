"""The pages about installing say what is so: their values are understood, their tables are complete."""

from __future__ import annotations

import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator

import pytest
import yaml

from ostria.injection import Settings, inject
from ostria.install import PROFILES, Installation, read, render
from ostria.install.stored import STORED
from ostria.resources import KINDS

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGES = ("install.md", "gateways.md")


def blocks(page: str, language: str) -> Iterator[str]:
    yield from re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def command_lines() -> list[list[str]]:
    """What a reader types to install."""
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    verbs = ("istioctl install", "ostria install", "ostria manifest generate")
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [shlex.split(line.partition("|")[0]) for line in typed if line.startswith(verbs)]


def sets(words: list[str]) -> list[str]:
    flags = {"--set": "", "--revision": "revision="}
    return [flags[flag] + value for flag, value in itertools.pairwise(words) if flag in flags]


def understood(files: list[tuple[str, str]], given: list[str]) -> Installation:
    installation, problems = read(files, given)
    assert installation is not None, problems
    assert problems == ()
    return installation


def test_the_command_lines_are_understood_but_for_the_one_that_shows_a_mistake() -> None:
    lines = command_lines()
    assert len(lines) >= 8
    mistakes = [words for words in lines if "accessLogFil=" in " ".join(words)]
    assert len(mistakes) == 1
    for words in lines:
        if words not in mistakes:
            understood([], sets(words))
    _, problems = read([], sets(mistakes[0]))
    assert [(each.message, each.hint) for each in problems] == [
        ('unknown field "accessLogFil"', "did you mean `accessLogFile`?")
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_are_understood(page: str) -> None:
    found = [block for block in blocks(page, "yaml") if "kind: IstioOperator" in block]
    assert found
    for block in found:
        assert render(understood([(page, block)], []))


def test_a_gateway_of_ones_own_is_filled_in() -> None:
    (block,) = (block for block in blocks("gateways.md", "yaml") if "kind: Deployment" in block)
    template = yaml.safe_load(block)["spec"]["template"]
    injection = inject(template, "edge", Settings())
    assert injection.pod is not None, injection.reason
    (container,) = injection.pod["spec"]["containers"]
    assert container["args"][:2] == ["proxy", "router"]


def test_the_tables_are_complete() -> None:
    text = (DOCS / "install.md").read_text()
    rows = re.findall(r"^\| (`?[A-Za-z, ]+`?) \|", text, re.MULTILINE)
    assert {row.strip("`") for row in rows} >= PROFILES.keys()
    listed = {name for row in rows for name in row.split(", ")}
    assert {stored.kind for stored in STORED} <= listed
    acted_on = text[text.index("All of Istio's kinds can be applied. ") : text.index("take effect")]
    named = set(re.findall(r"[A-Z][A-Za-z]+[A-Z][a-z]+|Gateway|Sidecar", acted_on))
    assert named == {kind.name for kind in KINDS.values() if kind.ours and not kind.standard}
