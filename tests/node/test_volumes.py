"""Volumes and variables: what stands in the files and the environment of real containers, and how files are renewed."""

from __future__ import annotations

import asyncio
import os
import pathlib

import pytest

from doubles.node_world import RunningNode, World, condition_of, container_of, running_node
from ostria.node.environment import Unresolved
from ostria.node.ground import Settings
from ostria.node.volumes import File, within, write_files

EVERYTHING = """
metadata:
  name: a
  labels: {app: a, version: v1}
  annotations: {note: "with \\"quotes\\""}
spec:
  serviceAccountName: robot
  volumes:
  - {name: empty, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: settings, configMap: {name: settings, items: [{key: a.conf, path: deep/a.conf, mode: 0400}]}}
  - {name: all-settings, configMap: {name: settings}}
  - {name: secret, secret: {secretName: keys, defaultMode: 0440}}
  - {name: absent, configMap: {name: absent, optional: true}}
  - name: downward
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: note, fieldRef: {fieldPath: "metadata.annotations['note']"}}
  - name: projected
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: istio-ca, expirationSeconds: 3600}
      - configMap: {name: settings, items: [{key: a.conf, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
  containers:
  - name: app
    image: x
    command: [sh, -c, 'echo "$0 $1"; exec sleep 1000', "$(GREETING)", "$$(GREETING)"]
    workingDir: /work/here
    resources: {requests: {cpu: 250m, memory: 64Mi}, limits: {memory: 128Mi}}
    ports: [{name: web, containerPort: 8080}]
    envFrom:
    - {configMapRef: {name: words}, prefix: W_}
    - {secretRef: {name: absent, optional: true}}
    env:
    - {name: WHO, value: world}
    - {name: GREETING, value: "hello $(WHO) $(NOBODY) $$(WHO)"}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: KEY, valueFrom: {secretKeyRef: {name: keys, key: key}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    volumeMounts:
    - {name: empty, mountPath: /work/here}
    - {name: memory, mountPath: /memory}
    - {name: settings, mountPath: /etc/app/conf}
    - {name: all-settings, mountPath: /usr/share/one.conf, subPath: a.conf}
    - {name: all-settings, mountPath: /all}
    - {name: secret, mountPath: /etc/keys}
    - {name: absent, mountPath: /absent}
    - {name: downward, mountPath: /etc/podinfo}
    - {name: projected, mountPath: /var/run/secrets/tokens}
"""


def fill(world: World) -> None:
    world.config_maps["default", "settings"] = {"a.conf": b"one", "b.conf": b"two"}
    world.config_maps["default", "words"] = {"X": b"x", "not-a-name!": b""}
    world.secrets["default", "keys"] = {"key": b"s3cret"}


async def test_every_kind_of_volume_and_variable(running: RunningNode) -> None:
    fill(running.world)
    running.world.put(EVERYTHING)
    await running.world.until_ready("a")

    async def sh(script: str) -> str:
        return (await running.exec("a", "app", "sh", "-c", script))[1].strip()

    async for line in running.node.read_logs("default", "a", "app", follow=True):
        assert line == b"hello world $(NOBODY) $(WHO) $(GREETING)\n"
        break
    assert await sh("pwd") == "/work/here"
    assert await sh("echo $POD $IP $KEY $CPU $MEMORY $W_X") == "a 127.0.0.1 s3cret 250 128 x"
    assert await sh("touch x; cd /memory && df -k . | tail -1 | tr -s ' ' | cut -d' ' -f2") == "1024"
    assert (
        await sh("cat /etc/app/conf/deep/a.conf /usr/share/one.conf; ls /all; ls /absent")
        == "oneone" + "a.conf\nb.conf"
    )
    assert await sh("cat /etc/keys/key; stat -L -c %a /etc/keys/key; stat -L -c %a /etc/app/conf/deep/a.conf") == (
        "s3cret440\n400"
    )
    assert await sh("cat /etc/podinfo/labels; echo; cat /etc/podinfo/note") == 'app="a"\nversion="v1"\nwith "quotes"'
    assert await sh("cat /var/run/secrets/tokens/token; echo; cat /var/run/secrets/tokens/namespace") == (
        "default/robot/istio-ca/a#1\ndefault"
    )
    assert "Read-only" in await sh("touch /etc/keys/x 2>&1")


async def test_files_follow_their_objects_all_at_once(running: RunningNode) -> None:
    fill(running.world)
    running.world.put(EVERYTHING)
    await running.world.until_ready("a")
    running.world.config_maps["default", "settings"] = {"a.conf": b"new", "c.conf": b"three"}
    running.node.objects_changed("default")

    async def listed() -> str:
        return (await running.exec("a", "app", "sh", "-c", "cat /all/a.conf; ls /all"))[1]

    async with asyncio.timeout(10):
        while await listed() != "newa.conf\nc.conf\n":
            await asyncio.sleep(0.01)


async def test_tokens_are_renewed_before_they_expire(settings: Settings) -> None:
    world = World()
    fill(world)
    world.token_seconds = 0.5
    world.put(EVERYTHING)
    async with running_node(settings, world) as node:
        await world.until_ready("a")
        async with asyncio.timeout(10):
            while (await node.exec("a", "app", "cat", "/var/run/secrets/tokens/token"))[1][-2:] != "#3":
                await asyncio.sleep(0.01)


