"""A pod whose questions for names come to its proxy: real packets, real capture, names that only the mesh knows."""

from __future__ import annotations

import asyncio
import json

import pytest

from doubles.local_mesh import LocalMesh

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("live")]

ASKER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: asker}
spec:
  selector: {matchLabels: {app: asker}}
  template:
    metadata:
      labels: {app: asker}
      annotations: {proxy.istio.io/config: '{"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}'}
    spec: {containers: [{name: app, image: curl, command: [/bin/sleep, infinity]}]}
"""
BOX = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: box}
spec:
  hosts: [box.internal]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 9000, name: tcp, protocol: TCP, targetPort: 8080}
  workloadSelector: {labels: {app: httpbin}}
---
apiVersion: v1
kind: Service
metadata: {name: opinions}
spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}
"""


async def ask(mesh: LocalMesh, *command: str) -> str:
    return (await mesh.exec("deploy/asker", *command, container="app")).output


async def test_a_service_entry_is_a_name_with_an_address_of_its_own(mesh: LocalMesh) -> None:
    await mesh.apply(ASKER)
    await mesh.apply(BOX)
    await mesh.rolled_out("deploy/asker")
    try:
        async with asyncio.timeout(30):
            while not (found := (await mesh.get("serviceentry", "box")).get("status", {}).get("addresses")):
                await asyncio.sleep(0.05)
            address = next(each["value"] for each in found if each["value"].startswith("240.240."))
            while address not in await ask(mesh, "getent", "ahostsv4", "box.internal"):
                await asyncio.sleep(0.1)
            # By its name as HTTP, and as bytes, which only the address can tell apart.
            for place in ("http://box.internal/get", "http://box.internal:9000/get"):
                while not (answer := await ask(mesh, "curl", "-s", "-m", "10", place)).startswith("{"):
                    await asyncio.sleep(0.1)
                assert "headers" in json.loads(answer)
        service = (await mesh.get("service", "reviews"))["spec"]["clusterIP"]
        for spelling in ("reviews", "reviews.default", "reviews.default.svc.cluster.local"):
            async with asyncio.timeout(30):
                while service not in await ask(mesh, "getent", "ahostsv4", spelling):
                    await asyncio.sleep(0.1)
        # What the mesh leaves alone is the pod's own resolver's to answer.
        assert service in await ask(mesh, "getent", "ahostsv4", "opinions")
        assert not await ask(mesh, "getent", "ahostsv4", "nowhere.default.svc.cluster.local")
    finally:
        await mesh.kubectl("delete", "deploy/asker", "serviceentry/box", "service/opinions")
