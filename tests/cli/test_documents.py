"""What the documents promise of the command line is so: verbs, flags, settings, exit codes, what became of istioctl."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from conftest import Golden
from ostria.cli import configuration, istioctl
from ostria.cli.errors import Exit
from ostria.cli.main import GROUPS, load, parser

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = "<!-- The rest is written by tests/cli/test_documents.py -->"


def reference() -> str:
    """Every verb with its words and flags, as its parser has them."""
    lines: list[str] = []
    for title, verbs in GROUPS.items():
        lines += [f"### {title}", ""]
        for name in verbs:
            module = load(name)
            made = parser(name, module)
            lines += [f"#### ostria {name}", "", *(module.__doc__ or "").strip().splitlines(), ""]
            lines += [*_table(made), ""]
            for inner, below in _inner(made):
                lines += [f"`ostria {name} {inner}`:", "", *_table(below), ""]
    return "\n".join(lines).rstrip() + "\n"


def _inner(made: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            seen = set()
            for name, below in action.choices.items():
                if id(below) not in seen:
                    seen.add(id(below))
                    yield name, below


def _table(made: argparse.ArgumentParser) -> list[str]:
    rows = []
    for action in made._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        words = ", ".join(action.option_strings)
        if not action.option_strings or action.nargs != 0:
            words = f"{words} {value}".strip()
        # A bar would end the cell.
        rows.append(f"| `{words.replace('|', chr(92) + '|')}` | {action.help} |")
    return ["| flag | what it does |", "| --- | --- |", *rows] if rows else []


def test_every_verb_and_flag_is_documented(golden: Golden) -> None:
    """The page's second half is the parsers' own words; `--update-goldens` writes it anew."""
    page = DOCS / "cli.md"
    text = page.read_text()
    assert BEGIN in text
    golden.check(page, text.partition(BEGIN)[0] + BEGIN + "\n\n" + reference())


def test_every_setting_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    documented = set(re.findall(r"^\| `([a-z-]+)` \| `OSTRIA_", text, re.MULTILINE))
    assert documented == set(configuration.SETTINGS)
    for name in configuration.SETTINGS:
        assert f"| `{name}` | `{configuration.variable_of(name)}` |" in text


def test_every_exit_code_is_documented() -> None:
    documented = set(re.findall(r"^\| (\d+) \|", (DOCS / "cli.md").read_text(), re.MULTILINE))
    assert documented == {str(int(code)) for code in Exit}


def test_every_verb_of_istioctls_is_mapped() -> None:
    text = (DOCS / "from-istio.md").read_text()
    for name in (*istioctl.HERE, *istioctl.LATER):
        assert re.search(rf"^\| `istioctl {re.escape(name)}\b", text, re.MULTILINE), name


def test_every_platform_says_whether_it_was_tested() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", (DOCS / "platforms.md").read_text(), re.MULTILINE)
    marks = {name.strip(): mark.strip() for name, mark in rows if name.strip() not in ("platform", "---")}
    for name in ("Debian 12", "Ubuntu 22.04", "Ubuntu 24.04", "Fedora", "WSL2", "macOS", "Alpine"):
        assert name in marks
    assert set(marks.values()) <= {"tested", "not tested"}
