"""What goes on while parts of the mesh are killed, stopped and replaced: every request that proxies can serve."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from doubles import processes
from doubles.load import steady
from doubles.local_mesh import ROOT, LocalMesh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("live-disruption")]

RATE = 100.0
# One object of every kind that there is, in use: the page's own gateway and routes are the sample's.
EVERY_KIND = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v2}, weight: 50}
    - {destination: {host: reviews, subset: v3}, weight: 50}
    timeout: 10s
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin}
spec:
  host: httpbin
  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: elsewhere}
spec:
  hosts: [elsewhere.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
"""
KINDS = (
    "VirtualService default/reviews",
    "DestinationRule default/httpbin",
    "ServiceEntry default/elsewhere",
    "PeerAuthentication default/default",
)
# It calls through its sidecar for as long as it lives, and counts in its log: kubectl's own ways in are killed here.
CALLER = """
import http.client, time
made = failed = 0
while True:
    try:
        connection = http.client.HTTPConnection("reviews", 9080, timeout=10)
        connection.request("GET", "/reviews/0")
        answer = connection.getresponse()
        body = answer.read()
        why = "" if answer.status == 200 else f"{answer.status} {body[:200]}"
    except OSError as error:
        why = repr(error)
    made += 1
    if why:
        failed += 1
        print("failed:", why, flush=True)
    if made % 20 == 0:
        print("made", made, "failed", failed, flush=True)
    time.sleep(0.03)
"""
CALLER_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "caller", "labels": {"app": "caller"}},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "caller", "image": "curl", "command": [sys.executable, "-c", CALLER]}],
    },
}
COUNTERS = (
    r"^(cluster_manager\.cluster_(added|modified|removed)|cluster_manager\.cds\.(update_rejected|config_reload)"
    r"|listener_manager\.listener_(added|modified|removed|in_place_updated|create_success|create_failure)"
    r"|listener_manager\.lds\.update_rejected|http\..*\.rds\..*\.config_reload|http\..*\.rds\..*\.update_rejected)$"
)


class Caller:
    """A pod that calls reviews without an end."""

    def __init__(self, mesh: LocalMesh) -> None:
        self._mesh = mesh

    async def counted(self) -> tuple[int, int]:
        """How many calls were made, and how many of them failed."""
        ran = await self._mesh.kubectl("logs", "caller", "-c", "caller", code=None)
        counts = [line.split() for line in ran.output.splitlines() if line.startswith("made ")]
        return (int(counts[-1][1]), int(counts[-1][3])) if counts else (0, 0)

    async def failures(self) -> list[str]:
        ran = await self._mesh.kubectl("logs", "caller", "-c", "caller")
        return [line for line in ran.output.splitlines() if line.startswith("failed")]

    async def until(self, count: int) -> None:
        """Wait until so many more calls were made."""
        before, _ = await self.counted()
        async with asyncio.timeout(60):
            while (await self.counted())[0] < before + count:
                await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def busy(mesh: LocalMesh) -> AsyncIterator[Caller]:
    """The mesh with every kind in use, and a pod that calls."""
    await mesh.enforce(EVERY_KIND, *KINDS)
    await mesh.kubectl("apply", "-f", "-", stdin=json.dumps(CALLER_POD))
    try:
        await mesh.kubectl("wait", "pod/caller", "--for=condition=Ready", "--timeout=60s")
        caller = Caller(mesh)
        await caller.until(20)
        yield caller
    finally:
        await mesh.kubectl("delete", "pod", "caller", "--ignore-not-found")
        await mesh.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=EVERY_KIND)


async def pod_of(mesh: LocalMesh, app: str, namespace: str = "default") -> str:
    """The one pod with this label that runs and is not about to end."""
    ran = await mesh.kubectl("get", "pods", "-n", namespace, "-l", app, "-o", "json")
    (name,) = (
        each["metadata"]["name"]
        for each in json.loads(ran.output)["items"]
        if "deletionTimestamp" not in each["metadata"]
    )
    return str(name)


async def proxies(mesh: LocalMesh) -> list[tuple[str, str]]:
    """Namespace and name of every pod with a proxy."""
    ran = await mesh.kubectl("get", "pods", "-A", "-o", "json")
    return [
        (each["metadata"]["namespace"], each["metadata"]["name"])
        for each in json.loads(ran.output)["items"]
        if any(
            container["name"] == "istio-proxy"
            for container in (*each["spec"]["containers"], *each["spec"].get("initContainers", ()))
        )
    ]


