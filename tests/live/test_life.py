"""A mesh from nothing to nothing, by the commands that a person types; two at once, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import pathlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from doubles import host_tables, processes
from doubles.local_mesh import LocalMesh, Ran

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
]
life = pytest.mark.xdist_group("live-life")

BOUND = 120.0
SOMEWHERE_ELSE = """
apiVersion: v1
kind: Config
current-context: production
contexts: [{name: production, context: {cluster: production, user: me}}]
clusters: [{name: production, cluster: {server: "http://127.0.0.1:%d"}}]
users: [{name: me, user: {token: t}}]
"""
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: web%s}, annotations: {%s}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: "%s"%s}]}
"""
SLEEP = ', command: ["/bin/sleep", "infinity"]'


@contextlib.asynccontextmanager
async def terminal(home: pathlib.Path, name: str) -> AsyncIterator[LocalMesh]:
    """The commands of a person who has nothing yet; the mesh, if there is one, is removed with the block."""
    mesh = LocalMesh(home, name)
    # Nobody has set these before there is a mesh.
    for variable in ("KUBECONFIG", "OSTRIA_MESH"):
        del mesh.env[variable]
    try:
        yield mesh
    finally:
        if (home / name).exists():
            await mesh.ostria("down", "--mesh", name, "--purge", "-y", code=None)


@contextlib.contextmanager
def another_cluster(home: pathlib.Path) -> Iterator[tuple[pathlib.Path, socket.socket]]:
    """A kubeconfig of the person's own, whose current context is somebody else's cluster; and that cluster's socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        file = home / ".kube" / "config"
        file.parent.mkdir()
        file.write_text(SOMEWHERE_ELSE % server.getsockname()[1])
        yield file, server


def nobody_came(server: socket.socket) -> bool:
    try:
        server.accept()
    except BlockingIOError:
        return True
    return False


def two_free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def files(home: pathlib.Path) -> frozenset[str]:
    """Every file below a home; kubectl's cache is kubectl's."""
    return frozenset(each for each in host_tables.files(home) if not each.startswith(f"{home}/.kube"))


def digests(folder: pathlib.Path) -> dict[str, str]:
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


async def until_stars(mesh: LocalMesh) -> None:
    async with asyncio.timeout(BOUND):
        while "★" not in (await mesh.page())[1]:
            await asyncio.sleep(0.05)


async def uids(mesh: LocalMesh) -> set[str]:
    found = await mesh.kubectl("get", "deploy,svc,vs,dr,gw", "-n", "default", "-o", "json")
    return {each["metadata"]["uid"] for each in json.loads(found.output)["items"]}


@life
async def test_a_demo_from_nothing_that_is_ended_comes_back_and_is_removed(home: pathlib.Path):
    before, network = files(home), host_tables.network()
    async with terminal(home, "default") as mesh:
        http, https = two_free_ports()
        ports = ("--gateway-port", str(http), "--gateway-tls-port", str(https))
        ran = await mesh.ostria("demo", *ports, bound=BOUND)
        # Data is on stdout: the page's address, and nothing else.
        assert ran.output == f"http://127.0.0.1:{http}/productpage\n"
        assert "ostria down" in ran.errors
        mesh.gateway = f"http://127.0.0.1:{http}"
        await until_stars(mesh)
        held = host_tables.belongings(home)
        assert len(held.processes) > 20
        assert held.namespaces
        assert host_tables.network() == network

        # Again: it says so, and what comes too late.
        again = await mesh.ostria("up", "--profile", "minimal", "--allow-host")
        assert again.errors.splitlines() == [
            "Mesh default runs already.",
            "Warning: --profile: not applied; a mesh that runs is changed with `ostria install`",
            "Warning: --allow-host: not applied; it takes `ostria down` and `ostria up` again",
        ]
        assert "Warning" not in (await mesh.ostria("demo", bound=BOUND)).errors

        mesh.env["KUBECONFIG"] = str(home / "default" / "kubeconfig")
        objects, keys, record = await uids(mesh), digests(home / "default" / "apiserver" / "pki"), (await roots(mesh))
        ports_before = json.loads((home / "default" / "mesh.json").read_text())["ports"]
        ran = await mesh.ostria("down")
        assert str(home / "default") in ran.errors
        assert held.left(home) == {}
        assert (await mesh.page())[0] == 0

        await mesh.ostria("up", "-d", bound=BOUND)
        await until_stars(mesh)
        assert json.loads((home / "default" / "mesh.json").read_text())["ports"] == ports_before
        assert digests(home / "default" / "apiserver" / "pki") == keys
        assert await roots(mesh) == record
        assert await uids(mesh) == objects

        held = host_tables.belongings(home)
        ran = await mesh.ostria("down", "--purge", "-y")
        assert "nothing of it is left" in ran.errors
        assert held.left(home) == {}
    assert files(home) == before
    assert host_tables.network() == network


async def roots(mesh: LocalMesh) -> str:
    """The roots that workloads trust."""
    found = await mesh.get("configmap", "istio-ca-root-cert")
    return str(found["data"]["root-cert.pem"])


@pytest.mark.xdist_group("live-two-meshes")
async def test_two_meshes_side_by_side(home: pathlib.Path):
    """Both want the same ports: one moves, and says so. Each is a mesh of its own, and no other cluster is asked."""
    http, https = two_free_ports()
    ports = ("--gateway-port", str(http), "--gateway-tls-port", str(https))
    with another_cluster(home) as (kubeconfig, elsewhere):
        mine = kubeconfig.read_bytes()
        async with terminal(home, "one") as one, terminal(home, "two") as two:
            first, second = await asyncio.gather(
                one.ostria("up", "-d", "--mesh", "one", *ports, bound=BOUND),
                two.ostria(*("up", "-d", "--mesh", "two", "--revision", "prod", "--allow-host"), *ports, bound=BOUND),
            )
            said = first.errors + second.errors
            assert said.count(f"port {http} is taken: the gateway is on ") == 1
            assert said.count(f"port {https} is taken: the gateway is on ") == 1
            moved = json.loads((home / "one" / "mesh.json").read_text())["ports"]["gateway"] != http
            assert (f"port {http} is taken" in first.errors) == moved

            # With two that run, and a context of another cluster, no verb that changes something guesses.
            guess = await one.ostria("apply", "-f", "-", stdin=PODS % ("x", "", "", "curl", SLEEP), code=69)
            assert "which mesh? 2 run on this machine" in guess.errors

            for mesh in (one, two):
                mesh.env |= {"OSTRIA_MESH": mesh.name, "KUBECONFIG": str(home / mesh.name / "kubeconfig")}
            await one.kubectl("label", "namespace", "default", "istio-injection=enabled")
            await two.kubectl("label", "namespace", "default", "istio.io/rev=prod")
            await asyncio.gather(nodeports(one, two), sidecars(two))
            # A revision's injector knows its own label only.
            assert await containers(one, "plain") == ["istio-proxy", "web"]
            await the_host_is_reached(two)
            await an_image_is_mapped(two)
            assert kubeconfig.read_bytes() == mine
            assert nobody_came(elsewhere)


async def containers(mesh: LocalMesh, name: str) -> list[str]:
    """The names of a pod's containers that go on."""
    spec = (await mesh.get("pod", name))["spec"]
    resident = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    return sorted(each["name"] for each in (*spec["containers"], *resident))


