"""Two hundred documents that no mesh can take, by every way in, while ten thousand calls run."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest

from doubles import processes
from doubles.local_mesh import LocalMesh, local_mesh
from ostria import samples

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("live-bad-input"),
    pytest.mark.timeout(300),
]

HTTPBIN = pathlib.Path(samples.__file__).parent / "manifests" / "httpbin.yaml"
CALLS = 10_000
CALLERS = 12
GROWTH = 50 * 1024 * 1024
WAY_IN = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: way-in}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: ["*"]
  gateways: [way-in]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""
# Good documents, each with one line that is then made bad.
ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
      weight: 100
    timeout: 3s
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME}
spec:
  host: reviews
  subsets:
  - name: v1
    labels: {version: v1}
"""
PEERS = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: NAME}
spec:
  mtls: {mode: STRICT}
"""
PROGRAM = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - name: a
        image: curl
"""
SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec:
  selector: {app: a}
  ports:
  - {port: 80, name: http}
"""
# Document, its line, what becomes of it, and the field that the refusal must name.
MISTAKES = (
    (ROUTE, "      weight: 100", "      weight: ninety", "spec.http[0].route[0].weight"),
    (ROUTE, "      weight: 100", "      wieght: 100", "spec.http[0].route[0].wieght"),
    (ROUTE, "    timeout: 3s", "    timeuot: 3s", "spec.http[0].timeuot"),
    (ROUTE, "    timeout: 3s", "    timeout: {a: 3s}", "spec.http[0].timeout"),
    (ROUTE, "  hosts: [reviews]", "  hosts: reviews", "spec.hosts"),
    (ROUTE, "    - destination: {host: reviews}", "    - destination: [reviews]", "spec.http[0].route[0].destination"),
    (RULE, "    labels: {version: v1}", "    labels: [version]", "spec.subsets[0].labels"),
    (RULE, "    labels: {version: v1}", "    lables: {version: v1}", "spec.subsets[0].lables"),
    (RULE, "  host: reviews", "  host: {name: reviews}", "spec.host"),
    (PEERS, "  mtls: {mode: STRICT}", "  mtls: {mode: STRONG}", "spec.mtls.mode"),
    (PEERS, "  mtls: {mode: STRICT}", "  mtls: STRICT", "spec.mtls"),
    (PROGRAM, "  replicas: 1", "  replicas: many", "spec.replicas"),
    (PROGRAM, "  replicas: 1", "  replica: 1", "spec.replica"),
    (PROGRAM, "        image: curl", "        image: [curl]", "spec.template.spec.containers[0].image"),
    (PROGRAM, "        image: curl", "        imgae: curl", "spec.template.spec.containers[0].imgae"),
    (PROGRAM, "    metadata: {labels: {app: a}}", "    metadata: {labels: {b: a}}", "spec.template.metadata.labels"),
    (SERVICE, "  - {port: 80, name: http}", "  - {port: 99999, name: http}", "spec.ports[0].port"),
    (SERVICE, "  - {port: 80, name: http}", "  - {prot: 80, port: 80, name: http}", "spec.ports[0].prot"),
    (SERVICE, "metadata: {name: NAME}", "metadata: {name: A_B}", "metadata.name"),
)  # fmt: skip
HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\n"
BOMB = "  a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"  {chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)
# What is wrong with the text itself; the line at which it is.
TEXTS = (
    (HEAD + "data: {a: [b\n", 0),
    (HEAD + "data:\n\ta: b\n", 5),
    (HEAD + "data: {a: b, a: c}\n", 4),
    (HEAD + "data: *nothing\n", 4),
    (HEAD + "data: {? [a] : b}\n", 4),
    (HEAD + "data:\n" + BOMB, 0),
    (HEAD + "data: " + "{a: " * 200 + "1" + "}" * 200 + "\n", 4),
    (HEAD + "data: " + "[" * 100_000 + "]" * 100_000 + "\n", 4),
    (HEAD + "data:\n" + "".join(f"{'  ' * n}a:\n" for n in range(1, 300)), 0),
    (HEAD + "data: {a: " + "x" * 10_000_000 + "}\n", 0),
    (HEAD + "data:\n" + "".join(f"  k{n}: v\n" for n in range(900_000)), 0),
    (HEAD + "data: {a: \x00}\n", 0),
)


class Bad(NamedTuple):
    """A document, and what its refusal must name: a field or "", and a line (0: any)."""

    name: str
    text: str
    field: str
    line: int


def documents() -> list[Bad]:
    """Two hundred, the same in each run."""
    found: list[Bad] = []
    while len(found) < 200:
        number = len(found)
        name = f"bad-{number}"
        if number % 2:
            text, line = TEXTS[number // 2 % len(TEXTS)]
            found.append(Bad(name, text.replace("NAME", name), "", line))
        else:
            good, old, new, field = MISTAKES[number // 2 % len(MISTAKES)]
            assert f"{old}\n" in good
            line = good[: good.index(f"{old}\n")].count("\n") + 1
            found.append(Bad(name, good.replace(f"{old}\n", f"{new}\n").replace("NAME", name), field, line))
    return found


class Way:
    """The ways in, each of which fails with the refusals that it finds wanting."""

    def __init__(self, mesh: LocalMesh, folder: pathlib.Path, proxy: str) -> None:
        self._mesh = mesh
        self._folder = folder
        self._proxy = proxy
        self.wanting: list[str] = []

    def judge(self, bad: Bad, way: str, refused: bool, said: str, place: str) -> None:
        """Note what is missing in a refusal: the field, and where a text has lines the line."""
        if not refused or bad.field not in said or (place and not re.search(place, said)):
            self.wanting.append(f"{way} {bad.name} ({bad.field}, line {bad.line}): {said[:300]!r}\n{bad.text[:400]}")

    async def api(self, bad: Bad) -> None:
        kind = re.search(r"^kind: (\w+)$", bad.text, re.MULTILINE)
        assert kind
        group = {
            "VirtualService": "apis/networking.istio.io/v1",
            "DestinationRule": "apis/networking.istio.io/v1",
            "PeerAuthentication": "apis/security.istio.io/v1",
            "Deployment": "apis/apps/v1",
        }.get(kind[1], "api/v1")
        url = f"{self._proxy}/{group}/namespaces/default/{kind[1].lower()}s?fieldValidation=Strict"
        async with aiohttp.ClientSession() as session:
            headers = {"content-type": "application/yaml"}
            try:
                async with session.post(url, data=bad.text.encode(), headers=headers) as answer:
                    said, code = await answer.text(), answer.status
            except aiohttp.ClientConnectionError as error:
                # A body of ten megabytes is refused before all of it is sent, which may break the connection.
                said, code = str(error), 413 if len(bad.text) > 3 * 1024 * 1024 else 0
        self.judge(bad, "api", code in (400, 413, 422), said, "")

    async def kubectl(self, bad: Bad) -> None:
        if "a: b, a: c" in bad.text:
            # It takes the last of two equal keys itself, and the server never sees the other.
            return await self.api(bad)
        ran = await self._mesh.kubectl("apply", "-f", "-", stdin=bad.text, code=None)
        # It prints the message alone, in which Kubernetes names a mistyped field without indexes.
        if "Go struct field" in ran.errors:
            bad = bad._replace(field=re.sub(r"\[\d+\]", "", bad.field))
        self.judge(bad, "kubectl", ran.code != 0, ran.output + ran.errors, "")

    async def ostria(self, bad: Bad) -> None:
        file = self._mesh.home / f"{bad.name}.yaml"
        file.write_text(bad.text)
        ran = await self._mesh.ostria("apply", "-f", str(file), code=None)
        self.judge(bad, "ostria", ran.code != 0, ran.output + ran.errors, f"{bad.name}.yaml:{bad.line or '[0-9]+'}")

    async def folder(self, bad: Bad) -> None:
        file = self._folder / f"{bad.name}.yaml"
        file.write_text(bad.text)
        said = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                while f"{bad.name}.yaml:" not in said:
                    await asyncio.sleep(0.1)
                    said = self.log()
        told = "\n".join(line for line in said.splitlines() if bad.name in line)
        file.unlink()
        self.judge(bad, "folder", bool(told), told, f"{bad.name}.yaml:{bad.line or '[0-9]+'}")

    def log(self) -> str:
        """What the mesh's own processes have said."""
        return "".join(
            file.read_text(errors="replace") for file in (self._mesh.home / self._mesh.name / "logs").iterdir()
        )


