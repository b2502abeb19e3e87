"""The real process `apiserver`, started for tests on a loopback port, and the kubectls of this machine to drive it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

OLDEST = (1, 30)


class Kubectl(NamedTuple):
    """One kubectl and its version."""

    path: str
    version: str


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class ApiProcess:
    """An apiserver that can be killed and started again; its socket stays open between, as the supervisor keeps it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.kubeconfig = folder / "kubeconfig"
        self.log = folder / "apiserver.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        reading, writing = os.pipe()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ostria.apps.apiserver"),
                    *("--state", str(self.folder / "apiserver"), "--listen", f"fd:{self.socket.fileno()}"),
                    *("--advertise", self.address, "--node-socket", str(self.folder / "node.sock")),
                    *("--kubeconfig", str(self.kubeconfig), "--ready-fd", str(writing)),
                ],
                pass_fds=(self.socket.fileno(), writing),
                stderr=log,
            )
        os.close(writing)
        with os.fdopen(reading) as told:
            if told.readline() != "ready\n":
                raise AssertionError(f"the API server did not start:\n{self.log.read_text()[-4000:]}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; returns its exit code, 0 if it was not there."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kubectl(self, kubectl: Kubectl, *arguments: str, stdin: str = "", timeout: float = 60) -> Done:
        """Run one command to its end."""
        done = subprocess.run(
            [kubectl.path, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(),
            cwd=self.folder,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def environment(self) -> dict[str, str]:
        """What a command finds in its environment: nothing of whoever runs the tests."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {"PATH": os.environ["PATH"], "KUBECONFIG": str(self.kubeconfig), "HOME": str(home)}


class Session(NamedTuple):
    """One kubectl at work in one namespace: calling it runs a command, with `stdin` or `text` as its input."""

    api: ApiProcess
    kubectl: Kubectl
    namespace: str

    @property
    def version(self) -> str:
        return self.kubectl.version

    def __call__(self, *arguments: str, stdin: str = "", text: str = "") -> Done:
        return self.api.kubectl(self.kubectl, "--namespace", self.namespace, *arguments, stdin=stdin or text)


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[ApiProcess]:
    """An apiserver with its state in a folder, ended afterwards."""
    api = ApiProcess(folder)
    try:
        api.start()
        yield api
    finally:
        api.end()
        api.socket.close()


@functools.cache
def kubectls() -> tuple[Kubectl, ...]:
    """Every kubectl of at least 1.30, one of each minor version, the oldest first.

    Looked for are those that KUBECTL names (with `:` between), and that of PATH. A kubectl may be a dispatcher, which
    has versions beside it (`kubectl.1.30`) and runs the one that fits the server: then those are meant, and not it.
    """
    named = [*os.environ.get("KUBECTL", "").split(":"), "kubectl"]
    resolved = [pathlib.Path(path).resolve() for each in named if each and (path := shutil.which(each))]
    paths = dict.fromkeys(path for each in resolved for path in (_beside(each) or (each,)))
    found = sorted((_numbers(version), Kubectl(str(path), version)) for path in paths if (version := _version(path)))
    return tuple({numbers[:2]: each for numbers, each in found if numbers >= OLDEST}.values())


def _beside(dispatcher: pathlib.Path) -> tuple[pathlib.Path, ...]:
    return tuple(
        path
        for path in dispatcher.parent.glob(f"{dispatcher.name}.*")
        if (found := re.fullmatch(r"\.(\d+)\.(\d+)", path.name.removeprefix(dispatcher.name)))
        and (int(found[1]), int(found[2])) >= OLDEST
        and os.access(path, os.X_OK)
    )


def _version(path: pathlib.Path) -> str:
    try:
        told = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, timeout=30, check=True)
        return str(json.loads(told.stdout)["clientVersion"]["gitVersion"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"v(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()
