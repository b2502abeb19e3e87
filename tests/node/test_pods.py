"""Pods as people write them, run as namespaces: what they see, how they start and end, what their status says."""

from __future__ import annotations

import os
import pathlib
import sys

from doubles.node_world import RunningNode, condition_of, container_of

SLEEPER = """
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: x, command: [sleep, "1000"]}
"""


def sleeper(name: str) -> str:
    return SLEEPER.replace("NAME", name)


async def test_a_pod_runs_and_says_so(running: RunningNode) -> None:
    running.world.put(sleeper("a"))
    status = await running.world.until_ready("a")
    assert status["phase"] == "Running"
    assert status["podIP"] == "127.0.0.1"
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }
    app = container_of(status, "app")
    assert (app["ready"], app["started"], app["restartCount"]) == (True, True, 0)
    assert app["state"]["running"]["startedAt"].endswith("Z")


async def test_a_pod_sees_its_own_machine(running: RunningNode) -> None:
    running.world.put(sleeper("a"))
    await running.world.until_ready("a")

    async def sh(script: str) -> str:
        return (await running.exec("a", "app", "sh", "-c", script))[1].strip()

    assert await sh("hostname; cat /etc/hostname") == "a\na"
    assert "127.0.0.1\ta" in await sh("cat /etc/hosts")
    assert "search default.svc.cluster.local" in await sh("cat /etc/resolv.conf")
    # Of the places that people own a pod sees at most the way to the programs that it runs.
    way = {*pathlib.Path(sys.prefix).parts, *pathlib.Path(sys.base_prefix).parts}
    assert set((await sh("ls /home /root")).split()) - way == {"/home:", "/root:"}
    assert await sh("cat /proc/1/comm") == "sleep"
    assert "Read-only file system" in await sh("touch /usr/x 2>&1")
    assert set((await sh("touch /tmp/x && ls /tmp")).split()) - way == {"x"}
    assert await sh("test -c /dev/null && echo hi > /dev/null && ls /dev/shm") == ""


async def test_programs_may_use_low_ports_but_not_mark_packets(running: RunningNode) -> None:
    running.world.put(sleeper("a"))
    await running.world.until_ready("a")
    script = "import socket; s = socket.socket(); s.bind(('', 80)); print('bound'); s.setsockopt(1, 36, 1337)"
    code, said = await running.exec("a", "app", sys.executable, "-c", script)
    assert code == 1
    assert "bound\n" in said
    assert "PermissionError" in said


async def test_exits_are_told_and_restarts_back_off(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  containers:
  - {name: app, image: x, command: [sh, -c, "echo last words > /dev/termination-log; echo said; exit 3"]}
""")
    status = await running.world.until_status(
        "a",
        lambda status: (
            container_of(status, "app")["restartCount"] >= 2
            and container_of(status, "app")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        ),
    )
    ended = container_of(status, "app")["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (3, "Error", "last words\n")
    assert status["phase"] == "Running"
    assert await running.logs("a", "app", previous=True) == "said\n"


async def test_a_pod_that_is_not_restarted_completes(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: good}
spec: {restartPolicy: Never, containers: [{name: app, image: x, command: ["true"]}]}
---
metadata: {name: bad}
spec: {restartPolicy: Never, containers: [{name: app, image: x, command: [sh, -c, "kill -9 $$"]}]}
---
metadata: {name: missing}
spec: {restartPolicy: Never, containers: [{name: app, image: x, command: [no-such-program]}]}
""")
    good = await running.world.until_phase("good", "Succeeded")
    assert container_of(good, "app")["state"]["terminated"]["reason"] == "Completed"
    assert condition_of(good, "Ready") == "False"
    await running.world.until_phase("bad", "Failed")
    missing = await running.world.until_phase("missing", "Failed")
    ended = container_of(missing, "app")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (127, "StartError")
    assert "no-such-program" in ended["message"]


