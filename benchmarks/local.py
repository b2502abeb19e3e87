"""A mesh on one machine: how soon it serves, how soon an edit is obeyed, and what its processes weigh."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pathlib
import re
import shutil
import socket
import ssl
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import msgspec

from benchmarks.report import Section, Spread
from doubles.certificates import Authority, Identity
from doubles.local_mesh import ROOT, LocalMesh
from ostria import samples
from ostria.sources.access import from_kubeconfig
from ostria.sources.api import Api, ApiError

UPS = 5
EDITS = 100
ROTATIONS = 100
PODS = 50
_PROBE_EVERY = 0.001
_BOUND = 180.0
_RULE_PATH = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/httpbin"
_SECRETS_PATH = f"/api/v1/namespaces/{ROOT}/secrets"

# The sample with a sidecar, behind the gateway.
_FOLDER = """
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: bench}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin}
spec:
  hosts: ["*"]
  gateways: [web]
  http: [{route: [{destination: {host: httpbin, port: {number: 8000}}}]}]
"""


class _Run(NamedTuple):
    """One mesh that serves its sample: seconds to the end of `ostria up`, and to the first 200 at the gateway."""

    mesh: LocalMesh
    port: int
    tls_port: int
    up: float
    first: float


@contextlib.asynccontextmanager
async def _cold() -> AsyncIterator[_Run]:
    """A mesh from nothing, with the sample in a folder that it follows."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="ostria-", dir="/tmp"))
    mesh = LocalMesh(home, "bench")
    folder = home / "manifests"
    folder.mkdir()
    (folder / "web.yaml").write_text(_FOLDER)
    sample = pathlib.Path(samples.__file__).parent / "manifests" / "httpbin.yaml"
    shutil.copy(sample, folder)
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as another:
        port, tls_port = free.getsockname()[1], another.getsockname()[1]
    ports = ("--gateway-port", str(port), "--gateway-tls-port", str(tls_port), "--profile", "default")
    try:
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            up = group.create_task(mesh.ostria("up", "-d", str(folder), *ports, bound=_BOUND))
            up_at = group.create_task(_when(up))
            first = group.create_task(asyncio.to_thread(_first, port))
        yield _Run(mesh, port, tls_port, up_at.result() - start, first.result() - start)
    finally:
        await mesh.ostria("down", "--purge", "-y", code=None, bound=_BOUND)
        shutil.rmtree(home, ignore_errors=True)


async def _when(task: asyncio.Task[object]) -> float:
    await task
    return time.monotonic()


def _first(port: int) -> float:
    """When the gateway first answered 200; it is asked every ten milliseconds."""
    until = time.monotonic() + _BOUND
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            if _ask(sock, "/status/200")[0] == 200:
                return time.monotonic()
        time.sleep(0.01)
    raise TimeoutError(f"no 200 at the gateway within {_BOUND} s")


