"""What a person does with a mesh that runs: calls from a pod, a program of their own in it, shells and contexts."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from doubles.local_mesh import BIN, LocalMesh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("live")]

BOUND = 60.0
SPLIT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 75}
    - {destination: {host: reviews, subset: v3}, weight: 25}
"""
# What it is called with, and one line for each call.
PROGRAM = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ['WORD']} {open('page.txt').read()} {sys.argv[2]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("called", self.path, flush=True)
print("begins", flush=True)
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Answer).serve_forever()
"""


async def test_calls_show_who_answered_them(mesh: LocalMesh):
    await mesh.enforce(SPLIT, "VirtualService default/reviews")
    try:
        words = ("call", "productpage-v1", "http://reviews:9080/reviews/0", "-n", "400")
        printed = (await mesh.ostria(*words)).output
        found = json.loads((await mesh.ostria(*words, "-o", "json")).output)
    finally:
        await mesh.withdraw("VirtualService", "reviews")
    assert re.search(r"^400 calls in ", printed)
    assert re.search(r"^  200 +400$", printed, re.MULTILINE)
    bars = dict(re.findall(r"^  reviews (v\d) +(█+)", printed, re.MULTILINE))
    assert set(bars) == {"v1", "v3"}
    assert len(bars["v1"]) > len(bars["v3"])
    assert (found["apiVersion"], found["kind"], found["statuses"]) == ("ostria.dev/v1", "Call", {"200": 400})
    # Four standard deviations of 400 draws are 8.7 points.
    split = {who.split()[-1]: count / 4 for who, count in found["split"].items()}
    assert abs(split["v1"] - 75) < 8.7, split
    nobody = await mesh.ostria("call", "productpage-v1", "http://nobody.example:81/", code=1)
    assert "no answer 1: gaierror" in nobody.output


async def test_a_program_of_ones_own_runs_in_the_mesh(mesh: LocalMesh, tmp_path: pathlib.Path):
    """It sees its folder and its environment, has a sidecar, is called by name, is heard here, and goes with Ctrl-C."""
    (tmp_path / "page.txt").write_text("page")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = ("run", "mine", "--port", "8123", "--", sys.executable, "program.py", "8123", "argument")
    process = await asyncio.create_subprocess_exec(
        *(str(BIN / "ostria"), *command),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**mesh.env, "WORD": "word"}, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert process.stdout
        assert process.stderr
        async with asyncio.timeout(BOUND):
            assert await process.stdout.readline() == b"begins\n"
        await mesh.rolled_out("deploy/mine-v1")
        (pod,) = [each for each in (await mesh.get("pods"))["items"] if each["metadata"]["name"].startswith("mine-v1")]
        assert {each["name"] for each in pod["status"]["containerStatuses"]} >= {"mine"}
        assert "istio-proxy" in json.dumps(pod["spec"])
        async with asyncio.timeout(BOUND):
            while (ran := await mesh.curl("-s", "http://mine:8123/hello")).output != "word page argument":
                assert ran.code == 0, ran
                await asyncio.sleep(0.05)
            # What the program's server says on its other stream may come before.
            while await process.stdout.readline() != b"called /hello\n":
                pass
            called = await mesh.ostria("call", "productpage-v1", "http://mine:8123/again", "-n", "3")
            assert "mine v1" in called.output
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
        assert process.returncode == 0
        assert "http://mine:8123 in namespace default. Ctrl-C removes it." in errors.decode()
        assert "mine v1 is removed." in errors.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
            await mesh.kubectl("delete", "deploy/mine-v1", "svc/mine", "--ignore-not-found")
    names = await mesh.names("deployments") + await mesh.names("services")
    assert not [name for name in names if name.startswith("mine")]


async def test_a_shell_means_the_mesh_and_covers_no_installed_program(mesh: LocalMesh):
    command = (
        "kubectl config view --minify -o jsonpath={.clusters[0].cluster.server}; echo; "
        "echo $OSTRIA_MESH; istioctl version"
    )
    ran = await mesh.ostria("shell", "--", "sh", "-c", command)
    server, name, *rest = ran.output.splitlines()
    port = json.loads((mesh.home / mesh.name / "mesh.json").read_text())["ports"]["api"]
    assert (server, name) == (f"https://127.0.0.1:{port}", mesh.name)
    assert rest[0].startswith("ostria:")
    assert (await mesh.ostria("shell", "--", "false", code=1)).code == 1


async def test_a_context_is_added_and_only_that_is_removed(mesh: LocalMesh):
    """`kubeconfig --merge` adds a context to the person's file and does not switch to it."""
    mine = mesh.home / ".kube" / "config"
    mine.parent.mkdir(exist_ok=True)
    env = {name: value for name, value in mesh.env.items() if name != "KUBECONFIG"}
    before = "apiVersion: v1\nkind: Config\ncurrent-context: other\ncontexts: []\nclusters: []\nusers: []\n"
    mine.write_text(before)
    try:
        merged = await asyncio.create_subprocess_exec(BIN / "ostria", "kubeconfig", "--merge", env=env, cwd=mesh.home)
        assert await merged.wait() == 0
        text = mine.read_text()
        assert "current-context: other" in text
        assert f"ostria-{mesh.name}" in text
    finally:
        mine.unlink()