async def test_init_containers_run_in_order_and_sidecars_stay(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  restartPolicy: Never
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - {name: one, image: x, command: [sh, -c, "echo one >> /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
  - name: side
    image: x
    restartPolicy: Always
    command: [sh, -c, "trap 'exit 0' TERM; echo side >> /v/order; while :; do sleep 0.01; done"]
    volumeMounts: [{name: v, mountPath: /v}]
    startupProbe: {exec: {command: [grep, side, /v/order]}, periodSeconds: 1}
  - {name: two, image: x, command: [sh, -c, "echo two >> /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
  containers:
  - {name: app, image: x, command: [sh, -c, "cat /v/order"], volumeMounts: [{name: v, mountPath: /v}]}
""")
    status = await running.world.until_phase("a", "Succeeded")
    assert await running.logs("a", "app") == "one\nside\ntwo\n"
    assert container_of(status, "side")["state"]["terminated"]["exitCode"] == 0


async def test_the_end_is_asked_for_then_made(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: gentle}
spec:
  containers:
  - name: app
    image: x
    command: [sh, -c, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done"]
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo stopping > /proc/1/fd/1"]}}}
---
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: app, image: x, command: [sh, -c, "trap '' TERM; while :; do sleep 0.01; done"]}
""")
    for name in ("gentle", "stubborn"):
        await running.world.until_ready(name)
        running.world.delete(name)
        await running.world.until_removed(name)
    assert container_of(running.world.history["gentle"][-1], "app")["state"]["terminated"]["exitCode"] == 0
    assert container_of(running.world.history["stubborn"][-1], "app")["state"]["terminated"]["exitCode"] == 137
    assert list(running.settings.pods.iterdir()) == []
    assert running.network.attached == set()


async def test_a_sidecar_has_drained_the_application_before_that_is_told_to_end(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  volumes: [{name: v, emptyDir: {}}]
  initContainers:
  - name: side
    image: x
    restartPolicy: Always
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.01; done"]
    volumeMounts: [{name: v, mountPath: /v}]
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo once >> /v/drained"]}}}
  containers:
  - name: app
    image: x
    command: [sh, -c, "trap 'exit $((7 + $(grep -c once /v/drained)))' TERM; while :; do sleep 0.01; done"]
    volumeMounts: [{name: v, mountPath: /v}]
""")
    await running.world.until_ready("a")
    running.world.delete("a")
    await running.world.until_removed("a")
    last = running.world.history["a"][-1]
    assert container_of(last, "app")["state"]["terminated"]["exitCode"] == 8
    assert container_of(last, "side")["state"]["terminated"]["exitCode"] == 0


async def test_an_image_without_a_command_says_what_to_write(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec: {containers: [{name: app, image: "docker.io/x/reviews:v1"}]}
""")
    status = await running.world.until_status(
        "a", lambda status: container_of(status, "app")["state"].get("waiting", {}).get("reason") == "ImageNotMapped"
    )
    assert '"docker.io/x/reviews":' in container_of(status, "app")["state"]["waiting"]["message"]
    assert status["phase"] == "Pending"


async def test_a_sandbox_that_dies_is_made_anew(running: RunningNode) -> None:
    running.world.put(sleeper("a"))
    await running.world.until_ready("a")
    before = (await running.exec("a", "app", "cat", "/proc/1/stat"))[1].split()[21]
    worker = next(iter(running.node._workers.values()))
    pid = worker.sandbox.pid if worker.sandbox else 0
    os.kill(pid, 9)
    status = await running.world.until_status(
        "a", lambda status: container_of(status, "app")["restartCount"] == 1 and condition_of(status, "Ready") == "True"
    )
    assert container_of(status, "app")["lastState"]["terminated"]["exitCode"] == 137
    assert (await running.exec("a", "app", "cat", "/proc/1/stat"))[1].split()[21] != before


ESCAPES = {
    "remounts a read-only bind": "unshare -Urm mount -o remount,rw /usr",
    "takes a bind away": "unshare -Urm umount /usr",
    "writes what counts for the machine": "echo x > /proc/sys/kernel/core_pattern",
    "makes a device": "mknod /tmp/disk b 254 0",
    "joins its pod's first process": "nsenter -t 1 -n true && test $(cat /proc/1/comm) != sleep",
    "reads the machine's secrets": "grep -q . /etc/shadow",
    "brings its own network down": "ip link set lo down",
}


async def test_a_program_that_is_root_inside_does_not_get_out(running: RunningNode) -> None:
    running.world.put(sleeper("a"))
    await running.world.until_ready("a")
    assert (await running.exec("a", "app", "id", "-u"))[1] == "0\n"
    before = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
    for what, script in ESCAPES.items():
        code, said = await running.exec("a", "app", "sh", "-c", script)
        assert code != 0, f"it {what}: {said}"
    assert pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == before


async def test_a_program_with_net_admin_marks_its_packets(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  containers:
  - {name: app, image: x, command: [sleep, "1000"], securityContext: {capabilities: {add: [NET_ADMIN]}}}
""")
    await running.world.until_ready("a")
    script = "import socket; s = socket.socket(); s.setsockopt(1, 36, 1337); print(s.getsockopt(1, 36))"
    assert await running.exec("a", "app", sys.executable, "-c", script) == (0, "1337\n")
    assert (await running.exec("a", "app", "mknod", "/tmp/disk", "b", "254", "0"))[0] != 0
