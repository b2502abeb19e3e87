"""One machine with everything real but the API server: pods in namespaces, agents, Envoys, istiod, and the glue.

    objects (an API double) -> istiod              -> proxies
                            -> node (real pods)    -> statuses -> EndpointSlices -> network, istiod

Deployments are run as one pod each. The API server and the controllers that the glue stands for are rooms to come.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar

import yaml

from doubles.kube_api import KubeApi
from ostria import samples
from ostria.apps.istiod import Istiod, Settings
from ostria.base import ObjectKey
from ostria.base.clock import SystemClock
from ostria.capture import marked
from ostria.identity.keeping import Answer, SecretKeeper, establish
from ostria.injection import Settings as InjectionSettings
from ostria.injection import inject
from ostria.mesh.settings import Settings as MeshSettings
from ostria.node import kubelet
from ostria.node.cluster import Token, config_map_data, secret_data
from ostria.node.ground import Ground
from ostria.node.ground import Settings as NodeSettings
from ostria.node.images import read_images
from ostria.node.kubelet import Node, PodChange
from ostria.node.network.network import Network
from ostria.node.network.services import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort
from ostria.node.pods import Pod, PodKey
from ostria.node.roots import this_machine
from ostria.node.userns import NodeNamespaces
from ostria.resources import KINDS, kubernetes, objects
from ostria.sources.api import Api, ApiError

MARK = 1337
PROXY_IMAGE = 'images: {"ostria/proxy": {command: ["${python}", "-m", "ostria.agent.main"]}}'
ROOT = "istio-system"
BOUND = 60.0


class OneMachine:
    """The objects, and what follows from them. Use `one_machine`."""

    def __init__(self, api: KubeApi, network: Network, injection: InjectionSettings) -> None:
        self.api = api
        self.network = network
        self.node: Node
        self.istiod: Istiod
        self.events: list[str] = []
        self._injection = injection
        self._apply: Callable[[Sequence[PodChange]], object] | None = None
        self._virtual = (str(address) for address in ipaddress.ip_network("10.100.0.0/16").hosts())
        self._changed = asyncio.Event()

    # --- what a person does ----------------------------------------------------------------------------------------

    def apply(self, text: str, namespace: str = "default") -> None:
        """Apply manifests, as kubectl would."""
        for document in yaml.load_all(text, Loader=_Loader):
            if not document:
                continue
            meta = document["metadata"]
            if document["kind"] == "Deployment":
                self._run(document, meta.get("namespace", namespace))
                continue
            kind = next(kind for kind in KINDS.values() if kind.name.rpartition("/")[2] == document["kind"])
            if kind.namespaced:
                meta.setdefault("namespace", namespace)
            if kind.name == "Service" and "clusterIP" not in document["spec"]:
                known = self.api.objects.get(ObjectKey("", "Service", meta["namespace"], meta["name"]))
                document["spec"]["clusterIP"] = known["spec"]["clusterIP"] if known else next(self._virtual)
            self.api.put(kind, document)
        self._changed.set()

    def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        self.api.delete(ObjectKey("", kind, namespace, name))

    def _run(self, deployment: Mapping[str, Any], namespace: str) -> None:
        template = deployment["spec"]["template"]
        name = f"{deployment['metadata']['name']}-0"
        meta = {**template["metadata"], "name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}
        self.run_pod({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})

    def run_pod(self, pod: dict[str, Any], *, injected: bool | None = None) -> None:
        """Run one pod; with a proxy if its namespace is labelled so."""
        meta = pod["metadata"]
        namespace = self.api.objects[ObjectKey("", "Namespace", "", meta["namespace"])]
        labelled = namespace["metadata"].get("labels", {}).get("istio-injection") == "enabled"
        wanted = "inject.istio.io/templates" in meta.get("annotations", {}) or labelled
        if wanted if injected is None else injected:
            found = inject(pod, meta["namespace"], self._injection)
            assert found.pod is not None, found
            pod = dict(found.pod)
        spec = pod["spec"]
        spec.setdefault("serviceAccountName", "default")
        self.api.put(KINDS["Pod"], pod)
        if self._apply is not None:
            self._apply([PodChange(meta["namespace"], meta["name"], pod)])

    # --- what the node asks ----------------------------------------------------------------------------------------

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = self.api.objects.get(ObjectKey("", "ConfigMap", namespace, name))
        return config_map_data(found) if found else None

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = self.api.objects.get(ObjectKey("", "Secret", namespace, name))
        return secret_data(found) if found else None

    async def request_token(self, namespace: str, account: str, audience: str, seconds: int, pod: PodKey) -> Token:
        claims = {"exp": 4_000_000_000, "sub": f"{namespace}:{account}:{pod.name}", "aud": audience}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        token = f"e30.{payload}.c2ln"
        self.api.tokens[token] = (namespace, account, pod.name)
        return Token(token, 4_000_000_000.0)

    async def write_status(self, key: PodKey, status: Mapping[str, Any]) -> None:
        found = self.api.objects.get(ObjectKey("", "Pod", key.namespace, key.name))
        if found is not None:
            self.api.put(KINDS["Pod"], {**found, "status": dict(status)})
            self._changed.set()

    async def remove_pod(self, key: PodKey) -> None:
        self.api.delete(ObjectKey("", "Pod", key.namespace, key.name))
        self._changed.set()

    def emit(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        self.events.append(f"{pod.metadata.name} {container} {reason}: {message}")

    async def attach(self, pod_key: PodKey, netns_fd: int) -> Any:
        return await self.network.attach(str(pod_key), netns_fd)

    async def detach(self, pod_key: PodKey) -> None:
        await self.network.detach(str(pod_key))

    def resolv_conf(self, namespace: str) -> str:
        return self.network.resolv_conf(namespace)

    async def run(self, apply: Callable[[Sequence[PodChange]], object]) -> None:
        self._apply = apply
        pods = [(key, value) for key, value in self.api.objects.items() if key.kind == "Pod"]
        apply([PodChange(key.namespace, key.name, value) for key, value in pods])
        await asyncio.Event().wait()

    def hear(self, key: ObjectKey) -> None:
        """What pods mount has changed, perhaps: the node looks."""
        if key.kind in ("ConfigMap", "Secret"):
            self.node.objects_changed(key.namespace)

    # --- what controllers would do ---------------------------------------------------------------------------------

    async def control(self) -> None:
        """Keep EndpointSlices true, and tell the network."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            services, slices = [], []
            for key, value in sorted(self.api.objects.items()):
                if key.kind == "Service":
                    services.append(_service(key, value))
                    found = self._slice(key, value)
                    slices.append(_slice_of(found))
                    if (
                        self.api.objects.get(ObjectKey("", "EndpointSlice", key.namespace, key.name), {}).get(
                            "endpoints"
                        )
                        != found["endpoints"]
                    ):
                        self.api.put(KINDS["EndpointSlice"], found)
            await self.network.update(services, slices)

    def _slice(self, key: ObjectKey, service: Mapping[str, Any]) -> dict[str, Any]:
        selector = service["spec"].get("selector", {})
        endpoints, ports = [], []
        for pod_key, pod in sorted(self.api.objects.items()):
            labels = pod.get("metadata", {}).get("labels", {})
            if pod_key.kind != "Pod" or pod_key.namespace != key.namespace or not selector:
                continue
            status = pod.get("status", {})
            if selector.items() <= labels.items() and status.get("podIP"):
                ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"])
                reference = {"kind": "Pod", "name": pod_key.name, "namespace": pod_key.namespace}
                endpoints.append(
                    {"addresses": [status["podIP"]], "conditions": {"ready": ready}, "targetRef": reference}
                )
        if key == ObjectKey("", "Service", ROOT, "istiod"):
            endpoints = [{"addresses": [str(self.network.plan.gateway[0])], "conditions": {"ready": True}}]
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            ports.append({"name": port.get("name", ""), "port": target, "protocol": port.get("protocol", "TCP")})
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "labels": {"kubernetes.io/service-name": key.name},
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        }

    # --- what tests ask --------------------------------------------------------------------------------------------

    def is_ready(self, name: str, namespace: str = "default") -> bool:
        pod = self.api.objects.get(ObjectKey("", "Pod", namespace, name), {})
        conditions = pod.get("status", {}).get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    async def wait_ready(self, *names: str, namespace: str = "default") -> None:
        """Wait until these pods are ready; tells what holds them up."""
        try:
            async with asyncio.timeout(BOUND):
                while not all(self.is_ready(name, namespace) for name in names):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(await self._why(names, namespace)) from None

    async def _why(self, names: Sequence[str], namespace: str) -> str:
        parts = [*self.events]
        for name in names:
            pod = self.api.objects.get(ObjectKey("", "Pod", namespace, name), {})
            parts.append(json.dumps(pod.get("status", {}), indent=1))
            every = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
            for container in every:
                with contextlib.suppress(Exception):
                    text = await self.logs(name, container["name"], namespace)
                    parts.append(f"--- {name} {container['name']}\n{text}")
        return "\n".join(parts)[-12_000:]

    async def logs(self, pod: str, container: str, namespace: str = "default") -> str:
        return b"".join([piece async for piece in self.node.read_logs(namespace, pod, container)]).decode()

    async def exec(self, pod: str, container: str, *argv: str, namespace: str = "default") -> tuple[int, str]:
        reading, writing = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            started = self.node.exec(namespace, pod, container, argv, (nothing, writing, writing))
        finally:
            os.close(writing)
            os.close(nothing)
        output = asyncio.get_running_loop().run_in_executor(None, _read_all, reading)
        code = await started.wait()
        return code, await output

    async def curl(self, pod: str, container: str, *arguments: str, namespace: str = "default") -> tuple[int, str]:
        """A call from within a container."""
        program = (sys.executable, "-m", "ostria.samples", "curl")
        return await self.exec(pod, container, *program, *arguments, namespace=namespace)

    async def page(self) -> str:
        """What the gateway answers to a call of Bookinfo's page, with its head."""
        connection = await self.network.connect(self.address("istio-ingressgateway-0", ROOT), 8080)
        reader, writer = await asyncio.open_connection(sock=connection)
        with contextlib.closing(writer):
            writer.write(b"GET /productpage HTTP/1.1\r\nhost: bookinfo.example.com\r\nconnection: close\r\n\r\n")
            return (await reader.read()).decode()

    def address(self, name: str, namespace: str = "default") -> str:
        """A pod's IPv4 address."""
        return str(self.api.objects[ObjectKey("", "Pod", namespace, name)]["status"]["podIP"])

    async def enforced(self) -> None:
        """Wait until what was applied last has come to the control plane, and every proxy has accepted it."""
        async with asyncio.timeout(BOUND):
            while not self._is_known():
                await asyncio.sleep(0.005)
            while not all(client.synced for client in self.istiod.plane.delivery.statistics()):
                await asyncio.sleep(0.005)

    def _is_known(self) -> bool:
        ours = {kind.name for kind in KINDS.values() if kind.ours}
        found = self.istiod.plane.db.facts(objects)
        wanted = {key for key in self.api.objects if key.kind in ours}
        ready = {
            key: sum(each["conditions"]["ready"] for each in value["endpoints"])
            for key, value in self.api.objects.items()
            if key.kind == "EndpointSlice"
        }
        known = {
            key: sum(bool(each.conditions.ready) for each in value.endpoints)
            for key, value in found.items()
            if isinstance(value, kubernetes.EndpointSlice)
        }
        return not self._changed.is_set() and wanted == {key for key in found if key.kind in ours} and ready == known