async def test_a_pod_waits_for_what_it_names(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: volume}
spec:
  volumes: [{name: v, secret: {secretName: later}}]
  containers: [{name: app, image: x, command: [sleep, "1000"], volumeMounts: [{name: v, mountPath: /v}]}]
---
metadata: {name: variable}
spec:
  containers:
  - name: app
    image: x
    command: [sleep, "1000"]
    env: [{name: X, valueFrom: {secretKeyRef: {name: later, key: k}}}]
""")
    status = await running.world.until_status(
        "variable",
        lambda status: (
            container_of(status, "app")["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError"
        ),
    )
    assert 'secret "default/later"' in container_of(status, "app")["state"]["waiting"]["message"]
    await running.world.until(lambda: ("volume", "FailedMount", 'secret "later" not found') in running.world.events)
    running.world.secrets["default", "later"] = {"k": b"v"}
    await running.world.until_ready("variable")
    await running.world.until_ready("volume")


async def test_a_folder_of_the_machine_is_seen_only_if_allowed(settings: Settings, tmp_path: pathlib.Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "file").write_text("hi")
    world = World()
    for name, path in (("good", tmp_path / "shown"), ("bad", tmp_path)):
        world.put(f"""
metadata: {{name: {name}}}
spec:
  volumes: [{{name: v, hostPath: {{path: {path}}}}}]
  containers: [{{name: app, image: x, command: [sleep, "1000"], volumeMounts: [{{name: v, mountPath: /v}}]}}]
""")
    (tmp_path / "shared").mkdir(mode=0o777)
    world.put(f"""
metadata: {{name: shared}}
spec:
  volumes: [{{name: v, hostPath: {{path: {tmp_path}/shared}}}}]
  containers:
  - name: app
    image: x
    workingDir: {tmp_path}/shared
    command: [sh, -c, "echo hi > made; sleep 1000"]
    volumeMounts: [{{name: v, mountPath: {tmp_path}/shared}}]
    readinessProbe: {{exec: {{command: [test, -s, made]}}, periodSeconds: 1, failureThreshold: 1000}}
""")
    allowed = settings._replace(host_paths=(str(tmp_path / "shown"),), shared_paths=(str(tmp_path / "shared"),))
    async with running_node(allowed, world) as node:
        await world.until_ready("shared")
        assert (tmp_path / "shared" / "made").read_text() == "hi\n"
        await world.until_ready("good")
        assert await node.exec("good", "app", "cat", "/v/file") == (0, "hi")
        assert (await node.exec("good", "app", "touch", "/v/file"))[0] == 1
        await world.until(lambda: any(name == "bad" and reason == "FailedMount" for name, reason, _ in world.events))
        assert condition_of(world.statuses["bad"], "Ready") == "False"


async def test_ids_and_a_read_only_root_are_honoured(running: RunningNode) -> None:
    running.world.put("""
metadata: {name: a}
spec:
  securityContext: {runAsUser: 1234, runAsGroup: 2345, fsGroup: 2345, runAsNonRoot: true}
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: app
    image: x
    command: [sleep, "1000"]
    volumeMounts: [{name: v, mountPath: /v}]
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    resources: {limits: {cpu: "1"}}
---
metadata: {name: root}
spec:
  securityContext: {runAsNonRoot: true}
  containers: [{name: app, image: x, command: [sleep, "1000"]}]
""")
    await running.world.until_ready("a")

    async def sh(script: str) -> str:
        return (await running.exec("a", "app", "sh", "-c", script))[1].strip()

    assert await sh("id -u; id -g; touch /v/x && stat -c '%u %g' /v/x") == "1234\n2345\n1234 2345"
    assert "Read-only" in await sh("touch /x 2>&1; touch /tmp/x 2>&1")
    assert await sh("grep -E 'CapBnd|NoNewPrivs' /proc/self/status") == "CapBnd:\t0000000000000000\nNoNewPrivs:\t1"
    said = [message for name, reason, message in running.world.events if (name, reason) == ("a", "NotHonoured")]
    assert said == ["This node does not honour: resources.limits (no cgroups)"]
    await running.world.until_status(
        "root",
        lambda status: "runAsNonRoot" in container_of(status, "app")["state"].get("waiting", {}).get("message", ""),
    )


def test_a_volume_is_swung_to_its_new_files(tmp_path: pathlib.Path) -> None:
    assert write_files(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert not write_files(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)})
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["a", "d"]
    first = os.readlink(tmp_path / "..data")
    assert write_files(tmp_path, {"a": File(b"3", 0o644)})
    assert os.readlink(tmp_path / "..data") != first
    assert (tmp_path / "a").read_bytes() == b"3"
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith("..")] == ["a"]
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "link/x"])
def test_a_sub_path_does_not_lead_out_of_its_volume(tmp_path: pathlib.Path, path: str) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "volume" / "link").symlink_to(tmp_path)
    with pytest.raises(Unresolved):
        within(tmp_path / "volume", path)
