"""The doctor: what is tried, what a refusal comes to, and that nothing remains."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ostria.apps import doctor
from ostria.apps.doctor import Check, Outcome, Request


def examined(tmp_path: Path, *ports: int, strict: bool = False, **env: str) -> dict[str, Check]:
    request = Request(tmp_path / "state" / "default", ports, env, strict_ports=strict)
    return {check.name: check for check in doctor.examine(request)}


def refuse(code: int) -> Callable[[], str]:
    def step() -> str:
        raise OSError(code, os.strerror(code), "the thing")

    return step


def children() -> set[str]:
    """This process's children; other tests' may be among them."""
    return {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


def test_every_failure_has_a_remedy_and_nothing_remains(tmp_path: Path) -> None:
    """True on every machine: what this one refuses is told with a remedy, and what it allows leaves no trace."""
    before = (
        Path("/proc/self/mountinfo").read_text(),
        os.listdir("/proc/self/fd"),
        threading.active_count(),
        children(),
    )
    checks = examined(tmp_path)
    assert list(checks)[:3] == ["system", "python", "namespaces"]
    assert {"mounts", "links", "packet rules", "nested users", "envoy", "disk", "file watches"} <= set(checks)
    assert [check for check in checks.values() if check.outcome is Outcome.FAIL and not check.remedy] == []
    after = (
        Path("/proc/self/mountinfo").read_text(),
        os.listdir("/proc/self/fd"),
        threading.active_count(),
        children(),
    )
    assert after == before
    assert list(tmp_path.iterdir()) == []


def test_what_works_here_works_for_the_doctor(tmp_path: Path) -> None:
    checks = examined(tmp_path)
    if checks["namespaces"].outcome is Outcome.FAIL:
        pytest.skip(f"this machine refuses: {checks['namespaces'].detail}")
    assert {name: checks[name].detail for name in ("links", "packet rules")} == {
        "links": "a bridge and a pair of virtual links",
        "packet rules": "redirection by nft",
    }
    assert doctor.is_fit(checks.values())


def test_without_namespaces_the_rest_is_not_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_steps", lambda: {"namespaces": refuse(errno.EPERM), "mounts": refuse(errno.EPERM)})
    checks = examined(tmp_path)
    assert checks["namespaces"].outcome is Outcome.FAIL
    assert checks["namespaces"].detail == "Operation not permitted: the thing"
    assert checks["namespaces"].remedy
    assert checks["mounts"] == Check("mounts", Outcome.SKIP, "it needs: namespaces")
    assert not doctor.is_fit(checks.values())


def test_a_machine_that_really_refuses_is_seen_through(tmp_path: Path) -> None:
    """In a user namespace whose owner allows no network namespaces, as some distributions' settings do."""
    program = f"""
import os, pathlib, sys
from ostria.apps import doctor
from ostria.node import linux
uid, gid = os.geteuid(), os.getegid()
try:
    linux.unshare(linux.CLONE_NEWUSER)
    linux.map_single_user(0, uid, 0, gid)
    linux.write("/proc/sys/user/max_net_namespaces", "0")
except OSError:
    sys.exit(77)
checks = doctor.examine(doctor.Request(pathlib.Path({str(tmp_path)!r}), (), {{}}))
print(*next((check.outcome, check.remedy) for check in checks if check.name == "namespaces"), sep="|")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this machine lets nobody make such a namespace")
    assert done.stdout == "fail|sudo sysctl -w user.max_net_namespaces=28633\n", done.stderr


@pytest.mark.parametrize(
    ("step", "code", "remedy"),
    [
        ("links", errno.EOPNOTSUPP, "sudo modprobe -a bridge veth"),
        ("packet rules", errno.EPROTONOSUPPORT, "sudo modprobe -a nf_tables nft_chain_nat nft_redir"),
        ("mounts", errno.ENODEV, "sudo modprobe overlay"),
    ],
)
def test_a_missing_module_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, remedy: str
) -> None:
    monkeypatch.setattr(doctor, "_steps", lambda: {step: refuse(code)})
    assert examined(tmp_path)[step].remedy == remedy


def test_ubuntus_apparmor_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There making the namespace succeeds, and only its use is refused."""
    monkeypatch.setattr(doctor, "_steps", lambda: {"namespaces": refuse(errno.EACCES)})
    monkeypatch.setattr(doctor, "_text", lambda path: "1" if "apparmor" in path else "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    remedy = examined(tmp_path)["namespaces"].remedy
    assert remedy.startswith("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")


def test_a_step_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> str:
        threading.Event().wait()
        return ""

    monkeypatch.setattr(doctor, "_steps", lambda: {"links": hang})
    monkeypatch.setattr(doctor, "BOUND", 0.2)
    assert examined(tmp_path)["links"].detail == "it did not end in time"


def test_an_envoy_that_does_not_run_is_told(tmp_path: Path) -> None:
    assert "not an executable file" in examined(tmp_path, OSTRIA_ENVOY="/dev/null")["envoy"].detail
    failing = examined(tmp_path, OSTRIA_ENVOY="/bin/false")["envoy"]
    assert (failing.outcome, failing.remedy) == (Outcome.FAIL, "OSTRIA_ENVOY=PATH of one that does")


def test_a_taken_port_is_a_warning_unless_ports_are_strict(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert examined(tmp_path, port)[f"port {port}"].outcome is Outcome.WARN
        assert examined(tmp_path, port, strict=True)[f"port {port}"].outcome is Outcome.FAIL


def test_another_system_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "system", lambda: "Darwin")
    checks = examined(tmp_path)
    assert list(checks) == ["system", "python"]
    assert "lima" in checks["system"].remedy
