"""What istiod logs of a change that people have made: when how many proxies have accepted it."""

from __future__ import annotations

import asyncio
import logging
import pathlib

import pytest

from doubles.control_planes import control_plane
from ostria.apps.control_plane import ENFORCED

BOUND = 30.0

MESH = """
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: default}
spec: {serviceAccountName: default, containers: [{name: a}]}
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ports: [{name: http, port: 9080}]}
"""

ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec: {hosts: [reviews], http: [{timeout: 3s, route: [{destination: {host: reviews}}]}]}
"""


@pytest.mark.envoy
async def test_a_change_is_told_with_the_proxies_that_have_accepted_it(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.message == ENFORCED]

    with caplog.at_level(logging.INFO, logger="ostria.istiod"):
        async with asyncio.timeout(BOUND), control_plane(tmp_path, MESH) as mesh, mesh.proxy("caller") as proxy:
            await proxy.wait_ready()
            await mesh.settled()
            assert told() == [], "what was there at the start is no change"
            mesh.source.apply(ROUTE)
            await mesh.until(lambda: bool(told()))
    (record,) = told()
    assert record.__dict__["objects"] == ["VirtualService default/reviews"]
    assert record.__dict__["proxies"] == 1
    assert record.__dict__["milliseconds"] > 0
