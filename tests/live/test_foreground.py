"""`ostria up FOLDER` in a terminal: what is saved is told, what is broken changes nothing, Ctrl-C ends the mesh."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
import signal

import pytest

from doubles import host_tables
from doubles.local_mesh import BIN, LocalMesh
from doubles.screen import screen

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live-foreground"),
    pytest.mark.timeout(180),
]

BOUND = 90.0
APP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: v1}}
    spec: {containers: [{name: web, image: docker.io/mccutchen/go-httpbin}]}
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http:
  - route:
    - destination: {host: web, subset: %s}
"""
SUBSETS = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
"""


async def test_a_folder_is_followed_in_a_terminal(home: pathlib.Path):
    mesh = LocalMesh(home / "state", "t")
    work = home / "work"
    work.mkdir()
    (home / "state").mkdir()
    (work / "app.yaml").write_text(APP)
    (work / "subsets.yaml").write_text(SUBSETS)
    try:
        command = (str(BIN / "ostria"), "up", str(work), "--profile", "minimal")
        async with screen(mesh.env, work, *command) as shown:
            await shown.shows(r"Deployment shop/web: created")
            await shown.shows(rf"  follows +{work}\n")
            # The view: pods and proxies, and nothing wrong once they are ready.
            await shown.shows(r"2 of 2 pods ready +1 with a proxy +nothing is wrong")
            assert re.search(r"shop +web-\S+ +2/2 +Running", shown.text)

            # A save.
            rule = work / "rule.yaml"
            rule.write_text(RULE % "v1")
            await shown.shows(r"VirtualService shop/web: enforced by 1 proxy in [\d.]+ ms")
            uid = (await mesh.get("virtualservice", "web", "shop"))["metadata"]["uid"]

            # A broken save names its place, and what was applied last stands.
            at = len(shown.text)
            rule.write_text((RULE % "v1").replace("host: web,", "host: [web],"))
            place = await shown.shows(r"rule\.yaml:\d+:\d+", at)
            assert place == "rule.yaml:8:21"
            await shown.shows("what was applied last stands", at)
            held = await mesh.get("virtualservice", "web", "shop")
            assert held["spec"]["http"][0]["route"][0]["destination"] == {"host": "web", "subset": "v1"}
            at = len(shown.text)
            rule.write_text("spec: [\n")
            assert (await shown.shows(r"rule\.yaml:\d+:\d+", at)).startswith("rule.yaml:")
            assert (await mesh.get("virtualservice", "web", "shop"))["metadata"]["uid"] == uid

            # A misspelt subset is a problem with its object and its line, in the view and in the status.
            rule.write_text(RULE % "v11")
            await shown.shows(r"1 problem\b", at)
            await shown.shows(r'no subset "v11"', at)
            status = json.loads((await mesh.ostria("status", "-o", "json", code=79)).output)
            (problem,) = status["problems"]
            assert (problem["object"]["name"], problem["line"]) == ("web", 8)
            assert problem["file"].endswith("rule.yaml")
            printed = (await mesh.ostria("status", code=79)).output
            assert "VirtualService shop/web spec.http[0].route[0].destination.subset" in printed
            assert "rule.yaml:8:" in printed
            assert "try: did you mean `v1`?" in printed

            # A deleted file takes what it brought, and nothing else.
            at = len(shown.text)
            # One object is not its file's: it was there before.
            await mesh.apply(SUBSETS.replace("name: web,", "name: mine,").replace("host: web", "host: other"))
            (work / "mine.yaml").write_text(
                SUBSETS.replace("name: web,", "name: mine,").replace("host: web", "host: another")
            )
            await shown.shows(r"DestinationRule shop/mine: ", at)
            for name in ("rule", "mine"):
                (work / f"{name}.yaml").unlink()
            await shown.shows(r"VirtualService shop/web: deleted, as rule\.yaml does not say it any more", at)
            await shown.shows(r"DestinationRule shop/mine: stays, as it was there before mine\.yaml was", at)
            assert await mesh.names("virtualservices", "shop") == []
            assert await mesh.names("destinationrules", "shop") == ["mine", "web"]

            held_by = host_tables.belongings(mesh.home)
            shown.interrupt()
            async with asyncio.timeout(BOUND):
                assert await shown.process.wait() == 0
            assert "Its state is kept in" in shown.text
            assert held_by.left(mesh.home) == {}
    finally:
        await mesh.ostria("down", "--purge", "-y", code=None)
    assert not (mesh.home / "t").exists()


async def test_without_a_terminal_there_are_plain_lines(home: pathlib.Path):
    mesh = LocalMesh(home, "t")
    process = await asyncio.create_subprocess_exec(
        *(str(BIN / "ostria"), "up", "--profile", "empty"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=mesh.env, cwd=home,
    )  # fmt: skip
    try:
        assert process.stdout
        lines = []
        async with asyncio.timeout(BOUND):
            while not lines or lines[-1] != "Ctrl-C ends it.\n":
                lines.append((await process.stdout.readline()).decode())
            process.send_signal(signal.SIGINT)
            rest = (await process.stdout.read()).decode()
            assert await process.wait() == 0
        assert "\x1b" not in "".join(lines) + rest
        assert "Its state is kept in" in rest
    finally:
        await mesh.ostria("down", "--purge", "-y", code=None)