class _Loader(yaml.SafeLoader):
    """Kubernetes' scalars: a time stays a text."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read_all(fd: int) -> str:
    with open(fd, "rb") as output:
        return output.read().decode(errors="replace")


def _service(key: ObjectKey, value: Mapping[str, Any]) -> Service:
    spec = value["spec"]
    address = spec.get("clusterIP", "")
    ports = tuple(
        ServicePort(port["port"], port.get("name", ""), port.get("protocol", "TCP")) for port in spec["ports"]
    )
    return Service(key.namespace, key.name, (address,) if address not in ("", "None") else (), ports=ports)


def _slice_of(value: Mapping[str, Any]) -> EndpointSlice:
    meta = value["metadata"]
    return EndpointSlice(
        meta["namespace"],
        meta["name"],
        meta["name"],
        tuple(EndpointPort(port["port"], port["name"], port["protocol"]) for port in value["ports"]),
        tuple(Endpoint(tuple(each["addresses"]), each["conditions"]["ready"]) for each in value["endpoints"]),
    )


@contextlib.asynccontextmanager
async def one_machine(folder: pathlib.Path, *, rootless: bool) -> AsyncIterator[OneMachine]:
    """The machine with istiod; namespaces `default` (labelled) and `istio-system` are there."""
    images, problems = read_images(
        [
            ("proxy.yaml", PROXY_IMAGE),
            ("images.yaml", (pathlib.Path(samples.__file__).parent / "images.yaml").read_text()),
        ]
    )
    assert not problems, problems
    settings = NodeSettings(folder / "state", rootless=rootless, second=0.1)
    injection = InjectionSettings(capture=marked(ipaddress.ip_network("10.96.0.0/12")))
    namespaces = NodeNamespaces.open(settings.run, rootless=rootless)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(kubelet.down, settings)
        stack.callback(namespaces.close)
        network = await stack.enter_async_context(Network.create(folder / "network", namespaces))
        stack.push_async_callback(Network.remove, folder / "network")
        api = await stack.enter_async_context(KubeApi().serve())
        machine = OneMachine(api, network, injection)
        for name, labels in (("default", {"istio-injection": "enabled"}), (ROOT, {})):
            api.put(KINDS["Namespace"], {"metadata": {"name": name, "labels": labels}, "kind": "Namespace"})
        mesh = {"accessLogFile": "/dev/stdout"}
        api.put(
            KINDS["ConfigMap"], {"metadata": {"name": "istio", "namespace": ROOT}, "data": {"mesh": json.dumps(mesh)}}
        )
        client = await stack.enter_async_context(Api(api.access()))

        async def send(method: str, path: str, body: bytes | None) -> Answer:
            try:
                return Answer(200, await client.send(method, path, body))
            except ApiError as error:
                return Answer(error.status, b"")

        authority = await establish(SecretKeeper(send), SystemClock().now())
        configured = Settings(
            mesh=MeshSettings(socket_mark=MARK),
            injection=injection,
            envoy_version="1.40.0",
            xds=("127.0.0.1:0",),
            webhook=("127.0.0.1", 0),
        )
        machine.istiod = Istiod(client, api.access(), configured, authority)
        group = await stack.enter_async_context(_Tasks())
        group.start(machine.istiod.run())
        await machine.istiod.plane.serving.wait()
        machine.apply(_istiod_service(), ROOT)
        entrance = network.listen(15012)
        port = machine.istiod.plane.server.ports[0]
        server = await asyncio.start_server(lambda r, w: _relay(r, w, port), sock=entrance)
        stack.callback(server.close)
        machine.node = Node(
            Ground(settings, namespaces, machine, machine, machine, machine, SystemClock(), this_machine(), images)
        )
        api.heard = machine.hear
        group.start(network.keep())
        group.start(machine.node.run(machine))
        group.start(machine.control())
        yield machine


def _istiod_service() -> str:
    return """
apiVersion: v1
kind: Service
metadata: {name: istiod}
spec: {ports: [{port: 15012, name: https-dns}]}
"""


class _Tasks:
    """Background work that ends with the block; what fails, fails the test."""

    async def __aenter__(self) -> _Tasks:
        self._tasks: list[asyncio.Task[Any]] = []
        return self

    def start(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        with contextlib.suppress(OSError):
            target.close()

    await asyncio.gather(pump(reader, back), pump(there, writer))
