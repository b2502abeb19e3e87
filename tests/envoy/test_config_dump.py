"""What a real Envoy says that it holds, read for people: the names, ports and objects that the mesh gave it."""

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest

from doubles.control_planes import control_plane
from doubles.meshes import pod
from ostria.envoy import config_dump
from ostria.envoy.config_dump import Sync

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: default}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec:
  clusterIP: 10.96.1.1
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews, namespace: default, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports: [{name: http, port: 9080}]
endpoints: [{addresses: [10.0.0.50], conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /api}}]
    route: [{destination: {host: reviews}}]
"""
OPEN = {"grpc.xds-grpc.streams_total": "2", "grpc.xds-grpc.streams_closed_14": "1"}
REVIEWS = "reviews.default.svc.cluster.local"


@pytest.mark.envoy
async def test_a_real_envoy_is_read(tmp_path: pathlib.Path) -> None:
    text = "---".join((MESH, pod("client", "10.0.0.77", {"app": "client"})))
    async with asyncio.timeout(60), control_plane(tmp_path, text) as ground, ground.proxy("client") as envoy:
        await envoy.wait_ready()
        await ground.settled()
        dump = await envoy.config()
        hosts = json.loads(await envoy.admin("/clusters?format=json"))
        lines = (await envoy.admin("/stats?filter=xds-grpc")).splitlines()
        stats = dict(line.split(": ", 1) for line in lines)
    assert (REVIEWS, "9080", "-", "outbound", "EDS", "reviews.default") in config_dump.clusters(dump)
    assert (REVIEWS, "9080", "v1", "outbound", "EDS", "reviews.default") in config_dump.clusters(dump)
    route = next(row for row in config_dump.routes(dump) if row[4] and row[0] == "9080")
    assert (route[0], route[1], route[3], route[4]) == ("9080", f"{REVIEWS}:9080", "/api*", "reviews.default")
    assert ("10.0.0.50:9080", "HEALTHY", "OK", f"outbound|9080||{REVIEWS}") in config_dump.endpoints(hosts)
    ports = {row[1] for row in config_dump.listeners(dump)}
    assert {"15001", "15006", "9080"} <= ports
    assert any(row[3] == "Route: 9080" for row in config_dump.listeners(dump))
    assert {row[:3] for row in config_dump.secrets(dump)} >= {
        ("default", "Cert Chain", "ACTIVE"),
        ("ROOTCA", "CA", "ACTIVE"),
    }
    assert b"BEGIN CERTIFICATE" in config_dump.certificate(dump, "default")
    assert config_dump.bootstrap(dump)["node"]["id"].startswith("sidecar~")
    said = config_dump.status(dump, stats)
    assert (said.cds, said.lds, said.eds, said.rds) == (Sync.SYNCED,) * 4
    assert said.version.startswith("1.")


def dump_of(**sections: list[dict[str, object]]) -> dict[str, object]:
    """A config dump with dynamic clusters or listeners as they are given."""
    kinds = {"dynamic_active_clusters": "Clusters", "dynamic_listeners": "Listeners"}
    return {
        "configs": [
            {"@type": f"type.googleapis.com/envoy.admin.v3.{kinds[name]}ConfigDump", name: entries}
            for name, entries in sections.items()
        ]
    }


@pytest.mark.parametrize(
    ("entry", "stats", "expected"),
    [
        ({"cluster": {"name": "a"}}, OPEN, Sync.SYNCED),
        (
            {"cluster": {"name": "a"}},
            {"grpc.xds-grpc.streams_total": "2", "grpc.xds-grpc.streams_closed_14": "2"},
            Sync.STALE,
        ),
        ({"cluster": {"name": "a"}}, {}, Sync.STALE),
        (
            {"cluster": {"name": "a"}, "error_state": {"details": "no"}},
            OPEN,
            Sync.ERROR,
        ),
    ],
)
def test_a_proxy_is_synced_only_if_it_is_connected_and_refuses_nothing(
    entry: dict[str, object], stats: dict[str, str], expected: Sync
) -> None:
    found = config_dump.status(dump_of(dynamic_active_clusters=[entry]), stats)
    assert found.cds is expected
    assert found.lds is Sync.NOT_SENT


def test_names_that_are_not_the_meshs_are_shown_as_they_are() -> None:
    dump = dump_of(dynamic_active_clusters=[{"cluster": {"name": "xds-grpc", "type": "STATIC"}}])
    assert config_dump.clusters(dump) == [("xds-grpc", "-", "-", "-", "STATIC", "")]


def test_matches_of_filter_chains_are_put_into_words() -> None:
    chain = {
        "filter_chain_match": {"server_names": ["a.b"], "transport_protocol": "tls", "destination_port": 80},
        "filters": [{"typed_config": {"cluster": "outbound|80||a"}}],
    }
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 443}}
    listener = {"active_state": {"listener": {"address": address, "filter_chains": [chain]}}}
    assert config_dump.listeners(dump_of(dynamic_listeners=[listener])) == [
        ("0.0.0.0", "443", "SNI: a.b; Trans: tls; Addr: *:80", "Cluster: outbound|80||a")
    ]
