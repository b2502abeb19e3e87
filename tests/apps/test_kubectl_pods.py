"""kubectl and pods that run: stories in stories/*.yaml, told by every kubectl to a real API server and a real node."""

from __future__ import annotations

import asyncio
import itertools
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from doubles import netns
from doubles.api_process import Kubectl, kubectls
from doubles.kubectl_stories import check, command, stories
from doubles.kubectl_summary import DRIVEN
from doubles.local_cluster import LocalCluster, local_cluster

STORIES = stories(pathlib.Path(__file__).parent / "stories")
_NUMBERS = itertools.count()

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("kubectl-pods"),
    pytest.mark.skipif(not kubectls(), reason="there is no kubectl >= 1.30 on PATH or in KUBECTL"),
]
each_kubectl = pytest.mark.parametrize("kubectl", kubectls(), ids=lambda each: each.version)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    netns.require(ordinary=os.geteuid() != 0)
    async with local_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def namespace(cluster: LocalCluster) -> AsyncIterator[str]:
    """A namespace with its account, which the node's controllers make."""
    name = f"story-{next(_NUMBERS)}"
    await cluster.do(f"create namespace {name}")
    async with asyncio.timeout(30):
        while (await cluster.kubectl("get", "serviceaccount", "default", "-n", name)).code != 0:
            await asyncio.sleep(0.05)
    yield name
    await cluster.do(f"delete namespace {name} --wait=false")


@each_kubectl
@pytest.mark.parametrize("story", STORIES)
async def test_a_story_goes_as_it_is_told(
    story: str, kubectl: Kubectl, cluster: LocalCluster, namespace: str, record_property: Any
) -> None:
    for step in STORIES[story]:
        arguments, text = command(step, namespace)
        told = await cluster.kubectl("--namespace", namespace, *arguments, text=text, program=kubectl.path)
        check(step, told, namespace)
    record_property(DRIVEN, f"{kubectl.version} {len(STORIES[story])}")


@each_kubectl
async def test_a_port_of_a_pod_is_forwarded(
    kubectl: Kubectl, cluster: LocalCluster, namespace: str, record_property: Any
) -> None:
    for line in (
        "create deployment web --image=web:1",
        "expose deployment web --port=80 --target-port=8000",
        "rollout status deployment/web --timeout=30s",
    ):
        await cluster.do(f"{line} --namespace {namespace}")
    for target, port in (("deployment/web", 8000), ("service/web", 80)):
        process = await cluster.started(kubectl.path, "--namespace", namespace, "port-forward", target, f":{port}")
        try:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                line = (await process.stdout.readline()).decode()
                local = int(line.partition("127.0.0.1:")[2].split()[0])
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.0 200"), target
                writer.close()
        finally:
            process.kill()
            await process.wait()
        record_property(DRIVEN, f"{kubectl.version} 1")
