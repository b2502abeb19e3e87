"""EnvoyFilters that change what Envoy is started with: asked for by the agent, tried before they are used."""

from __future__ import annotations

import json
import pathlib

import pytest

from doubles.agents import gateway_pod, ground
from doubles.patched import envoy_filter

pytestmark = pytest.mark.envoy

ASKING = {"BOOTSTRAP_XDS_AGENT": "true"}


def bootstrap(value: str, name: str, more: str = "") -> str:
    return envoy_filter(
        f"[{{applyTo: BOOTSTRAP, match: {{{more}}}, patch: {{operation: MERGE, value: {value}}}}}]", name
    )


@pytest.mark.parametrize("asks", [True, False])
async def test_a_bootstrap_is_patched_for_who_asks(tmp_path: pathlib.Path, asks: bool) -> None:
    text = "---".join(
        (
            gateway_pod("edge", "app: edge"),
            bootstrap("{stats_flush_interval: 7s}", "interval"),
            bootstrap("{node: {cluster: mine}}", "sidecars", "context: SIDECAR_OUTBOUND"),
            bootstrap("{node: {cluster: mine}}", "tier", "proxy: {metadata: {TIER: back}}"),
        )
    )
    env = {"ISTIO_META_TIER": "front", **(ASKING if asks else {})}
    async with ground(tmp_path, text) as mesh, mesh.agent("edge", role="router", env=env) as edge:
        await edge.ready()
        found = json.loads(edge.pod.file("/etc/istio/proxy/envoy-rev.json").read_text())
        assert found.get("stats_flush_interval") == ("7s" if asks else None)
        assert found["node"]["cluster"] != "mine"
        assert found["node"]["metadata"]["TIER"] == "front"


async def test_envoy_starts_without_what_it_refuses(tmp_path: pathlib.Path) -> None:
    text = "---".join((gateway_pod("edge", "app: edge"), bootstrap("{stats_flush_interval: 0.0001s}", "broken")))
    async with ground(tmp_path, text) as mesh, mesh.agent("edge", role="router", env=ASKING) as edge:
        await edge.ready()
        assert "Envoy refuses it with its patches" in edge.pod.log