async def nodeports(one: LocalMesh, two: LocalMesh) -> None:
    """The same NodePort in both: each answers with its own pods, one of them elsewhere, which is said."""
    manifest = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8000, nodePort: 30791}]}
"""
    served = ', command: ["python3", "-m", "http.server", "8000"]'
    words = ""
    for mesh in (one, two):
        await mesh.apply(manifest + "---" + PODS % ("plain", "", "", "curl", served))
    async with asyncio.timeout(BOUND):
        while not words:
            events = [json.loads((await mesh.kubectl("get", "events", "-o", "json")).output) for mesh in (one, two)]
            said = [
                event["message"] for each in events for event in each["items"] if event["reason"] == "HostPortTaken"
            ]
            words = next((each for each in said if "30791 is taken" in each), "")
    moved = int(words.split("127.0.0.1:")[1].split()[0])
    for port in (30791, moved):
        async with asyncio.timeout(BOUND):
            while (await one.run("curl", "-sf", "-m", "5", f"http://127.0.0.1:{port}/", code=None)).code:
                await asyncio.sleep(0.05)


async def sidecars(mesh: LocalMesh) -> None:
    """Under `istio.io/rev=prod` pods get a sidecar, unless their label or annotation says no."""
    cases = {
        "asks": (", sidecar.istio.io/inject: 'true'", "", ["istio-proxy", "web"]),
        "declines": (", sidecar.istio.io/inject: 'false'", "", ["web"]),
        "declines-too": ("", "sidecar.istio.io/inject: 'false'", ["web"]),
    }
    await mesh.apply("---".join(PODS % (name, label, note, "curl", SLEEP) for name, (label, note, _) in cases.items()))
    for name, (_, _, expected) in cases.items():
        assert await containers(mesh, name) == expected, name
    await mesh.kubectl("wait", "--for=condition=Ready", "pod", *cases, f"--timeout={BOUND:.0f}s", bound=BOUND)


async def the_host_is_reached(mesh: LocalMesh) -> None:
    """With --allow-host, a pod with a sidecar and one without call what listens on this machine's loopback."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhere\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://host.ostria.internal:{server.sockets[0].getsockname()[1]}/"
        for pod in ("asks", "declines"):
            ran = await mesh.exec(pod, "curl", "-sS", "-m", "10", url, container="web")
            assert ran.output == "here\n", (pod, ran)
        # On a machine that has no curl, pods find a small one after all that the machine has.
        ran = await mesh.exec("asks", "sh", "-c", f"PATH=${{PATH#*:/bin:}}; exec curl -sS {url}", container="web")
        assert ran.output == "here\n", ran


