"""The process `node`: killed, it leaves the pods; ended for good, it leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from doubles import netns
from doubles.object_server import ObjectServer
from doubles.object_store import ObjectStore
from ostria.apps import node
from ostria.base.clock import SystemClock
from ostria.node.controllers.objects import POD

POD_THAT_RUNS = """
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: "web:1", command: [sleep, "100000"]}]
"""

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: here}}]
clusters: [{name: here, cluster: {server: "%s"}}]
users: [{name: here, user: {}}]
"""


@pytest.fixture
async def server() -> AsyncIterator[ObjectServer]:
    netns.require(ordinary=os.geteuid() != 0)
    async with ObjectServer(ObjectStore(SystemClock())).serve() as server:
        yield server


@contextlib.asynccontextmanager
async def process(folder: pathlib.Path, server: ObjectServer) -> AsyncIterator[asyncio.subprocess.Process]:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG % server.url)
    with (folder / "node.log").open("ab") as log:
        started = await asyncio.create_subprocess_exec(
            *command(folder), "--kubeconfig", str(kubeconfig), "--socket", str(folder / "node.sock"), stderr=log
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


def command(folder: pathlib.Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "ostria.apps.node", "--state", str(folder / "node"), "--name", "here")


def processes(folder: pathlib.Path) -> list[str]:
    """The processes of this machine that name the folder."""
    found = []
    for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in line:
                found.append(line)
    return found


def container(server: ObjectServer) -> str:
    """The id of the container that runs; "" if none does."""
    status = server.store.get(POD, "web")["status"]
    (state,) = status.get("containerStatuses") or ({},)
    return str(state["containerID"]) if state.get("state", {}).get("running") else ""


async def test_a_killed_node_is_succeeded_by_one_that_goes_on_and_down_leaves_nothing(
    tmp_path: pathlib.Path, server: ObjectServer
) -> None:
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    try:
        server.store.apply(POD_THAT_RUNS)
        async with process(tmp_path, server) as first:
            before = await server.until(lambda: container(server))
            assert server.store.get(POD, "web")["spec"]["nodeName"] == "here"
            first.kill()
        known = server.store.get(POD, "web")
        server.store.change(POD, "web", status={"containerStatuses": None})
        async with process(tmp_path, server) as second:
            assert await server.until(lambda: container(server)) == before
            assert server.store.get(POD, "web")["metadata"]["uid"] == known["metadata"]["uid"]
            second.send_signal(signal.SIGTERM)
            assert await second.wait() == 0
        assert processes(tmp_path), "the pod runs without a node"
    finally:
        ending = await asyncio.create_subprocess_exec(*command(tmp_path), "--down")
        assert await ending.wait() == 0
    assert processes(tmp_path) == []
    assert pathlib.Path("/proc/self/mounts").read_text() == mounts
    left = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*") if not each.is_dir()}
    assert {each for each in left if each.startswith("node/") and not each.startswith("node/logs/")} <= {
        "node/network/ports.json"
    }


async def test_two_nodes_cannot_work_on_one_folder(tmp_path: pathlib.Path, server: ObjectServer) -> None:
    server.store.apply(POD_THAT_RUNS)
    try:
        async with process(tmp_path, server):
            await server.until(lambda: container(server))
            async with process(tmp_path, server) as second:
                assert await second.wait() == node.FAILED
        assert "another node works on" in (tmp_path / "node.log").read_text()
    finally:
        ending = await asyncio.create_subprocess_exec(*command(tmp_path), "--down")
        await ending.wait()


def test_the_command_line_becomes_settings() -> None:
    given = "--state s --kubeconfig k --socket n.sock --gateway-ports 80:9080,8443:9443 --images a --images b"
    settings = node.settings_from(given.split())
    assert settings.state == pathlib.Path("s").absolute()
    assert settings.preferred_ports == {80: 9080, 8443: 9443}
    assert settings.images == (pathlib.Path("a"), pathlib.Path("b"))
    assert node.settings_from(["--state", "s", "--down"]).down


@pytest.mark.parametrize("wrong", ["80", "80:x", "80:99999", "http:80"])
def test_ports_that_are_none_are_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        node.settings_from(["--state", "s", "--kubeconfig", "k", "--socket", "n", "--gateway-ports", wrong])
    assert wrong in capsys.readouterr().err


def test_image_maps_are_read_and_a_broken_one_is_told(tmp_path: pathlib.Path) -> None:
    mine = tmp_path / "images.yaml"
    mine.write_text('images: {"my/app": {command: [run]}}')
    images = node.images_of([mine])
    for image in ("ostria/proxy:1", "ostria/pilot", "my/app", "docker.io/istio/examples-bookinfo-ratings-v1:1.20.3"):
        assert images.find(image) is not None, image
    assert images.paths[-1] == str(mine)
    mine.write_text("images: [")
    with pytest.raises(ValueError, match=r"images\.yaml"):
        node.images_of([mine])


def test_what_is_added_to_a_map_counts_at_once_and_what_breaks_it_does_not(tmp_path: pathlib.Path) -> None:
    mine = tmp_path / "images.yaml"
    mine.write_text("# nothing yet\n")
    maps = node.ImageMaps([mine])
    assert maps().find("my/app:1") is None
    mine.write_text('---\nimages:\n  "my/app": {command: [run]}\n---\nimages:\n  "my/other": {command: [walk]}\n')
    for image in ("my/app:1", "my/other"):
        assert maps().find(image) is not None, image
    mine.write_text("images: [")
    assert maps().find("my/app:1") is not None
