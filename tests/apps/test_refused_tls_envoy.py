"""TLS that a rule asks for and Envoy refuses: such calls fail, and are never made in plaintext."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import pytest

from doubles.control_planes import control_plane
from doubles.envoy_process import EnvoyProcess
from doubles.meshes import pod

pytestmark = pytest.mark.envoy

MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner}
spec:
  hosts: [partner.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 192.0.2.1}]
---
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: partner}
spec:
  host: partner.example.com
  trafficPolicy: {tls: {%s}}
"""
CLUSTER = "outbound|80||partner.example.com"


async def tls_of(envoy: EnvoyProcess) -> str:
    """How the partner is called: "plaintext", "no cluster", or whom TLS trusts."""
    dump = await envoy.config()
    for section in dump["configs"]:
        for kind in ("dynamic_active_clusters", "dynamic_warming_clusters"):
            for entry in section.get(kind, ()):
                if entry["cluster"]["name"] == CLUSTER:
                    return _roots(entry["cluster"])
    return "no cluster"


def _roots(cluster: dict[str, Any]) -> str:
    if "transport_socket" not in cluster:
        return "plaintext"
    common = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    combined = common.get("combined_validation_context", {})
    named = combined.get("validation_context_sds_secret_config", {}).get("name", "")
    return str(named or common["validation_context"]["trusted_ca"]["filename"])


async def test_what_envoy_refuses_of_a_rules_tls_never_becomes_plaintext(tmp_path: pathlib.Path) -> None:
    text = "---".join((MESH.rstrip("-\n") + "\n", pod("client", "10.0.0.7", {"app": "client"})))
    async with asyncio.timeout(60), control_plane(tmp_path, text) as ground, ground.proxy("client") as envoy:
        await envoy.wait_ready()
        await ground.settled()
        assert await tls_of(envoy) == "plaintext"
        # Files that are not there: one that is named, and the roots of the proxy's own system.
        for tls, file in (("mode: SIMPLE, caCertificates: /no/file", "/no/file"), ("mode: SIMPLE", "/etc/ssl/certs/")):
            ground.source.apply(RULE % tls)
            await ground.until(lambda file=file: any(file in each.message for each in ground.istiod.problems()))
            await ground.settled()
            assert await tls_of(envoy) == "missing://refused-cacert"
            ready = await envoy.stats(f"cluster.{CLUSTER}.membership_total")
            assert ready, "it is no cluster that waits for ever"
        (tmp_path / "client/etc/ssl/certs").mkdir(parents=True)
        (tmp_path / "client/etc/ssl/certs/mine.crt").write_bytes(ground.authority.certificate)
        ground.source.apply(RULE % "mode: SIMPLE, caCertificates: /etc/ssl/certs/mine.crt")
        await ground.until(lambda: not any(each.code == "envoy-refused" for each in ground.istiod.problems()))
        await ground.settled()
        assert await tls_of(envoy) == "/etc/ssl/certs/mine.crt"


@pytest.mark.parametrize(("mode", "has"), [("SIMPLE", "first"), ("MUTUAL", "second")])
async def test_files_that_only_one_of_two_proxies_has_are_used_there(
    tmp_path: pathlib.Path, mode: str, has: str
) -> None:
    """As where an egress gateway alone has a partner's certificates: whoever is asked first, the rule is not to blame;
    and the other does not speak plaintext."""
    pods = (pod("first", "10.0.0.7", {"app": "client"}), pod("second", "10.0.0.8", {"app": "client"}))
    text = "---".join((MESH.rstrip("-\n") + "\n", *pods))
    async with (
        asyncio.timeout(60),
        control_plane(tmp_path, text) as ground,
        ground.proxy("first") as first,
        ground.proxy("second") as second,
    ):
        for envoy in (first, second):
            await envoy.wait_ready()
        await ground.settled()
        folder = tmp_path / has / "etc/ssl/certs"
        folder.mkdir(parents=True)
        own = ground.authority.issue("client.example.com")
        for name, content in (("mine.crt", own.roots), ("tls.crt", own.certificate), ("tls.key", own.key)):
            (folder / name).write_bytes(content)
        files = {"caCertificates": "mine.crt"}
        if mode == "MUTUAL":
            files |= {"clientCertificate": "tls.crt", "privateKey": "tls.key"}
        named = ", ".join(f"{field}: /etc/ssl/certs/{file}" for field, file in files.items())
        ground.source.apply(RULE % f"mode: {mode}, {named}")
        await ground.until(lambda: bool(ground.refusals()))
        await ground.settled()
        found = {"first": await tls_of(first), "second": await tls_of(second)}
        assert found.pop(has) == "/etc/ssl/certs/mine.crt"
        assert list(found.values()) == ["no cluster"]
        assert not ground.istiod.problems()
