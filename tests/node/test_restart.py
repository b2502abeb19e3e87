"""The node comes and goes, pods stay; and when it is taken down nothing is left, in whatever moment it was killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import pytest

from doubles.node_world import World, condition_of, container_of, running_node
from ostria.node import kubelet
from ostria.node.ground import Settings
from ostria.node.userns import NodeNamespaces

SLEEPER = """
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: x, command: [sh, -c, "n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done"]}
"""


async def start_time(node: object) -> str:
    code, text = await node.exec("a", "app", "cat", "/proc/1/stat")  # type: ignore[attr-defined]
    assert code == 0
    return str(text.split()[21])


async def test_pods_go_on_without_their_node_and_are_found_again(settings: Settings) -> None:
    world = World()
    world.put(SLEEPER.replace("NAME", "a"))
    async with running_node(settings, world, keep=True) as node:
        await world.until_ready("a")
        born = await start_time(node)
    world.statuses.clear()
    async with running_node(settings, world) as node:
        status = await world.until_ready("a")
        assert await start_time(node) == born
        assert container_of(status, "app")["restartCount"] == 0
        seen: list[int] = []
        async for piece in node.node.read_logs("default", "a", "app", follow=True):
            seen += map(int, piece.split())
            if len(seen) > 20:
                break
        assert seen == list(range(len(seen))), "no line is lost while no node looks"


async def test_what_ends_without_a_node_is_told_to_the_next(settings: Settings) -> None:
    world = World()
    world.put("""
metadata: {name: a}
spec:
  restartPolicy: Never
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: app
    image: x
    command: [sh, -c, "while ! test -e /v/go; do sleep 0.01; done; exit 7"]
    volumeMounts: [{name: v, mountPath: /v}]
""")
    async with running_node(settings, world, keep=True) as node:
        await world.until_ready("a")
        pid = next(iter(node.node._workers.values())).sandbox.pid  # type: ignore[union-attr]
    world.statuses.clear()
    (settings.pods / "uid-a" / "volumes" / "v" / "go").touch()
    await wait_for_children(pid, 0)
    async with running_node(settings, world):
        status = await world.until_phase("a", "Failed")
        assert container_of(status, "app")["state"]["terminated"]["exitCode"] == 7


async def test_a_pod_whose_object_has_gone_meanwhile_is_ended(settings: Settings) -> None:
    world = World()
    world.put(SLEEPER.replace("NAME", "a"))
    async with running_node(settings, world, keep=True):
        await world.until_ready("a")
    world.forget("a")
    async with running_node(settings, world):
        await world.until_removed("a")
        assert list(settings.pods.iterdir()) == []


async def test_a_node_whose_zygote_was_killed_begins_anew(settings: Settings) -> None:
    world = World()
    world.put(SLEEPER.replace("NAME", "a"))
    async with running_node(settings, world, keep=True) as node:
        await world.until_ready("a")
        node.namespaces.end()
        # Without a zygote no pod can be made: this node says so, and the next one has a zygote again.
        await world.until_status("a", lambda status: condition_of(status, "Ready") == "False")
    async with running_node(settings, world):
        status = await world.until_ready("a")
        assert container_of(status, "app")["restartCount"] >= 1


async def test_down_leaves_nothing_but_logs(settings: Settings) -> None:
    world = World()
    async with running_node(settings, world, keep=True):
        for name in "abc":
            world.put(SLEEPER.replace("NAME", name))
        for name in "abc":
            await world.until_ready(name)
        assert len(traces(settings)) >= 7, "a zygote, three pods, three programs"
    kubelet.down(settings)
    assert traces(settings) == []
    assert [path.name for path in settings.state.iterdir()] == ["logs"]


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3])
async def test_down_after_the_node_was_killed_while_it_started_ten_pods(settings: Settings, delay: float) -> None:
    script = textwrap.dedent(f"""
        import asyncio, pathlib, sys
        sys.path[:0] = {sys.path!r}
        from doubles.node_world import World, running_node, settings_of
        async def main():
            world = World()
            for number in range(10):
                world.put({SLEEPER!r}.replace("NAME", f"pod-{{number}}"))
            settings = settings_of(pathlib.Path({str(settings.state.parent)!r}), rootless={settings.rootless})
            async with running_node(settings, world, keep=True):
                print("running", flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        await asyncio.sleep(delay)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
        kubelet.down(settings)
    assert traces(settings) == []


def traces(settings: Settings) -> list[str]:
    """What there is of a node on this machine: processes that name its folder or see something of it, and mounts."""
    folder = str(settings.state)
    found = [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if folder in line]
    for process in pathlib.Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_text()
                if folder in (process / "mountinfo").read_text() or (folder in command and "zygote" in command):
                    found.append(f"{process.name} {command}")
    return found


async def wait_for_children(pid: int, count: int) -> None:
    async with asyncio.timeout(10):
        while len(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()) != count:
            await asyncio.sleep(0.005)


def test_namespaces_are_the_same_for_whoever_asks(settings: Settings) -> None:
    first = NodeNamespaces.open(settings.run, rootless=settings.rootless)
    try:
        second = NodeNamespaces.open(settings.run, rootless=settings.rootless)
        assert os.fstat(first.net_fd).st_ino == os.fstat(second.net_fd).st_ino
        assert os.fstat(first.net_fd).st_ino != os.stat("/proc/self/ns/net").st_ino
        second.close()
        os.kill(first.pid, signal.SIGHUP)
        NodeNamespaces.open(settings.run, rootless=settings.rootless).close()
    finally:
        first.end()
        first.close()
        assert list(settings.run.iterdir()) == []