@contextlib.asynccontextmanager
async def proxied(mesh: LocalMesh) -> AsyncIterator[str]:
    """The API on a port without TLS, by `kubectl proxy`."""
    process = await asyncio.create_subprocess_exec(
        "kubectl", "proxy", "--port=0", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=mesh.env
    )
    assert process.stdout
    try:
        line = (await process.stdout.readline()).decode()
        yield f"http://{line.rsplit(' ', 1)[1].strip()}"
    finally:
        process.kill()
        await process.wait()


async def resident(mesh: LocalMesh) -> int:
    """The memory of apiserver, node and istiod, in bytes."""
    pods = await mesh.names("pods", "istio-system")
    (istiod,) = (name for name in pods if name.startswith("istiod-"))
    pids = [
        *processes.of_mesh(mesh.home, "ostria.apps.apiserver"),
        *processes.of_mesh(mesh.home, "ostria.apps.node"),
        *processes.of_pod(istiod, "ostria.apps.istiod"),
    ]
    assert len(pids) == 3
    status = (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(re.findall(r"VmRSS:\s+(\d+) kB", each)[0]) * 1024 for each in status)


async def call(mesh: LocalMesh, left: list[None], failed: list[str]) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        while left:
            left.pop()
            try:
                async with session.get(f"{mesh.gateway}/get") as answer:
                    body = await answer.text()
                    if answer.status != 200:
                        failed.append(f"{answer.status} {body[:200]}")
            except (aiohttp.ClientError, TimeoutError) as error:
                failed.append(repr(error))


async def test_bad_documents_are_refused_at_their_place_and_harm_nobody() -> None:
    with tempfile.TemporaryDirectory(prefix="ostria-", dir="/tmp") as folder:
        async with local_mesh(folder) as mesh, proxied(mesh) as proxy:
            await mesh.kubectl("label", "namespace", "default", "istio-injection=enabled")
            await mesh.kubectl("apply", "-f", str(HTTPBIN))
            await mesh.enforce(WAY_IN, "VirtualService default/httpbin")
            await mesh.rolled_out("deploy/httpbin")
            async with asyncio.timeout(60):
                while (await mesh.page("/get"))[0] != 200:
                    await asyncio.sleep(0.05)
            way = Way(mesh, pathlib.Path(folder), proxy)
            # A process that has not refused anything yet has not imported what it refuses with.
            for bad in documents()[:4]:
                await way.api(bad)
            before = await resident(mesh)
            failed: list[str] = []
            left: list[None] = [None] * CALLS
            ways = (way.api, way.ostria, way.api, way.kubectl, way.api, way.folder, way.api)
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(call(mesh, left, failed))
                for number, bad in enumerate(documents()):
                    await ways[number % len(ways)](bad)
            grown = await resident(mesh) - before
            assert failed == []
            assert not way.wanting, "\n".join(way.wanting)
            assert grown < GROWTH
            assert not [name for name in await mesh.names("configmaps") if name.startswith("bad-")]
            assert (await mesh.page("/get"))[0] == 200
