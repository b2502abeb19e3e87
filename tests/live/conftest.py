"""One mesh for all live tests: Bookinfo and its gateway, started and fed by the commands that a person types."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from doubles import netns
from doubles.api_process import kubectls
from doubles.local_mesh import LocalMesh, local_mesh
from doubles.task_pages import Walk
from ostria import samples

MANIFESTS = pathlib.Path(samples.__file__).parent / "manifests"
# A client that has no proxy, in a namespace without a label.
OUTSIDE = """
apiVersion: v1
kind: Namespace
metadata: {name: outside}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleep, namespace: outside}
spec:
  selector: {matchLabels: {app: sleep}}
  template:
    metadata: {labels: {app: sleep}}
    spec: {containers: [{name: sleep, image: curl, command: [/bin/sleep, infinity]}]}
"""


@pytest.fixture
def home() -> Iterator[pathlib.Path]:
    """A short folder, where sockets may be; it is removed, and a mesh in it is the test's to end."""
    netns.require(ordinary=os.geteuid() != 0)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ostria-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh() -> AsyncIterator[LocalMesh]:
    netns.require(ordinary=os.geteuid() != 0)
    if not kubectls():
        pytest.skip("there is no kubectl on PATH, nor in KUBECTL")
    async with local_mesh() as machine:
        await machine.kubectl("label", "namespace", "default", "istio-injection=enabled")
        for name in ("bookinfo", "bookinfo-gateway", "destination-rules", "httpbin"):
            await machine.kubectl("apply", "-f", str(MANIFESTS / f"{name}.yaml"))
        await machine.apply(OUTSIDE)
        await machine.rolled_out(*[f"deploy/{name}" for name in await machine.names("deployments")])
        await machine.rolled_out("deploy/sleep", namespace="outside")
        async with asyncio.timeout(30):
            # The sample's containers have no readiness probe: they are ready before their programs listen.
            for place in ("productpage:9080/health", "details:9080/health", "ratings:9080/health", "httpbin:8000/get"):
                while (await machine.curl("-sf", f"http://{place}")).code:
                    await asyncio.sleep(0.05)
            versions: set[str] = set()
            while len(versions) < 3:
                found = (await machine.curl("-s", "http://reviews:9080/reviews/0")).output
                versions |= {name for name in ("reviews-v1", "reviews-v2", "reviews-v3") if name in found}
            while (await machine.page())[0] != 200:
                await asyncio.sleep(0.05)
        yield machine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def walk() -> AsyncIterator[Walk]:
    """One mesh with the profile demo for all of Istio's task pages."""
    netns.require(ordinary=os.geteuid() != 0)
    if not kubectls():
        pytest.skip("there is no kubectl on PATH, nor in KUBECTL")
    async with local_mesh(profile="demo") as machine:
        made = Walk(machine)
        await made.prepare()
        yield made