async def an_image_is_mapped(mesh: LocalMesh) -> None:
    """A pod waits for an image that nothing stands for, with the lines to add; it runs once they are added."""
    await mesh.apply(PODS % ("unknown", "", "", "docker.io/me/thing:1.2", ""))
    words = ""
    async with asyncio.timeout(BOUND):
        while not words:
            states = (await mesh.get("pod", "unknown"))["status"].get("containerStatuses", ())
            waiting = [each["state"]["waiting"] for each in states if "waiting" in each["state"]]
            words = next((each["message"] for each in waiting if each["reason"] == "ImageNotMapped"), "")
    assert "ImageNotMapped" in (await mesh.ostria("status", code=79)).output
    place, lines = words.split("add to ")[1].split(":\n", 1)
    with open(place, "a") as file:
        file.write(lines.replace('["PROGRAM", "ARGUMENT"]', '["/bin/sleep", "infinity"]'))
    await mesh.kubectl("wait", "--for=condition=Ready", "pod/unknown", f"--timeout={BOUND:.0f}s", bound=BOUND)


async def refused(mesh: LocalMesh, *arguments: str, code: int) -> Ran:
    """A start that is refused leaves nothing: no process, no file."""
    ran = await mesh.ostria("up", "-d", *arguments, code=code)
    assert files(mesh.home) == frozenset()
    assert host_tables.named(mesh.home) == []
    return ran


@life
async def test_strict_ports_that_are_taken_are_refused_and_leave_nothing(home: pathlib.Path):
    async with terminal(home, "default") as mesh:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            ran = await refused(mesh, "--strict-ports", "--gateway-port", str(port), code=69)
        assert str(port) in ran.errors
        assert "  try: " in ran.errors


@life
async def test_what_is_asked_for_wrongly_is_told_before_anything_starts(home: pathlib.Path):
    async with terminal(home, "default") as mesh:
        ran = await refused(mesh, "--profile", "dmo", code=65)
        assert "demo" in ran.errors
        ran = await refused(mesh, str(home / "absent"), code=65)
        assert str(home / "absent") in ran.errors


@life
async def test_a_mesh_that_cannot_be_installed_is_told_and_does_not_go_on(home: pathlib.Path):
    async with terminal(home, "default") as mesh:
        wrong = ("--profile", "minimal", "--set", "components.pilot.k8s.service.type=Bogus")
        ran = await mesh.ostria("up", "-d", *wrong, code=1, bound=BOUND)
        assert 'error: the mesh could not be installed: Service "istiod" is invalid: spec.type' in ran.errors
        assert host_tables.named(home) == []
        # What its processes have said can still be read.
        assert (home / "default" / "logs" / "apiserver.log").is_file()


@life
async def test_an_empty_mesh_has_an_api_and_nothing_else(home: pathlib.Path, tmp_path: pathlib.Path):
    async with terminal(home, "default") as mesh:
        await mesh.ostria("up", "-d", "--profile", "empty", bound=BOUND)
        held = host_tables.belongings(home)
        status = json.loads((await mesh.ostria("status", "-o", "json")).output)
        assert (status["pods"], status["problems"], status["troubles"]) == ([], [], [])
        await mesh.ostria("shell", "--", "kubectl", "create", "configmap", "mine")

        # A folder is followed, and left again with what it has brought; the mesh goes on.
        (tmp_path / "theirs.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs}}")
        assert "ConfigMap default/theirs: created" in (await mesh.ostria("up", str(tmp_path))).errors
        assert "does not follow it" in (await mesh.ostria("down", str(home), code=1)).errors
        left = (await mesh.ostria("down", str(tmp_path))).errors.splitlines()
        assert left == [
            "ConfigMap default/theirs: deleted, as theirs.yaml is not followed any more",
            f"Mesh default goes on without {tmp_path}.",
        ]
        maps = await mesh.ostria("shell", "--", "kubectl", "get", "configmaps", "-o", "name")
        assert ("configmap/mine" in maps.output, "theirs" in maps.output) == (True, False)
        async with asyncio.timeout(BOUND):
            while processes.of_mesh(home, "ostria.apps.follow"):
                await asyncio.sleep(0.05)
        await mesh.ostria("down", "--purge", "-y")
        assert held.left(home) == {}
    assert files(home) == frozenset()
