"""Modules from registries in real Envoys: fetched once by the control plane, handed on by agents, run by proxies."""

from __future__ import annotations

import asyncio
import base64
import pathlib

import pytest

from doubles.agents import ANSWERING_GATEWAY, Agent, ground
from doubles.registry import registry
from doubles.wasm_module import module
from ostria.base import ObjectKey

pytestmark = pytest.mark.envoy

SECRET = "{apiVersion: v1, kind: Secret, metadata: {name: pull}, data: {.dockerconfigjson: '%s'}}"


def plugin(url: str, more: str = "") -> str:
    return f"""
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: p}}
spec: {{selector: {{matchLabels: {{app: edge}}}}, url: '{url}', {more}}}
---
"""


async def answer(edge: Agent) -> tuple[int, str]:
    """The status and the module's header of an answer; (0, "") if there is none."""
    try:
        response = await edge.request(8080, "/")
    except (OSError, asyncio.IncompleteReadError):
        return 0, ""
    return response.status, response.headers.get("x-wasm", "")


async def until(edge: Agent, expected: tuple[int, str]) -> None:
    async with asyncio.timeout(30):
        while await answer(edge) != expected:
            await asyncio.sleep(0.02)


async def test_a_module_of_a_registry_runs_at_a_gateway(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSTRIA_ALLOWED_CIDRS_IN_MODULE_URLS", "127.0.0.0/8")
    with registry(secured=True) as images:
        url = f"oci://127.0.0.1:{images.port}/team/p"
        async with (
            asyncio.timeout(100),
            ground(tmp_path, ANSWERING_GATEWAY) as mesh,
            mesh.agent("edge", role="router") as edge,
        ):
            await edge.ready()
            await until(edge, (200, ""))
            # Nobody has pushed it yet: all is refused, or passes, as the plugin says.
            mesh.source.apply(plugin(f"{url}:v1", "imagePullSecret: pull"))
            await until(edge, (403, ""))
            mesh.source.apply(plugin(f"{url}:v1", "imagePullSecret: pull, failStrategy: FAIL_OPEN"))
            await until(edge, (200, ""))
            images.push("team/p", "v1", module(value="one"))
            mesh.source.apply(SECRET % base64.b64encode(images.docker_config).decode())
            await until(edge, (200, "one"))
            # What ran goes on until the newer one is there.
            mesh.source.apply(plugin(f"{url}:v2", "imagePullSecret: pull"))
            await mesh.plane.wait_enforced(mesh.plane.db.epoch)
            assert await answer(edge) == (200, "one")
            images.push("team/p", "v2", module(value="two"))
            await until(edge, (200, "two"))
            manifests = [path for path in images.asked if "/manifests/" in path]
            assert sorted(set(manifests)) == ["/v2/team/p/manifests/v1", "/v2/team/p/manifests/v2"]
            mesh.source.delete(ObjectKey("", "WasmPlugin", "default", "p"))
            await until(edge, (200, ""))
            assert mesh.plane.problems() == ()
