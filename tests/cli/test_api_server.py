"""The commands about objects against the API server itself, as a process of its own."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ostria.cli.errors import Exit, explain
from ostria.cli.main import Context, run
from ostria.cli.output import Output
from ostria.samples.catalogue import samples

HTTPBIN = next(sample.path for sample in samples() if sample.name == "httpbin")
BAD = """
apiVersion: v1
kind: ConfigMap
metadata: {name: good}
---
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  ports:
  - port: 80
    protocl: TCP
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none}
spec: {podSelector: {}}
"""


class Printed(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("api")
    ready, tell = os.pipe()
    path = folder / "kubeconfig"
    listening = socket.create_server(("127.0.0.1", 0))
    options = {
        "state": folder / "state",
        "listen": f"fd:{listening.fileno()}",
        "advertise": f"127.0.0.1:{listening.getsockname()[1]}",
        "node-socket": folder / "node.sock",
        "kubeconfig": path,
        "ready-fd": tell,
    }
    command = [sys.executable, "-m", "ostria.apps.apiserver", *(f"--{k}={v}" for k, v in options.items())]
    with (folder / "log").open("wb") as log, listening:
        process = subprocess.Popen(command, pass_fds=(tell, listening.fileno()), stdout=log, stderr=log)
    os.close(tell)
    try:
        with os.fdopen(ready) as lines:
            assert lines.readline() == "ready\n", (folder / "log").read_text()
        yield path
    finally:
        process.terminate()
        process.wait(20)


def typed(line: str, kubeconfig: Path) -> Printed:
    env = {"HOME": str(kubeconfig.parent), "OSTRIA_HOME": str(kubeconfig.parent / "home")}
    output = Output(io.StringIO(), io.StringIO(), io.StringIO(), env)
    try:
        code = run(["--kubeconfig", str(kubeconfig), *line.split()], Context(env, output))
    except Exception as error:
        found = explain(error)
        code = found.code
        output.progress(str(found))
    return Printed(code, output.stdout.getvalue(), output.stderr.getvalue())  # type: ignore[attr-defined]


def test_a_sample_is_applied_listed_and_deleted(kubeconfig: Path) -> None:
    line = f"apply -f {HTTPBIN}"
    created = ["serviceaccount/httpbin created", "service/httpbin created", "deployment.apps/httpbin created"]
    assert typed(line, kubeconfig).stdout.splitlines() == created
    assert {text.split()[-1] for text in typed(line, kubeconfig).stdout.splitlines()} == {"unchanged"}
    shown = typed("get deploy httpbin", kubeconfig).stdout.splitlines()
    assert shown[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert shown[1].split()[:2] == ["httpbin", "0/1"]
    assert "service/httpbin" in typed("get all", kubeconfig).stdout
    service = json.loads(typed("get svc/httpbin -o json", kubeconfig).stdout)
    assert service["spec"]["clusterIP"].startswith("10.")
    deleted = typed(f"delete -f {HTTPBIN}", kubeconfig)
    assert deleted.stdout.splitlines()[0] == 'deployment.apps "httpbin" deleted'
    assert typed("get svc httpbin", kubeconfig).stderr == 'error: services "httpbin" not found\n'


def test_an_unknown_field_is_told_with_its_line_and_the_others_are_applied(kubeconfig: Path) -> None:
    path = kubeconfig.parent / "bad.yaml"
    path.write_text(BAD)
    found = typed(f"apply -f {path}", kubeconfig)
    assert found.code == Exit.BAD_INPUT
    assert found.stdout == "configmap/good created\n"
    assert found.stderr.splitlines()[-1] == f"  at service/bad spec.ports[0].protocl {path}:12:5"


def test_what_nothing_acts_on_is_said(kubeconfig: Path) -> None:
    path = kubeconfig.parent / "policy.yaml"
    path.write_text(POLICY)
    found = typed(f"apply -f {path}", kubeconfig)
    assert found.code == Exit.OK
    assert "Warning: NetworkPolicy is stored, but nothing acts on it here" in found.stderr


def test_an_installation_that_is_not_there_is_told(kubeconfig: Path) -> None:
    found = typed("verify-install", kubeconfig)
    assert found.code == Exit.UNAVAILABLE
    assert found.stderr.endswith("try: ostria install\n")
    assert typed("proxy-status", kubeconfig).stderr == "No proxies run.\n"
