"""Modules and scripts in real Envoys: what they do to requests, and what becomes of those that Envoy refuses."""

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest

from doubles.control_planes import control_plane
from doubles.envoy_process import EnvoyProcess
from doubles.meshes import pod, service
from doubles.wasm_module import module
from ostria.base import ObjectKey

pytestmark = pytest.mark.envoy

MESH = "---".join((service("reviews", ip="10.96.0.1"), pod("client", "10.0.0.77", {"app": "reviews"})))


def extension(kind: str, name: str, spec: str) -> str:
    return f"""
apiVersion: extensions.istio.io/v1alpha1
kind: {kind}
metadata: {{name: {name}, namespace: default}}
spec: {{{spec}}}
---
"""


async def extensions(envoy: EnvoyProcess) -> set[str]:
    """The extensions that an Envoy runs: those whose configuration it has, those of connections too."""
    dump = json.loads(await envoy.admin("/config_dump"))
    found = (part for part in dump["configs"] if part["@type"].endswith("EcdsConfigDump"))
    return {each["ecds_filter"]["name"].rpartition(".")[2] for part in found for each in part["ecds_filters"]}


async def test_scripts_and_modules_are_taken_and_a_broken_one_is_set_aside(tmp_path: pathlib.Path) -> None:
    good, broken = tmp_path / "good.wasm", tmp_path / "broken.wasm"
    good.write_bytes(module())
    broken.write_bytes(module()[:-20])
    documents = (
        extension("WasmPlugin", "good", f"url: 'file://{good}', pluginConfig: {{a: 1}}"),
        extension("TrafficExtension", "script", "lua: {inlineCode: 'function envoy_on_request(handle) end'}"),
        extension("TrafficExtension", "connections", f"wasm: {{url: 'file://{good}', type: NETWORK}}"),
    )
    bad = {
        ObjectKey("", "WasmPlugin", "default", "broken"): f"url: 'file://{broken}'",
        ObjectKey("", "WasmPlugin", "default", "absent"): "url: 'file:///nowhere.wasm'",
        ObjectKey("", "TrafficExtension", "default", "typo"): "lua: {inlineCode: 'function ('}",
    }
    async with asyncio.timeout(60), control_plane(tmp_path, MESH) as ground, ground.proxy("client") as sidecar:
        ground.source.apply("".join(documents))
        await sidecar.wait_ready()
        await ground.settled()
        assert ground.refusals() == []
        for key, spec in bad.items():
            ground.source.apply(extension(key.kind, key.name, spec))
        # Each by itself.
        await ground.until(lambda: all("ostria.dev/refused" in str(ground.source.document(key)) for key in bad))
        await ground.settled()
        assert {problem.object for problem in ground.istiod.problems()} == set(bad)
        assert await extensions(sidecar) == {"good", "script", "connections"}
