"""What an API server asks of a node on behalf of kubectl: logs, exec with and without a terminal, port-forward."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from doubles.node_world import RunningNode, World, running_node
from ostria.node import messages
from ostria.node.ground import Settings
from ostria.node.kubelet import NoSuchPod
from ostria.node.log_file import MAX_LINE, LogFile
from ostria.node.logs import parse_line, read_entries
from ostria.node.sandbox import LogLimits

TALKER = """
metadata: {name: a}
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: x
    command: [sh, -c, "echo one; echo two >&2; printf three; while ! test -e /tmp/go; do sleep 0.01; done; echo end"]
"""
SLEEPER = """
metadata: {name: a}
spec: {containers: [{name: app, image: x, command: [sleep, "1000"]}]}
"""


async def test_logs_are_followed_to_their_end(running: RunningNode) -> None:
    running.world.put(TALKER)
    await running.world.until_ready("a")
    said, told = b"", False
    async for piece in running.node.read_logs("default", "a", "app", follow=True):
        said += piece
        if not told and {b"one", b"two"} <= set(said.splitlines()):
            told = True
            await running.exec("a", "app", "touch", "/tmp/go")
    assert sorted(said.splitlines()) == [b"one", b"threeend", b"two"]
    assert await running.logs("a", "app", tail=1) == "threeend\n"
    stamped = await running.logs("a", "app", tail=1, timestamps=True)
    assert stamped.split()[0].endswith("Z")
    assert stamped.split()[1] == "threeend"
    assert await running.logs("a", "app", since=4e9) == ""
    with pytest.raises(NoSuchPod):
        await running.logs("a", "app", previous=True)
    with pytest.raises(NoSuchPod):
        await running.logs("a", "other")


async def test_logs_are_rotated_and_readers_follow(settings: Settings) -> None:
    world = World()
    world.put("""
metadata: {name: a}
spec:
  restartPolicy: Never
  containers: [{name: app, image: x, command: [sh, -c, "for n in $(seq 1 400); do echo line $n; sleep 0.001; done"]}]
""")
    async with running_node(settings._replace(log_limits=LogLimits(4096, 3)), world) as node:
        await world.until_phase("a", "Succeeded")
        files = sorted(path.name for path in (settings.logs / "default_a_uid-a" / "app").iterdir())
        assert files == ["0.log", "0.log.1", "0.log.2"]
        kept = (await node.logs("a", "app")).splitlines()
        assert kept == [f"line {number}" for number in range(401 - len(kept), 401)]


async def test_exec_gives_streams_and_exit_code(running: RunningNode) -> None:
    running.world.put(SLEEPER)
    await running.world.until_ready("a")
    reading, stdin = os.pipe()
    stdout, writing = os.pipe()
    started = running.node.exec("default", "a", "app", ["sh", "-c", "cat; exit 4"], (reading, writing, writing))
    os.close(reading)
    os.close(writing)
    os.write(stdin, b"through")
    os.close(stdin)
    assert await started.wait() == 4
    with open(stdout, "rb") as output:
        assert output.read() == b"through"
    code, said = await running.exec("a", "app", "no-such-program")
    assert (code, said) == (127, "")


async def test_exec_on_a_terminal(running: RunningNode) -> None:
    running.world.put(SLEEPER)
    await running.world.until_ready("a")
    script = "read x; stty size; echo got $x; test -t 0 && tty"
    started = running.node.exec("default", "a", "app", ["sh", "-c", script])
    assert started.terminal is not None
    started.resize(33, 44)
    os.write(started.terminal, b"hello\n")
    assert await started.wait() == 0
    said = b""
    os.set_blocking(started.terminal, False)
    try:
        while data := os.read(started.terminal, 4096):
            said += data
    except OSError:
        pass
    started.close()
    assert said.replace(b"\r\n", b"\n") == b"hello\n33 44\ngot hello\n/dev/pts/0\n"


async def test_an_exec_that_nobody_waits_for_is_killed(running: RunningNode) -> None:
    running.world.put(SLEEPER)
    await running.world.until_ready("a")
    nothing = os.open(os.devnull, os.O_RDWR)
    started = running.node.exec("default", "a", "app", ["sleep", "1001"], (nothing, nothing, nothing))
    os.close(nothing)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await started.wait()
    async with asyncio.timeout(10):
        while "1001" in (await running.exec("a", "app", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))[1]:
            await asyncio.sleep(0.01)


async def test_port_forward_reaches_the_pods_own_loopback(running: RunningNode) -> None:
    echo = (
        "import socket; s = socket.create_server(('127.0.0.1', 7)); print('up', flush=True)\n"
        "while True: c = s.accept()[0]; c.sendall(c.recv(99)); c.close()"
    )
    document = {
        "metadata": {"name": "a", "namespace": "default", "uid": "uid-a"},
        "spec": {"containers": [{"name": "app", "image": "x", "command": [sys.executable, "-c", echo]}]},
    }
    running.world.put(yaml.safe_dump(document))
    await running.world.until_ready("a")
    async with asyncio.timeout(10):
        while not await running.logs("a", "app"):
            await asyncio.sleep(0.01)
    reader, writer = await running.node.port_forward("default", "a", 7)
    writer.write(b"hi")
    assert await reader.read() == b"hi"
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await running.node.port_forward("default", "a", 8)


async def test_exec_into_what_does_not_run_is_refused(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  restartPolicy: Never
  containers: [{name: app, image: x, command: ["true"]}, {name: b, image: x, command: [sleep, "1000"]}]
""")
    await running.world.until_status("a", lambda status: "terminated" in status["containerStatuses"][0]["state"])
    with pytest.raises(messages.Refused, match="does not run"):
        await running.exec("a", "app", "true")


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=3 * MAX_LINE)), max_size=8))
def test_what_is_fed_is_read_whatever_its_pieces(
    tmp_path_factory: pytest.TempPathFactory, fed: list[tuple[str, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("log") / "0.log"
    log = LogFile(str(path), 1 << 30, 3)
    for stream, data in fed:
        log.feed(stream, data)
    log.close()
    for stream in ("stdout", "stderr"):
        said = b"".join(data for name, data in fed if name == stream)
        read = b"".join(entry.render(timestamps=False) for entry in read_entries(path) if entry.stream == stream)
        assert read == (said if said.endswith(b"\n") or not said else said + b"\n")


@pytest.mark.parametrize("line", [b"", b"x", b"2026 stdout F", b"2026 other F x"])
def test_a_damaged_line_is_no_line(line: bytes) -> None:
    assert parse_line(line) is None


async def test_a_chatty_program_does_not_stop_its_pod(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: x, command: ["yes"]}]
""")
    await running.world.until_ready("a")
    assert await running.exec("a", "app", "echo", "hi") == (0, "hi\n")
    running.world.delete("a")
    await running.world.until_removed("a")