def _ask(sock: socket.socket, path: str) -> tuple[int, str]:
    """One request on a connection: the status, and where it redirects to."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nhost: bench.example\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        got = sock.recv(65536)
        if not got:
            raise ConnectionResetError
        head += got
    text = head.decode("latin-1")
    where = re.search(r"^location: http://[^/\r]*(\S*)\r$", text, re.MULTILINE)
    return int(text[9:12]), where[1] if where else ""


async def _edits(run: _Run) -> list[float]:
    """Milliseconds from the API's answer to each edit, until the first request is made that obeys it."""
    delays = []
    with socket.create_connection(("127.0.0.1", run.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with Api(from_kubeconfig((run.mesh.home / "bench" / "kubeconfig",), {})) as api:
            for number in range(EDITS + 1):
                where = f"/edit-{number}"
                body = msgspec.json.encode({"spec": {"http": [{"redirect": {"uri": where}}]}})
                await api.send("PATCH", _RULE_PATH, body, content_type="application/merge-patch+json")
                delays.append(_obeyed(sock, where) * 1e3)
                await asyncio.sleep(0.05)
    # The first one makes the route a redirect at all, and opens the connection.
    return delays[1:]


def _obeyed(sock: socket.socket, where: str) -> float:
    """Seconds from now until the moment at which the first request was sent that was answered so."""
    start = due = time.monotonic()
    while True:
        sent = time.monotonic()
        if _ask(sock, "/")[1] == where:
            return sent - start
        if sent - start > _BOUND:
            raise TimeoutError(f"the gateway does not redirect to {where}")
        due += _PROBE_EVERY
        time.sleep(max(0.0, due - time.monotonic()))


async def _rotations(run: _Run) -> list[float]:
    """Milliseconds from the API's answer to each change of a gateway's Secret, until a handshake has shown it."""
    authority = Authority()
    pairs = [authority.issue("bench.example") for _ in range(2)]
    delays = []
    async with Api(from_kubeconfig((run.mesh.home / "bench" / "kubeconfig",), {})) as api:
        secret = {"metadata": {"name": "bench"}, "type": "kubernetes.io/tls", "data": _data(pairs[1])}
        await api.send("POST", _SECRETS_PATH, msgspec.json.encode(secret))
        await asyncio.to_thread(_shown, run.tls_port, pairs[1])
        for number in range(ROTATIONS):
            pair = pairs[number % 2]
            body = msgspec.json.encode({"data": _data(pair)})
            await api.send("PATCH", f"{_SECRETS_PATH}/bench", body, content_type="application/merge-patch+json")
            delays.append(_shown(run.tls_port, pair) * 1e3)
            await asyncio.sleep(0.05)
    return delays


def _data(pair: Identity) -> dict[str, str]:
    files = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def _shown(port: int, pair: Identity) -> float:
    """Seconds from now until the end of the first handshake in which the gateway showed this pair."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wanted = ssl.PEM_cert_to_DER_cert(pair.certificate.decode())
    start = time.monotonic()
    while time.monotonic() - start < _BOUND:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
            context.wrap_socket(raw, server_hostname="bench.example") as sock,
        ):
            if sock.getpeercert(binary_form=True) == wanted:
                return time.monotonic() - start
        time.sleep(_PROBE_EVERY)
    raise TimeoutError("the gateway does not show the new certificate")


async def _scale(run: _Run) -> None:
    """Until so many pods of the sample are ready."""
    async with Api(from_kubeconfig((run.mesh.home / "bench" / "kubeconfig",), {})) as api:
        path = "/apis/apps/v1/namespaces/default/deployments/httpbin"
        body = msgspec.json.encode({"spec": {"replicas": PODS}})
        await api.send("PATCH", path, body, content_type="application/merge-patch+json")
        async with asyncio.timeout(_BOUND):
            while True:
                with contextlib.suppress(ApiError):
                    status = msgspec.json.decode(await api.get(path)).get("status") or {}
                    if status.get("readyReplicas") == PODS:
                        break
                await asyncio.sleep(0.5)
    # What has come up last is told to everybody by now, and each sidecar has served something.
    await asyncio.sleep(3.0)
    await asyncio.to_thread(_exercise, run.port)
    await asyncio.sleep(2.0)


def _exercise(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for _ in range(PODS * 20):
            _ask(sock, "/status/200")


class _Process(NamedTuple):
    """A process of the mesh: its parent, its command line, its proportional set size in megabytes."""

    parent: int
    command: str
    pss: float


def _processes(home: pathlib.Path) -> dict[int, _Process]:
    """Every process of the mesh with this home, and their children, by number."""
    found: dict[int, _Process] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        # A process may end while we look; a zombie has no memory.
        with contextlib.suppress(OSError, AttributeError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = re.search(r"^PPid:\s+(\d+)", (entry / "status").read_text(), re.MULTILINE)
            pss = re.search(r"^Pss:\s+(\d+)", (entry / "smaps_rollup").read_text(), re.MULTILINE)
            found[int(entry.name)] = _Process(int(parent[1]), command, int(pss[1]) / 1024)  # type: ignore[index]

    def lineage(number: int) -> Iterator[str]:
        while number in found:
            yield found[number].command
            number = found[number].parent

    return {number: each for number, each in found.items() if any(str(home) in words for words in lineage(number))}


def _role(number: int, processes: dict[int, _Process]) -> str:
    """What a process is in the mesh, "" for what belongs to an application."""
    each = processes[number]
    if "zygote.run" in each.command:
        return "pods' init" if each.parent in processes else "root of the pods"
    if "agent.main" in each.command or "/envoy " in each.command:
        owner = each.command if "agent.main" in each.command else processes[each.parent].command
        kind = "sidecar" if "proxy sidecar" in owner else "gateway"
        return f"{kind}: {'agent' if owner is each.command else 'Envoy'}"
    module = re.search(r"-m ostria\.(?:apps|node\.network)\.(\w+)", each.command)
    return {"resident": "network"}.get(module[1], module[1]) if module else ""


def _memory(home: pathlib.Path) -> list[list[str]]:
    processes = _processes(home)
    by_role: defaultdict[str, list[float]] = defaultdict(list)
    for number, each in processes.items():
        by_role[_role(number, processes)].append(each.pss)
    ours = ("supervisor", "apiserver", "node", "network", "root of the pods", "follow", "istiod")
    rows = [[name, str(len(by_role[name])), f"{sum(by_role[name]):.1f}"] for name in ours]
    rows.append(["together (aim: 150)", "", f"{sum(sum(by_role[name]) for name in ours):.1f}"])
    agents, envoys = by_role["sidecar: agent"], by_role["sidecar: Envoy"]
    rows.append(["agent of a sidecar", str(len(agents)), str(Spread(agents))])
    rows.append(["Envoy of a sidecar", str(len(envoys)), str(Spread(envoys))])
    pairs = [processes[each.parent].pss + each.pss for each in processes.values()
             if "/envoy " in each.command and "proxy sidecar" in processes[each.parent].command]  # fmt: skip
    rows.append(["a sidecar container (aim: 24)", str(len(pairs)), str(Spread(pairs))])
    rows.append(["init of a pod", str(len(by_role["pods' init"])), str(Spread(by_role["pods' init"]))])
    return rows


async def _measure() -> tuple[list[_Run], list[float], list[float], list[list[str]]]:
    runs = []
    for _ in range(UPS - 1):
        async with _cold() as run:
            runs.append(run)
    async with _cold() as run:
        runs.append(run)
        rotated = await _rotations(run)
        delays = await _edits(run)
        back = {"spec": {"http": [{"route": [{"destination": {"host": "httpbin", "port": {"number": 8000}}}]}]}}
        async with Api(from_kubeconfig((run.mesh.home / "bench" / "kubeconfig",), {})) as api:
            body = msgspec.json.encode(back)
            await api.send("PATCH", _RULE_PATH, body, content_type="application/merge-patch+json")
        await _scale(run)
        return runs, delays, rotated, _memory(run.mesh.home)


def run() -> Section:
    """Meshes one after the other; the last of them is edited, and then grows."""
    runs, delays, rotated, memory = asyncio.run(_measure())
    spread, rotation = Spread(delays), Spread(rotated)
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    rows = [
        ["`ostria up -d FOLDER`", str(UPS), f"{Spread([run.up for run in runs])} s", "seconds"],
        ["cold `up` to the first 200 (aim: 5 s)", str(UPS), f"{Spread([run.first for run in runs])} s", "seconds"],
        ["an edit is obeyed, p50 (aim: 10 ms)", str(EDITS), f"{spread.median:.1f} ms", "ms"],
        ["an edit is obeyed, p99 (aim: 30 ms)", str(EDITS), f"{spread.at(0.99):.1f} ms", "ms"],
        ["a new certificate is shown, p50", str(ROTATIONS), f"{rotation.median:.1f} ms", "ms"],
        ["a new certificate is shown, p99 (aim: 100 ms)", str(ROTATIONS), f"{rotation.at(0.99):.1f} ms", "ms"],
        *([name, count, f"{value} MB", "MB"] for name, count, value in memory),
    ]
    method = (
        f"As {who}. Cold: no state, no process; profile default, and a folder with the sample httpbin, its Gateway and "
        "VirtualService, in a namespace whose pods get sidecars. The clock starts with the command `ostria up`; the "
        "gateway is asked every 10 ms from then on. Edits: the VirtualService is patched through the API; from the "
        "API's answer to the moment at which the first request is sent that obeys it, one a millisecond on one "
        "connection to the gateway. Certificates: the Secret that a server of the gateway names is patched through the "
        "API; from the API's answer to the end of the first handshake that shows the new pair. Memory: "
        f"proportional set size with {PODS} pods of httpbin with sidecars, each of which has served requests; one "
        f"istiod in {ROOT}. A sidecar container is its agent and its Envoy."
    )
    return Section("A mesh on one machine", method, ("what", "of", "median"), [row[:3] for row in rows])
