"""One mesh a mode for all live tests: Bookinfo and its gateway, as root and as an ordinary user's node runs it."""

from __future__ import annotations

import asyncio
import os
import pathlib
import tempfile
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from doubles import netns
from doubles.one_machine import ROOT, OneMachine, one_machine
from ostria import samples

MANIFESTS = pathlib.Path(samples.__file__).parent / "manifests"
BOOKINFO = ("productpage-v1", "details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3", "httpbin")

GATEWAY = """
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway}
spec:
  ports: [{port: 80, targetPort: 8080, name: http2}]
  selector: {istio: ingressgateway}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway}
spec:
  template:
    metadata:
      labels: {app: istio-ingressgateway, istio: ingressgateway}
      annotations: {inject.istio.io/templates: gateway}
    spec:
      containers: [{name: istio-proxy, image: auto}]
"""
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
  template:
    metadata: {labels: {app: sleep}}
    spec: {containers: [{name: sleep, image: curl, command: [/bin/sleep, infinity]}]}
"""


@pytest.fixture(params=["root", "user"], scope="session")
def rootless(request: pytest.FixtureRequest) -> bool:
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root can make namespaces without a user namespace")
    netns.require(ordinary=request.param == "user")
    return bool(request.param == "user")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(rootless: bool) -> AsyncIterator[OneMachine]:
    # Sockets need a short path, which a test's own folder is not.
    with tempfile.TemporaryDirectory(prefix="ostria-") as folder:
        async with one_machine(pathlib.Path(folder), rootless=rootless) as machine:
            for name in ("bookinfo", "bookinfo-gateway", "destination-rules", "httpbin"):
                machine.apply((MANIFESTS / f"{name}.yaml").read_text())
            machine.apply(GATEWAY, ROOT)
            machine.apply(OUTSIDE)
            await machine.wait_ready(*(f"{name}-0" for name in BOOKINFO))
            await machine.wait_ready("istio-ingressgateway-0", namespace=ROOT)
            await machine.wait_ready("sleep-0", namespace="outside")
            await machine.enforced()
            async with asyncio.timeout(30):
                # The sample's containers have no readiness probe: they are ready before their programs listen.
                for name in BOOKINFO:
                    place = "8080/get" if name == "httpbin" else "9080/health"
                    url = f"http://{machine.address(f'{name}-0')}:{place}"
                    while (await machine.curl("sleep-0", "sleep", "-sf", url, namespace="outside"))[0]:
                        await asyncio.sleep(0.05)
                while not (await machine.page()).startswith("HTTP/1.1 200"):
                    await asyncio.sleep(0.05)
            yield machine
