"""The shape of the files: size, names, a word at the top, a test beside, nothing of the machine they were made on."""

from __future__ import annotations

import ast
import re

import pytest

from architecture.repository import ROOT, SOURCE, modules, rooms, shown, text_of, tracked

WALL = 800
QUESTION = 500

# Files over 500 lines, each with the reason. Before adding one, look for the two subjects in it.
LONG = {
    "src/ostria/engine/core.py": "one algorithm, told in one go",
    "src/ostria/node/worker.py": "one pod's life: one state",
    "src/ostria/xds/delivery.py": "who is owed what, in which order: one state",
}

# Rooms in the making that have no test of their own yet.
UNTESTED: set[str] = set()

BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|commons?|managers?|misc|stuff)(_|$)")

# Written so that this file does not hold what it looks for.
TRACES = (
    "/work" + "/main",
    "/work" + "/shared",
    "/opt" + "/pypi",
    "pypi" + ".org",
    "python" + "hosted.org",
    "registry.npm" + "js",
    "--index" + "-url",
    "--find" + "-links",
)

# No reader opens these to be taught: locks, generated data, and the list of traces itself.
DATA = re.compile(r"\.(json|txt|lock|svg|bin|pem)$")


def python_files() -> list[str]:
    return [shown(path) for path in tracked() if path.suffix == ".py"]


def lines(name: str) -> int:
    return len((ROOT / name).read_text().splitlines())


def test_no_file_is_over_the_wall() -> None:
    assert {name: lines(name) for name in python_files() if lines(name) > WALL} == {}


def test_long_files_are_few_and_known() -> None:
    long = {name for name in python_files() if name.startswith("src/") and lines(name) > QUESTION}
    assert long - set(LONG) == set(), f"over {QUESTION} lines: split by subject, or say why not in LONG"
    assert set(LONG) - long == set(), "no longer that long: take it off the list"


def test_the_engine_stays_small() -> None:
    assert sum(lines(shown(path)) for path in (SOURCE / "engine").glob("*.py")) <= 800


def test_names_say_what_is_inside() -> None:
    names = [(shown(path), part) for path in tracked() for part in path.relative_to(ROOT).with_suffix("").parts]
    assert [name for name, part in names if name.endswith(".py") and BANNED_NAMES.search(part)] == []


def test_every_module_begins_with_what_it_is_for() -> None:
    assert [shown(module.path) for module in modules() if not ast.get_docstring(module.tree)] == []


@pytest.mark.parametrize("room", sorted(set(rooms()) - UNTESTED))
def test_every_room_has_its_tests(room: str) -> None:
    if [module.name for module in modules() if module.room == room and len(module.tree.body) > 1]:
        assert list((ROOT / "tests" / room).glob("**/test_*.py")), f"tests/{room} holds no test"


def test_nothing_tells_of_the_machine_it_was_made_on() -> None:
    found = {f"{shown(path)}: {trace}" for path in tracked() for trace in TRACES if trace in text_of(path)} - {
        f"scripts/lock: {trace}" for trace in TRACES
    }
    assert found == set()


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt", "audit.txt"])
def test_every_pin_is_an_exact_version_with_hashes(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text())
    wrong = [
        entry.splitlines()[0] for entry in entries if not re.match(r"^[\w.-]+==\S+.* \\\n    --hash=sha256:", entry)
    ]
    assert wrong == []
