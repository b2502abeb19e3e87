"""A mesh with the echo application in it: workloads with and without a sidecar, and calls between them.

a, b, c, d, headless   in `echo`, with a sidecar        naked   in `echo`, without
external               in `external`, without; answers on TLS as fake.external.com
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple

from doubles.certificates import Authority
from doubles.local_mesh import LocalMesh, local_mesh
from ostria.base.yaml import Document, read_documents
from ostria.resources import KINDS
from ostria.sources.access import from_kubeconfig
from ostria.sources.api import Api
from ostria.sources.editing import Editor

HERE = pathlib.Path(__file__).parent
NAMESPACE, EXTERNAL, HEADLESS = "echo", "external", "headless"
FAKE = "fake.external.com"
_IMAGES = f'images: {{"ostria-test/echo": {{command: ["{sys.executable}", "-I"]}}}}\n'
# What every workload also listens on for calls of itself.
_OWN = (8080,)


class Port(NamedTuple):
    """A port of every workload; `service` is 0 where no Service names it. The fields are those of the data."""

    name: str
    protocol: str
    service: int
    workload: int
    kinds: tuple[str, ...] = ()


def ports_of(listed: Iterable[dict[str, Any]]) -> tuple[Port, ...]:
    """The ports that the data's environment lists. One that takes PROXY protocol is left out: no case calls it."""
    return tuple(
        Port(
            each["name"],
            each["protocol"],
            max(0, each["servicePort"]),
            each["workloadPort"],
            tuple(
                kind
                for kind, wanted in (
                    ("first", each.get("serverFirst")),
                    ("tcp", each["protocol"] == "TCP"),
                    ("tls", each.get("tls")),
                    ("local", each.get("bindLocalhost")),
                    ("instance", each.get("bindInstanceIP")),
                )
                if wanted
            ),
        )
        for each in listed
        if not each.get("proxyProtocol")
    )


_ON_DEMAND = "meshConfig.defaultConfig.proxyMetadata.OSTRIA_ON_DEMAND_XDS=true"


