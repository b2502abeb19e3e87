"""An issuer's keys from its server to a real Envoy, by way of istiod: the first, the new ones, and none at all."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from doubles.agents import Agent, gateway_pod, ground
from doubles.key_server import answer, key_server
from doubles.token_issuer import TokenIssuer, bearer
from ostria.analysis import findings
from ostria.apps.addresses import AddressRules, networks
from ostria.apps.key_sets import KeySettings

pytestmark = pytest.mark.envoy

ONE, NEXT = TokenIssuer(), TokenIssuer(number=1)
WAYS_IN = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: edge}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{directResponse: {status: 200}}]
---
"""


def policy(uri: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec: {{jwtRules: [{{issuer: '{ONE.name}', jwksUri: '{uri}'}}]}}
---
"""


async def until(edge: Agent, issuer: TokenIssuer, status: int) -> None:
    token = bearer(issuer.token())
    async with asyncio.timeout(30):
        while (await edge.request(8080, "/", headers=token)).status != status:
            await asyncio.sleep(0.02)


async def test_keys_reach_proxies_and_change_there(tmp_path: pathlib.Path) -> None:
    keys = KeySettings(refresh=0.1, rules=AddressRules(allowed=networks("127.0.0.0/8")))
    async with asyncio.timeout(100), key_server(ONE.published()) as server:
        text = gateway_pod("edge", "app: edge") + "---" + WAYS_IN + policy(server.url())
        async with ground(tmp_path, text, keys=keys) as mesh, mesh.agent("edge", role="router") as edge:
            await edge.ready()
            await until(edge, ONE, 200)
            await until(edge, NEXT, 401)
            server.by_path["/keys"] = answer(NEXT.published())
            await until(edge, NEXT, 200)
            await until(edge, ONE, 401)
            # What cannot be fetched anew goes on, and is told of.
            server.by_path["/keys"] = answer("gone", 503)
            async with asyncio.timeout(30):
                while not findings(mesh.plane.db):
                    await asyncio.sleep(0.02)
            await until(edge, NEXT, 200)
            # Another place that has never had any: nobody is let in by a token.
            mesh.source.apply(policy(server.url("/none")))
            await until(edge, NEXT, 401)
            assert (await edge.request(8080, "/")).status == 200