async def stats(mesh: LocalMesh, namespace: str, pod: str, names: str) -> dict[str, int]:
    """An Envoy's counters whose names match."""
    url = f"http://127.0.0.1:15000/stats?format=json&filter={names}"
    ran = await mesh.exec(pod, "curl", "-sg", url, container="istio-proxy", namespace=namespace)
    assert ran.code == 0, ran
    return {each["name"]: each["value"] for each in json.loads(ran.output)["stats"] if "name" in each}


async def all_stats(mesh: LocalMesh, names: str) -> dict[str, dict[str, int]]:
    """The same of every Envoy in the mesh, by its pod's name."""
    found = await proxies(mesh)
    read = await asyncio.gather(*(stats(mesh, *each, names) for each in found))
    return {pod: counters for (_, pod), counters in zip(found, read, strict=True)}


async def connected(mesh: LocalMesh) -> None:
    """Wait until istiod serves every proxy, and each has taken all that it is owed."""
    wanted = {f"{pod}.{namespace}" for namespace, pod in await proxies(mesh)}
    async with asyncio.timeout(60):
        while True:
            rows = [line.split() for line in (await mesh.ostria("proxy-status", code=None)).output.splitlines()[1:]]
            if {row[0] for row in rows} == wanted and not any("STALE" in row for row in rows):
                return
            await asyncio.sleep(0.2)


async def kill(mesh: LocalMesh, name: str) -> None:
    """SIGKILL a process of the mesh, and return when another does its work."""
    if name == "istiod":
        pod = await pod_of(mesh, "app=istiod", ROOT)
        (pid,) = processes.of_pod(pod, "ostria.apps.istiod")
        await processes.kill(pid)
        async with asyncio.timeout(60):
            while not processes.of_pod(pod, "ostria.apps.istiod"):
                await asyncio.sleep(0.05)
        await mesh.rolled_out("deploy/istiod", namespace=ROOT)
    else:
        await processes.kill(*processes.of_mesh(mesh.home, f"ostria.apps.{name}"))
        async with asyncio.timeout(60):
            while not processes.of_mesh(mesh.home, f"ostria.apps.{name}"):
                await asyncio.sleep(0.05)
            # Commands reach a pod again: the API server answers, and the node does.
            while (await mesh.exec("caller", "true", container="caller")).code:
                await asyncio.sleep(0.1)


ONLY_V3 = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews, subset: v3}}]}]
"""


async def served(mesh: LocalMesh) -> dict[str, int]:
    """How many requests each sidecar of Bookinfo has passed on to its application, by Deployment."""
    counted: dict[str, int] = {}
    for deployment in ("productpage-v1", "details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3"):
        command = ("curl", "-s", "http://127.0.0.1:15000/clusters")
        ran = await mesh.exec(f"deploy/{deployment}", *command, container="istio-proxy")
        assert ran.code == 0, ran
        lines = [
            line for line in ran.output.splitlines() if line.startswith("inbound|9080|") and "::rq_total::" in line
        ]
        counted[deployment] = sum(int(line.rpartition("::")[2]) for line in lines)
    return counted


async def test_every_sidecar_counts_the_calls_that_were_made(mesh: LocalMesh) -> None:
    """The page calls details and reviews once each, and reviews v2 and v3 call ratings."""
    await mesh.enforce(ONLY_V3, "VirtualService default/reviews")
    try:
        before = await served(mesh)
        for _ in range(50):
            assert (await mesh.page())[0] == 200
        after = await served(mesh)
    finally:
        await mesh.withdraw("VirtualService", "reviews")
    risen = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert risen == dict.fromkeys(("productpage-v1", "details-v1", "reviews-v3", "ratings-v1"), 50)


@pytest.mark.parametrize("name", ["istiod", "node", "apiserver"])
async def test_a_killed_process_costs_no_request_and_its_successor_changes_no_envoy(
    mesh: LocalMesh, busy: Caller, name: str
) -> None:
    before = await all_stats(mesh, COUNTERS)
    assert len(before) >= 8
    async with steady(f"{mesh.gateway}/productpage", RATE, wanted="Reviewer1") as load:
        await load.until(200)
        await kill(mesh, name)
        await load.until(200)
        await connected(mesh)
        await load.until(200)
        await busy.until(40)
    assert load.failures() == []
    assert await busy.failures() == []
    assert await all_stats(mesh, COUNTERS) == before


# It ends as soon as it is told to, whatever it is doing, and has neither preStop nor probes nor a second replica.
PLAIN = """
import http.server, os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.5)
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"plain")
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
PLAIN_OBJECTS = f"""
apiVersion: v1
kind: Service
metadata: {{name: plain}}
spec:
  selector: {{app: plain}}
  ports: [{{port: 80, targetPort: 8000, name: http}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: plain}}
spec:
  selector: {{matchLabels: {{app: plain}}}}
  template:
    metadata:
      labels: {{app: plain}}
      annotations:
        readiness.status.sidecar.istio.io/periodSeconds: "1"
        readiness.status.sidecar.istio.io/failureThreshold: "2"
    spec:
      containers:
      - name: plain
        image: curl
        command: {json.dumps([sys.executable, "-c", PLAIN])}
        ports: [{{containerPort: 8000}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: plain}}
spec:
  hosts: ["*"]
  gateways: [bookinfo-gateway]
  http:
  - match: [{{uri: {{prefix: /plain}}}}]
    route: [{{destination: {{host: plain, port: {{number: 80}}}}}}]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plain(mesh: LocalMesh) -> AsyncIterator[None]:
    """A program of somebody's behind the gateway, at /plain."""
    await mesh.enforce(PLAIN_OBJECTS, "VirtualService default/plain")
    try:
        await mesh.rolled_out("deploy/plain")
        async with asyncio.timeout(30):
            while (await mesh.page("/plain"))[0] != 200:
                await asyncio.sleep(0.05)
        yield
    finally:
        await mesh.kubectl("delete", "-f", "-", stdin=PLAIN_OBJECTS)


