"""The demo profile on a mesh of this machine: real API server, real node, real istiod, from the manifests alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from doubles import netns
from ostria.apps import local_mesh, state
from ostria.install import Installation, OneMachine, apply, read
from ostria.sources.access import from_kubeconfig
from ostria.sources.api import Api, ApiError

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(300), pytest.mark.xdist_group("live-install")]

BOUND = 90.0
MACHINE = OneMachine()
ISTIO = "networking.istio.io/v1"
WEB = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "image": "web", "command": ["sleep", "100000"]}]},
}


class Mesh(NamedTuple):
    """A mesh with what was said while the demo profile was installed on it, and the warnings that were heard."""

    api: Api
    told: list[str]
    warned: list[str]

    async def get(self, path: str) -> Any:
        return json.loads(await self.api.get(path))

    async def create(self, path: str, document: dict[str, Any]) -> Any:
        return json.loads(await self.api.send("POST", path, json.dumps(document).encode()))


def installation(*sets: str) -> Installation:
    found, problems = read((), sets, machine=MACHINE)
    assert found is not None, problems
    return found


@contextlib.contextmanager
def started_at(folder: pathlib.Path) -> Any:
    mesh = state.Mesh("install", folder / "install")
    local_mesh.prepare(mesh, local_mesh.Wanted(gateway_port=18080, gateway_tls_port=18443))
    try:
        yield mesh
    finally:
        local_mesh.end(mesh)
        local_mesh.remove(mesh)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Mesh]:
    netns.require(ordinary=os.geteuid() != 0)
    # Sockets need a short path, which a test's own folder is not.
    with tempfile.TemporaryDirectory(prefix="ostria-") as folder, started_at(pathlib.Path(folder)) as found:
        await local_mesh.start(found, dict(os.environ))
        warned: list[str] = []
        async with Api(from_kubeconfig((found.kubeconfig,), {}), warned.append) as api:
            told = []
            try:
                async for step in apply.install(api, installation("profile=demo"), seconds=BOUND):
                    told.append(str(step))
            except apply.NotReady as error:
                logs = [f"--- {file}\n{file.read_text()[-4000:]}" for file in found.folder.rglob("*.log")]
                raise AssertionError("\n".join([str(error), *told, *logs])) from None
            yield Mesh(api, told, warned)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_demo_profile_comes_up(mesh: Mesh) -> None:
    assert [line for line in mesh.told if line.startswith("✔")] == [
        "✔ Istio core installed",
        "✔ Istiod installed",
        "✔ Ingress gateways installed",
        "✔ Egress gateways installed",
        "✔ Installation complete",
    ]
    report = await apply.verify(mesh.api, installation("profile=demo"))
    assert report.healthy, report.lines
    pods = (await mesh.get("/api/v1/namespaces/istio-system/pods"))["items"]
    ready = {
        pod["metadata"]["labels"]["app"]: [container["ready"] for container in pod["status"]["containerStatuses"]]
        for pod in pods
    }
    assert ready == {"istiod": [True], "istio-ingressgateway": [True], "istio-egressgateway": [True]}


@pytest.mark.asyncio(loop_scope="module")
async def test_installing_again_changes_no_pod(mesh: Mesh) -> None:
    async def pods() -> set[str]:
        found = (await mesh.get("/api/v1/namespaces/istio-system/pods"))["items"]
        return {pod["metadata"]["uid"] for pod in found}

    before = await pods()
    told = [str(step) async for step in apply.install(mesh.api, installation("profile=demo"), seconds=BOUND)]
    assert await pods() == before
    assert not any("Removed" in line for line in told)
    assert await apply.installed(mesh.api) == installation("profile=demo")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_labelled_namespace_has_its_pods_injected(mesh: Mesh) -> None:
    labels = {"istio-injection": "enabled"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}
    await mesh.create("/api/v1/namespaces", namespace)
    async with asyncio.timeout(BOUND):
        while not await _accounts(mesh, "shop"):
            await asyncio.sleep(0.05)
        pod = await mesh.create("/api/v1/namespaces/shop/pods", WEB)
        assert [each["name"] for each in pod["spec"]["initContainers"]] == ["istio-init", "istio-proxy"]
        while not _is_ready(await mesh.get("/api/v1/namespaces/shop/pods/web")):
            await asyncio.sleep(0.05)


async def _accounts(mesh: Mesh, namespace: str) -> list[Any]:
    found: list[Any] = (await mesh.get(f"/api/v1/namespaces/{namespace}/serviceaccounts"))["items"]
    return found


def _is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bad_object_is_refused_by_istiod_with_its_field(mesh: Mesh) -> None:
    route = {"route": [{"destination": {"host": "a"}, "weight": 60}, {"destination": {"host": "b"}, "weight": -1}]}
    spec = {"hosts": ["a"], "http": [route]}
    service = {"apiVersion": ISTIO, "kind": "VirtualService", "metadata": {"name": "bad"}, "spec": spec}
    with pytest.raises(ApiError) as refused:
        await mesh.create("/apis/networking.istio.io/v1/namespaces/default/virtualservices", service)
    assert "weight" in str(refused.value)
    assert "istio.io" in str(refused.value)


@pytest.mark.asyncio(loop_scope="module")
async def test_taken_away_it_leaves_what_people_wrote(mesh: Mesh) -> None:
    gateway = {"apiVersion": ISTIO, "kind": "Gateway", "metadata": {"name": "mine"}}
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example"]}
    gateway["spec"] = {"selector": {"istio": "ingressgateway"}, "servers": [server]}  # type: ignore[assignment]
    path = "/apis/networking.istio.io/v1/namespaces/default/gateways"
    await mesh.create(path, gateway)
    told = [str(step) async for step in apply.uninstall(mesh.api)]
    assert "✔ Removed Deployment: istiod.istio-system" in told
    assert (await mesh.get("/apis/apps/v1/namespaces/istio-system/deployments"))["items"] == []
    assert [each["metadata"]["name"] for each in (await mesh.get(path))["items"]] == ["mine"]
    async with asyncio.timeout(BOUND):
        while (await mesh.get("/api/v1/namespaces/istio-system/pods"))["items"]:
            await asyncio.sleep(0.05)