class EchoMesh:
    """The mesh, its workloads' addresses, and a client in each of them that calls for us."""

    def __init__(self, machine: LocalMesh, api: Api, ports: tuple[Port, ...]) -> None:
        self.machine = machine
        self.ports = {port.name: port for port in ports}
        self.pod_ips: dict[str, str] = {}
        self.service_ips: dict[str, str] = {}
        self._editor = Editor(api)
        self._clients: dict[str, asyncio.subprocess.Process] = {}

    def number_of(self, service: str, port: Port) -> int:
        """Where a Service has a port; without an address of its own nothing translates it."""
        return port.workload if service == HEADLESS else port.service

    async def learn(self) -> None:
        """Ask where everything is."""
        for namespace in (EXTERNAL, NAMESPACE):
            for pod in (await self.machine.get("pods", namespace=namespace))["items"]:
                self.pod_ips[pod["metadata"]["labels"]["app"]] = pod["status"]["podIP"]
            for service in (await self.machine.get("services", namespace=namespace))["items"]:
                self.service_ips[service["metadata"]["name"]] = service["spec"]["clusterIP"]

    @contextlib.asynccontextmanager
    async def with_config(self, text: str) -> AsyncIterator[None]:
        """The objects of a manifest are in effect within the block, and gone after it."""
        documents = [each for each in read_documents(text, "case") if isinstance(each, Document)]
        if not documents:
            yield
            return
        wishes = [await self._editor.wish(document, NAMESPACE) for document in documents]
        titles = [
            f"{wish.resource.kind} {wish.namespace}/{wish.name}"
            for wish in wishes
            if wish.resource.kind in KINDS and KINDS[wish.resource.kind].ours
        ]

        async def apply() -> None:
            for wish in wishes:
                await self._editor.apply(wish)

        async def delete() -> None:
            for wish in reversed(wishes):
                await self._editor.delete(wish.resource, wish.namespace, wish.name)

        try:
            await self.machine.until_enforced(apply, titles)
            yield
        finally:
            await self.machine.until_enforced(delete, titles)

    async def call(self, workload: str, asked: dict[str, Any]) -> dict[str, Any]:
        """One call by the client in a workload's container; `client.py` says the words."""
        client = self._clients.get(workload)
        if client is None or client.returncode is not None:
            client = self._clients[workload] = await asyncio.create_subprocess_exec(
                *("kubectl", "exec", "-i", "-n", NAMESPACE, f"deploy/{workload}", "-c", "app", "--"),
                *(sys.executable, "-I", "/app/client.py"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=self.machine.env,
            )
        assert client.stdin
        assert client.stdout
        client.stdin.write(json.dumps(asked).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await client.stdout.readline())
        return answer

    async def hang_up(self) -> None:
        """End the clients."""
        for client in self._clients.values():
            with contextlib.suppress(ProcessLookupError):
                client.kill()
            await client.wait()


@contextlib.asynccontextmanager
async def echo_mesh(ports: tuple[Port, ...], folder: pathlib.Path) -> AsyncIterator[EchoMesh]:
    """The mesh of the live conformance cases; it is ended with the block."""
    images = folder / "images.yaml"
    images.write_text(_IMAGES)
    # `OSTRIA_DELIVERY=on-demand` tries the same with sidecars that hold what is called.
    asked = ("--set", _ON_DEMAND) if os.environ.get("OSTRIA_DELIVERY") == "on-demand" else ()
    async with local_mesh("--images", str(images), *asked) as machine:
        await machine.apply("\n---\n".join(map(json.dumps, _environment(ports))))
        names = ("a", "b", "c", "d", HEADLESS, "naked")
        await machine.rolled_out(*(f"deploy/{name}" for name in names), namespace=NAMESPACE)
        await machine.rolled_out("deploy/external", namespace=EXTERNAL)
        kubeconfig = machine.home / machine.name / "kubeconfig"
        async with Api(from_kubeconfig((kubeconfig,), {})) as api:
            found = EchoMesh(machine, api, ports)
            await found.learn()
            try:
                yield found
            finally:
                await found.hang_up()


def _environment(ports: tuple[Port, ...]) -> Iterator[dict[str, Any]]:
    labels = {"istio-injection": "enabled"}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": EXTERNAL}}
    identity = Authority().issue(FAKE)
    files = {name: (HERE / name).read_text() for name in ("server.py", "client.py")}
    for namespace in (NAMESPACE, EXTERNAL):
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "echo", "namespace": namespace},
            "data": {**files, "server.crt": identity.certificate.decode(), "server.key": identity.key.decode()},
        }
    for name in ("a", "b", "c", "d", HEADLESS, "naked"):
        yield from _workload(name, NAMESPACE, ports)
    yield from _workload("external", EXTERNAL, ports)
    yield {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "external", "namespace": NAMESPACE},
        "spec": {
            "hosts": [FAKE],
            "location": "MESH_EXTERNAL",
            "resolution": "DNS",
            "endpoints": [{"address": f"external.{EXTERNAL}.svc.cluster.local"}],
            "exportTo": ["."],
            "ports": [
                {"name": "http-tls-origination", "number": 8888, "protocol": "HTTP", "targetPort": 443},
                {"name": "http2-tls-origination", "number": 8882, "protocol": "HTTP2", "targetPort": 443},
            ],
        },
    }


def _workload(name: str, namespace: str, ports: tuple[Port, ...]) -> Iterator[dict[str, Any]]:
    listening = [f"{port.workload}:{','.join(port.kinds)}" for port in ports] + [str(port) for port in _OWN]
    labels = {"app": name} | ({"sidecar.istio.io/inject": "false"} if name == "naked" else {})
    container = {
        "name": "app",
        "image": "ostria-test/echo",
        "args": ["/app/server.py", *listening],
        "env": [{"name": "INSTANCE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "volumeMounts": [{"name": "app", "mountPath": "/app"}],
        "readinessProbe": {"tcpSocket": {"port": ports[0].workload}, "periodSeconds": 1},
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": [{"name": "app", "configMap": {"name": "echo"}}]},
            },
        },
    }
    served = [
        {"name": port.name, "port": port.workload if name == HEADLESS else port.service, "targetPort": port.workload}
        for port in ports
        if port.service
    ]
    spec: dict[str, Any] = {"selector": {"app": name}, "ports": served}
    if name == HEADLESS:
        spec["clusterIP"] = "None"
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": spec,
    }