@pytest.mark.parametrize("fresh", [False, True], ids=["kept-connections", "new-connections"])
@pytest.mark.parametrize(
    ("deployment", "namespace", "path", "wanted"),
    [
        ("reviews-v2", "default", "/productpage", "Reviewer1"),
        ("istio-ingressgateway", ROOT, "/api/v1/products", "Comedy of Errors"),
        ("plain", "default", "/plain", "plain"),
    ],
)
async def test_a_rollout_costs_no_request(
    mesh: LocalMesh, busy: Caller, plain: None, deployment: str, namespace: str, path: str, wanted: str, *, fresh: bool
) -> None:
    failed_before = len(await busy.failures())
    (old,) = [name for name in await mesh.names("pods", namespace) if name.startswith(f"{deployment}-")]
    async with steady(mesh.gateway + path, RATE, wanted=wanted, fresh=fresh) as load:
        await load.until(100)
        await mesh.kubectl("rollout", "restart", f"deploy/{deployment}", "-n", namespace)
        await mesh.rolled_out(f"deploy/{deployment}", namespace=namespace)
        await mesh.kubectl("wait", f"pod/{old}", "-n", namespace, "--for=delete", "--timeout=60s")
        await load.until(100)
    assert load.failures() == []
    assert (await busy.failures())[failed_before:] == []


async def ready(mesh: LocalMesh, pod: str) -> str:
    """What `kubectl get pods` shows under READY."""
    shown = (await mesh.kubectl("get", "pod", pod, "--no-headers")).output
    return shown.split()[1]


async def test_a_stopped_envoy_is_not_ready_and_an_envoy_that_goes_on_is(mesh: LocalMesh, plain: None) -> None:
    """Its sidecar is probed each second, and is not ready after two failures; Istio's own choice takes a minute."""
    pod = await pod_of(mesh, "app=plain")
    (envoy,) = processes.of_pod(pod, "--config-path")
    assert await ready(mesh, pod) == "2/2"
    os.kill(envoy, signal.SIGSTOP)
    try:
        async with asyncio.timeout(60):
            while await ready(mesh, pod) != "1/2":
                await asyncio.sleep(0.1)
    finally:
        os.kill(envoy, signal.SIGCONT)
    async with asyncio.timeout(60):
        while await ready(mesh, pod) != "2/2":
            await asyncio.sleep(0.1)


async def test_without_reviews_the_page_says_so_and_with_them_the_stars_return(mesh: LocalMesh, busy: Caller) -> None:
    names = [f"deploy/reviews-v{version}" for version in (1, 2, 3)]
    await mesh.kubectl("scale", "--replicas=0", *names)
    async with asyncio.timeout(60):
        while "product reviews are currently unavailable" not in (await mesh.page())[1]:
            await asyncio.sleep(0.05)
    assert (await mesh.page())[0] == 200
    await mesh.kubectl("scale", "--replicas=1", *names)
    await mesh.rolled_out(*names)
    async with asyncio.timeout(60):
        while "★" not in (await mesh.page())[1]:
            await asyncio.sleep(0.05)
