"""A whole node over an API: what is written there comes to pods that answer, and outlives the node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from doubles.node_world import FAST
from doubles.object_server import ObjectServer
from doubles.object_store import ObjectStore
from ostria.base.clock import SystemClock
from ostria.node import process
from ostria.node.controllers.objects import DEPLOYMENT, ENDPOINT_SLICE, NODE, POD, SERVICE
from ostria.node.ground import Settings as KubeletSettings

WEB = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: default}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: page}}
data: {{index.html: first}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 30
      volumes: [{{name: page, configMap: {{name: page}}}}]
      containers:
      - name: web
        image: web:1
        command: [{sys.executable}, -m, http.server, --directory, /page, "8000"]
        volumeMounts: [{{name: page, mountPath: /page}}]
        # The program breaks off what it is asked when it ends: it must not end while somebody waits for an answer.
        lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
        readinessProbe: {{tcpSocket: {{port: 8000}}, periodSeconds: 1, failureThreshold: 1000}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.1
  clusterIPs: [10.96.1.1]
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: 8000}}]
"""


class Cluster(NamedTuple):
    server: ObjectServer
    store: ObjectStore
    settings: process.Settings

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[process.Running]:
        async with process.running(self.settings, self.server.access) as running:
            yield running

    def apply(self, text: str) -> None:
        self.store.apply(text)

    def ready(self, count: int) -> bool:
        deployment = self.store.get(DEPLOYMENT, "web")
        status = deployment.get("status", {})
        return bool(
            status.get("availableReplicas") == status.get("updatedReplicas") == status.get("replicas") == count
            and len(self.store.all(POD)) == count
        )

    def pids(self) -> set[str]:
        return {each["status"]["containerStatuses"][0]["containerID"] for each in self.store.all(POD)}

    def host_port(self) -> int:
        (ingress,) = self.store.get(SERVICE, "web")["status"].get("loadBalancer", {}).get("ingress") or (None,)
        if ingress is None:
            return 0
        text = self.store.get(SERVICE, "web")["metadata"]["annotations"]["ostria.dev/host-ports"]
        return int(text.partition(":")[2].rstrip("}"))


@pytest.fixture
async def cluster(tmp_path: pathlib.Path, rootless: bool) -> AsyncIterator[Cluster]:
    kubelet = KubeletSettings(tmp_path / "node", rootless=rootless, pace=FAST, second=0.1)
    async with ObjectServer(ObjectStore(SystemClock())).serve() as server:
        try:
            yield Cluster(server, server.store, process.settings_of(kubelet))
        finally:
            await process.down(kubelet)


