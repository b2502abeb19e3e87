"""What a command line comes to: exit codes, words on an error, and what is imported for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from ostria.cli.errors import CliError, Exit, explain
from ostria.cli.main import GROUPS, VERBS, Context, load, overview, parser, run
from ostria.cli.output import Output, table

DEAR = ("grpc", "google.protobuf", "celpy", "cel", "starlette", "cryptography", "rich", "aiohttp", "yaml")


class Printed(NamedTuple):
    code: int
    stdout: str
    stderr: str


def typed(line: str, env: Mapping[str, str] | None = None) -> Printed:
    """Run a command line in this process."""
    output = Output(io.StringIO(), io.StringIO(), io.StringIO(), env or {})
    try:
        code = run(line.split(), Context(env or {}, output))
    except CliError as error:
        code = error.code
        output.progress(str(error))
    return Printed(code, output.stdout.getvalue(), output.stderr.getvalue())  # type: ignore[attr-defined]


def imported_by(line: str) -> set[str]:
    """The modules that a process has loaded once it has run a command line."""
    program = f"""
import atexit, sys
sys.argv = ["ostria", *{line.split()!r}]
atexit.register(lambda: print(" ".join(sys.modules), file=sys.stderr))
from ostria.cli.main import main
sys.exit(main())
"""
    env = {**os.environ, "OSTRIA_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "line", ["--help", "version", "version -o json", "completion bash", "up --help", "get --help", "config show"]
)
def test_what_needs_nothing_imports_nothing_dear(line: str) -> None:
    modules = imported_by(line)
    assert "ostria.cli.main" in modules
    assert {name for name in DEAR if name in modules} == set()


def test_an_agent_is_started_before_anything_else_is_imported() -> None:
    modules = imported_by("agent wait --bad")
    assert "ostria.agent.main" in modules
    assert {"argparse", "json", "ostria.cli.output", *DEAR} & modules == set()


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself(name: str) -> None:
    module = load(name)
    assert module.__doc__
    text = parser(name, module).format_help()
    assert f"ostria {name}" in text
    assert "--debug" in text


def test_the_overview_lists_every_verb_with_its_purpose() -> None:
    text = overview()
    for verbs in GROUPS.values():
        for name, verb in verbs.items():
            assert f"  {name:<16}{verb.summary}\n" in text


def test_a_misspelt_command_is_a_matter_of_usage_and_the_nearest_is_named() -> None:
    found = typed("prox-status")
    assert found == (Exit.USAGE, "", 'error: there is no command "prox-status"\n  try: ostria proxy-status\n')


def test_a_flag_that_is_not_known_is_a_matter_of_usage() -> None:
    found = typed("version --colour")
    assert found.code == Exit.USAGE
    assert found.stderr == "error: unrecognized arguments: --colour\n  try: ostria version --help\n"


def test_flags_may_stand_before_the_verb_as_with_kubectl() -> None:
    before, after = typed("-n prod --mesh none get pods"), typed("get pods -n prod --mesh none")
    assert before == after
    assert "there is no mesh none" in before.stderr


def test_errors_say_what_and_where_and_what_to_do() -> None:
    error = CliError("the port 8080 is taken", "127.0.0.1:8080", "ostria up without --strict-ports")
    assert str(error) == ("error: the port 8080 is taken\n  at 127.0.0.1:8080\n  try: ostria up without --strict-ports")


def test_an_error_inside_task_groups_is_the_error() -> None:
    inner = CliError("no", code=Exit.UNAVAILABLE)
    assert explain(ExceptionGroup("outer", [ExceptionGroup("inner", [inner])])) is inner
    assert explain(TimeoutError("the page did not come")).code == Exit.TIMEOUT
    assert "--debug" in explain(ZeroDivisionError("division by zero")).hint


def test_a_traceback_is_printed_only_if_asked_for(tmp_path: object) -> None:
    env = {**os.environ, "OSTRIA_HOME": "/dev/null"}
    command = [sys.executable, "-m", "ostria.cli.main", "get", "pods", "--mesh", "gone"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    deep = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False, env=env)
    assert plain.returncode == deep.returncode == Exit.UNAVAILABLE
    assert plain.stderr.startswith("error: there is no mesh gone\n")
    assert "Traceback" in deep.stderr


def test_what_destroys_needs_a_yes_where_nobody_can_be_asked() -> None:
    output = Output(io.StringIO(), io.StringIO(), io.StringIO(), {})
    assert output.confirm("Remove it?", yes=True)
    with pytest.raises(CliError) as refused:
        output.confirm("Remove it?", yes=False)
    assert refused.value.code == Exit.USAGE
    assert refused.value.hint == "add -y"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "expected"), [("y\n", True), ("no\n", False), ("", False)])
def test_a_person_is_asked(answer: str, expected: bool) -> None:
    output = Output(io.StringIO(), io.StringIO(), Terminal(answer), {})
    assert output.confirm("Remove it?", yes=False) is expected


def test_colours_are_for_terminals_that_want_them() -> None:
    def painted(stream: io.StringIO, env: Mapping[str, str]) -> str:
        return Output(stream, io.StringIO(), io.StringIO(), env).paint("no", "red")

    assert painted(Terminal(), {}) == "\x1b[31mno\x1b[0m"
    assert painted(Terminal(), {"NO_COLOR": "1"}) == "no"
    assert painted(io.StringIO(), {}) == "no"


def test_tables_line_up_and_cut_nothing_off() -> None:
    assert table(("NAME", "READY"), [("a-long-name", "1/1"), ("b", "")]) == "NAME          READY\na-long-name   1/1\nb"


def test_a_terminal_that_lacks_letters_ends_no_command() -> None:
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "ostria.cli.main", "doctor"]
    done = subprocess.run(command, capture_output=True, check=False, env=env)
    assert done.returncode in (Exit.OK, Exit.UNAVAILABLE), done.stderr
    assert b"? system" in done.stdout


def test_a_reader_that_goes_ends_the_command_quietly() -> None:
    """As in `ostria completion bash | head -1`."""
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m ostria.cli.main samples print bookinfo | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
