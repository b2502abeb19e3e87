"""A mesh that runs: started for a worker's tests by the commands that a person types, and ended with them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_START, _CALL, _LOOK = 180.0, 60.0, 0.2


class NotFit(Exception):
    """This machine can run no mesh; the text is the doctor's reason."""


class LiveCallFailed(AssertionError):
    """A call that was to succeed does not."""


class Answered(NamedTuple):
    """What became of calls: how many had which status (a text), how many failed how, and how many were answered by whom
    (`reviews v1`), as far as the caller's proxy could tell."""

    statuses: Mapping[str, int]
    failures: Mapping[str, int]
    split: Mapping[str, int]


class LiveMesh:
    """A running mesh; `started` makes one."""

    def __init__(self, env: Mapping[str, str], namespace: str) -> None:
        self._env = env
        self._namespace = namespace

    @classmethod
    @contextlib.contextmanager
    def started(cls, files: Sequence[str], *, namespace: str = "default") -> Iterator[LiveMesh]:
        """A mesh with these files applied and their pods ready. Raises NotFit; other failures are assertions."""
        # Unix sockets' paths are short, so the folder's must be.
        home = tempfile.mkdtemp(prefix="ostria-")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OSTRIA_", "KUBE"))}
        if "OSTRIA_ENVOY" in os.environ:
            kept["OSTRIA_ENVOY"] = os.environ["OSTRIA_ENVOY"]
        mesh = cls({**kept, "OSTRIA_HOME": home, "OSTRIA_MESH": "pytest", "NO_COLOR": "1"}, namespace)
        try:
            mesh._examine()
            mesh.ostria("up", "-d", bound=_START)
            mesh._inject()
            for file in files:
                mesh.ostria("apply", "-n", namespace, "-f", file)
            mesh._ready()
            yield mesh
        finally:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                mesh.ostria("down", "--purge", "-y")
            shutil.rmtree(home, ignore_errors=True)

    def ostria(self, *words: str, bound: float = _CALL, code: int | None = 0) -> str:
        """What a command of `ostria` prints. Fails unless it ends with `code`; None takes any."""
        done = self._done(words, bound)
        assert code is None or done.returncode == code, f"ostria {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _done(self, words: Sequence[str], bound: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ostria.cli.main", *words]
        return subprocess.run(  # noqa: S603 - Its own program, without a shell.
            command, env=self._env, capture_output=True, text=True, timeout=bound, check=False
        )

    def call(
        self, source: str, url: str, *, headers: Mapping[str, str] | None = None, method: str = "GET", count: int = 1
    ) -> Answered:
        """Calls from inside a workload's pod, each of which is to be answered with less than 400.

        One that is not says what was answered, and what the mesh's configuration makes of such a call.
        """
        __tracebackhide__ = True
        words = [source, url]
        for name, value in (headers or {}).items():
            words += ["-H", f"{name}: {value}"]
        printed = self.ostria(
            "call", *words, "-X", method, "--namespace", self._namespace, "-n", str(count), "-o", "json", code=None
        )
        assert printed, f"nothing could be called: {source} {url}"
        found: dict[str, Any] = json.loads(printed)
        answered = Answered(found["statuses"], found["failures"], found.get("split") or {})
        if answered.failures or any(status >= "400" for status in answered.statuses):
            asked = ("simulate", url, "--from", source, *words[2:], "-X", method, "-n", self._namespace)
            why = self._done(asked, _CALL)
            came = dict(answered.statuses) | dict(answered.failures)
            # What the call meets is data, and what is wrong about it an error.
            raise LiveCallFailed(f"{source} calls {url}: {came}\n{why.stdout}{why.stderr}")
        return answered

    def _examine(self) -> None:
        printed = self.ostria("doctor", "-o", "json", code=None)
        checks = json.loads(printed).get("checks", []) if printed else []
        failed = [check for check in checks if check.get("outcome") == "fail"]
        if failed:
            words = "; ".join(f"{each['name']}: {each.get('detail', '')}" for each in failed)
            raise NotFit(f"no mesh can run here: {words}")

    def _inject(self) -> None:
        labels = {"istio-injection": "enabled"}
        meta = {"name": self._namespace, "labels": labels}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}, file)
            file.flush()
            self.ostria("apply", "-f", file.name)

    def _ready(self) -> None:
        """Until every Deployment has its pods."""
        until = time.monotonic() + _START
        while missing := self._missing():
            assert time.monotonic() < until, f"not ready within {_START:.0f} s: {', '.join(missing)}"
            time.sleep(_LOOK)

    def _missing(self) -> list[str]:
        listed = json.loads(self.ostria("get", "deployments", "-n", self._namespace, "-o", "json"))
        found = listed.get("items", [listed])
        return [
            str(each["metadata"]["name"])
            for each in found
            if (each.get("status") or {}).get("availableReplicas", 0) < each["spec"].get("replicas", 1)
        ]