async def fetch(port: int) -> str:
    """What the page says, on a port of the host."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return (await reader.read()).decode().rpartition("\r\n\r\n")[2]


async def test_what_is_applied_is_served_and_goes_on_when_the_node_is_replaced(cluster: Cluster) -> None:
    cluster.apply(WEB)
    async with cluster.node():
        await cluster.server.until(lambda: cluster.ready(2) and cluster.host_port())
        assert await fetch(cluster.host_port()) == "first"
        before, port = cluster.pids(), cluster.host_port()
        node = cluster.store.get(NODE, "ostria")
        assert {each["type"]: each["status"] for each in node["status"]["conditions"]}["Ready"] == "True"
        pod = cluster.store.all(POD)[0]
        assert pod["status"]["hostIP"] == "10.244.0.1"
    assert await fetch(port) == "first", "the pods and the way to them go on without a node"
    cluster.store.change(DEPLOYMENT, "web", spec={"replicas": 3})
    async with cluster.node():
        await cluster.server.until(lambda: cluster.ready(3))
        assert before < cluster.pids(), "the pods of before are the same"
        assert cluster.host_port() == port
        template = cluster.store.get(DEPLOYMENT, "web")["spec"]["template"]
        changed = {**template, "metadata": {**template["metadata"], "annotations": {"restarted": "now"}}}
        cluster.store.change(DEPLOYMENT, "web", spec={"template": changed})
        failures = await _call_until(port, lambda: cluster.ready(3) and not before & cluster.pids(), cluster)
        assert failures == [], "a rolling restart loses no connection"


async def _call_until(port: int, done: Any, cluster: Cluster) -> list[str]:
    """Call again and again, one call after the other; what went wrong."""
    failures: list[str] = []

    async def call() -> None:
        while True:
            try:
                text = await fetch(port)
                if text != "first":
                    failures.append(text)
            except OSError as error:
                failures.append(str(error))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(call())
        await cluster.server.until(done)
        task.cancel()
    return failures


async def test_an_endpoint_ends_before_its_containers_do(cluster: Cluster) -> None:
    cluster.apply(WEB)
    async with cluster.node():
        await cluster.server.until(lambda: cluster.ready(2))
        name = cluster.store.all(POD)[0]["metadata"]["name"]
        orders: list[str] = []
        hear = cluster.store.heard

        def listen(change: Any) -> None:
            hear(change)
            for each in cluster.store.all(ENDPOINT_SLICE):
                for endpoint in each.get("endpoints", ()):
                    if (endpoint.get("targetRef") or {}).get("name") == name and endpoint["conditions"]["terminating"]:
                        orders.append("endpoint")
            if any(
                key.kind == "Event" and value["reason"] == "Killing" and value["involvedObject"]["name"] == name
                for key, value in cluster.store.objects.items()
            ):
                orders.append("containers")

        cluster.store.heard = listen
        cluster.store.delete(POD, name, grace=30)
        await cluster.server.until(lambda: "containers" in orders)
        assert orders[0] == "endpoint"
        await cluster.server.until(lambda: all(pod["metadata"]["name"] != name for pod in cluster.store.all(POD)))


async def test_a_node_goes_on_when_the_api_goes_and_comes_back(tmp_path: pathlib.Path, rootless: bool) -> None:
    kubelet = KubeletSettings(tmp_path / "node", rootless=rootless, pace=FAST, second=0.1)
    server = ObjectServer(ObjectStore(SystemClock()))
    settings = process.settings_of(kubelet)
    cluster = Cluster(server, server.store, settings)
    try:
        async with contextlib.AsyncExitStack() as stack:
            async with server.serve():
                port = int(server.url.rpartition(":")[2])
                cluster.apply(WEB)
                running = await stack.enter_async_context(process.running(settings, server.access))
                await server.until(lambda: cluster.ready(2) and cluster.host_port())
            assert await fetch(cluster.host_port()) == "first"
            # What happens meanwhile is not told by any watch.
            cluster.store.change(DEPLOYMENT, "web", spec={"replicas": 3})
            assert running.network.pods(), "the pods stand"
            async with server.serve(port):
                await server.until(lambda: cluster.ready(3))
    finally:
        await process.down(kubelet)


async def test_pods_reach_the_api_by_its_service(cluster: Cluster) -> None:
    cluster.apply(
        WEB.replace("terminationGracePeriodSeconds", "enableServiceLinks: false\n      terminationGracePeriodSeconds")
    )
    async with cluster.node() as running:
        found = await cluster.server.until(
            lambda: cluster.store.objects and cluster.ready(2) and cluster.store.get(SERVICE, "kubernetes")
        )
        assert found["spec"]["clusterIP"] == "10.96.0.1"
        port = found["spec"]["ports"][0]["port"]
        (first, *_) = cluster.store.all(POD)
        reading, writing = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        started = running.node.exec(
            "default",
            first["metadata"]["name"],
            "web",
            (sys.executable, "-c", "import os; print(os.environ['KUBERNETES_SERVICE_HOST'], 'WEB_PORT' in os.environ)"),
            (nothing, writing, writing),
        )
        os.close(writing)
        os.close(nothing)
        assert await started.wait() == 0
        with open(reading) as said:
            assert said.read() == "10.96.0.1 False\n", "without links it is told of the API alone"
        connection: socket.socket = await running.network.connect("10.96.0.1", port)
        reader, writer = await asyncio.open_connection(sock=connection)
        with contextlib.closing(writer):
            writer.write(b"GET /api/v1/namespaces/default HTTP/1.0\r\n\r\n")
            assert b'"name":"default"' in await reader.read()
