"""scripts/as-user: root's way to see what an ordinary user sees."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
AS_USER = ROOT / "scripts" / "as-user"
PYTHON = ROOT / ".venv" / "bin" / "python"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
with_venv = pytest.mark.skipif(not PYTHON.exists(), reason="there is no .venv")


def run(*command: str | pathlib.Path, where: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AS_USER, *command], cwd=where, capture_output=True, text=True, timeout=60)


@as_root
def test_the_command_has_nothing_of_roots() -> None:
    answer = run(
        "sh", "-c", "id -u; id -G; grep CapEff /proc/self/status; cat /etc/shadow; echo $HOME; touch ~/x && ls ~"
    )
    uid, groups, capabilities, home, made = answer.stdout.split("\n")[:5]
    assert uid != "0"
    assert groups == uid
    assert int(capabilities.split()[1], 16) == 0
    assert "Permission denied" in answer.stderr
    assert made == "x"
    assert not pathlib.Path(home).exists(), "the home outlives the command"


@as_root
@with_venv
def test_the_checkout_and_its_python_are_readable() -> None:
    answer = run(PYTHON, "-c", "import ostria, os; print(os.getuid() != 0, ostria.__file__)")
    assert answer.stdout.split() == ["True", str(ROOT / "src/ostria/__init__.py")], answer.stderr


@as_root
def test_the_machine_is_left_as_it_was() -> None:
    before = (pathlib.Path("/etc/passwd").read_text(), os.stat("/root").st_mode, len(os.listdir("/root")))
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    run("true")
    assert (pathlib.Path("/etc/passwd").read_text(), os.stat("/root").st_mode, len(os.listdir("/root"))) == before
    assert pathlib.Path("/proc/self/mounts").read_text() == mounts


@as_root
@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("exec no-such-command", 127)])
def test_the_exit_code_is_the_commands(command: str, code: int) -> None:
    assert run("sh", "-c", command).returncode == code


def test_an_ordinary_caller_just_runs_it() -> None:
    """As root, asked through the script itself: the inner call has an ordinary caller."""
    answer = run(AS_USER, "sh", "-c", "echo done; exit 4")
    assert (answer.stdout, answer.returncode) == ("done\n", 4)


def test_without_a_command_it_says_how_it_is_used() -> None:
    answer = run()
    assert answer.returncode == 64
    assert "scripts/as-user" in answer.stderr
