"""Listeners that one connects to by oneself: HTTP proxies, Unix sockets, ports that are not captured. Real Envoy."""

from __future__ import annotations

import asyncio
import pathlib

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.file_envoy import Backend, FileEnvoy, Response, file_envoy, free_port, http_get, read_response, serving
from doubles.meshes import Mesh
from doubles.sent_resources import sent
from ostria.base import ObjectKey
from ostria.mesh.settings import Settings
from ostria.mesh.traits import ClientTraits

pytestmark = pytest.mark.envoy

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example.com]
  ports:
  - {{number: 80, name: http, protocol: {protocol}, targetPort: {first}}}
  - {{number: 81, name: http-too, protocol: {protocol}, targetPort: {second}}}
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
"""
SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  egress:
  - {{port: {{number: {port}, protocol: HTTP_PROXY, name: proxy}}, captureMode: NONE, hosts: [./a.example.com]}}
  - {{port: {{protocol: HTTP, name: socket}}, bind: 'unix://{socket}', hosts: [./a.example.com]}}
  - {{port: {{protocol: TCP, name: bytes}}, bind: 'unix://{socket}.raw', hosts: [./b.example.com]}}
  - {{hosts: [./b.example.com]}}
  outboundTrafficPolicy: {{mode: {mode}}}
"""
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: "proxyHttpPort: {port}"}}
"""
OWN = ClientTraits(namespace="default", sidecar=ObjectKey("", "Sidecar", "default", "own"))


def run(tmp_path: pathlib.Path, mesh: Mesh, client: ClientTraits, *names: str) -> FileEnvoy:
    """An Envoy with these of a proxy's listeners."""
    found = sent(mesh.db, client, ())
    found["listeners"] = [body for body in found["listeners"] if Listener.FromString(body).name in names]
    assert len(found["listeners"]) == len(names)
    return file_envoy(tmp_path, **found)


async def of_socket(path: pathlib.Path, authority: str) -> Response:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
    return await read_response(reader)


async def test_requests_say_which_host_and_port_they_are_for(tmp_path: pathlib.Path) -> None:
    first, second, third = Backend("first"), Backend("second"), Backend("third")
    port, path = free_port(), tmp_path / "s"
    async with serving(first, second, third):
        mesh = Mesh(
            SERVICE.format(name="a", protocol="HTTP", first=first.port, second=second.port),
            SERVICE.format(name="b", protocol="TCP", first=third.port, second=third.port),
            SIDECAR.format(port=port, socket=path, mode="REGISTRY_ONLY"),
        )
        names = (f"127.0.0.1_{port}", f"unix://{path}_0", f"unix://{path}.raw_0")
        async with run(tmp_path, mesh, OWN, *names) as envoy:
            for authority, backend in (
                ("a.example.com", "first"),
                ("a.example.com:80", "first"),
                ("a.example.com:81", "second"),
            ):
                answer = await http_get(port, "/", authority=authority)
                assert answer.json()["backend"] == backend
                # As an HTTP client asks its proxy: by the whole address.
                answer = await http_get(port, f"http://{authority}/", authority=authority)
                assert answer.json()["backend"] == backend
                assert (await of_socket(path, authority)).json()["backend"] == backend
            # What is not imported there is not known there.
            assert (await http_get(port, "/", authority="b.example.com")).status == 502
            # Bytes go to the one service that is imported.
            assert (await of_socket(pathlib.Path(f"{path}.raw"), "whatever")).json()["backend"] == "third"
            assert envoy.errors() == []


async def test_the_meshs_http_proxy_knows_everything_and_looks_up_the_rest(tmp_path: pathlib.Path) -> None:
    here, there = Backend("here"), Backend("there")
    port = free_port()
    async with serving(here, there):
        mesh = Mesh(
            SERVICE.format(name="a", protocol="HTTP", first=here.port, second=here.port), CONFIG.format(port=port)
        )
        client = ClientTraits(namespace="default")
        async with run(tmp_path, mesh, client, f"127.0.0.1_{port}") as envoy:
            assert (await http_get(port, "/", authority="a.example.com:81")).json()["backend"] == "here"
            answer = await http_get(port, "/", authority=f"elsewhere.localhost:{there.port}")
            assert answer.json()["backend"] == "there"
            assert envoy.errors() == []


INGRESS = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  ingress:
  - port: {{number: {port}, protocol: HTTP, name: http}}
    captureMode: NONE
    bind: 127.0.0.1
    defaultEndpoint: 127.0.0.1:{to}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: own}}
spec: {{mtls: {{mode: DISABLE}}}}
"""


@pytest.mark.parametrize(("http10", "status"), [(False, 426), (True, 200)])
async def test_a_port_that_capture_brings_nothing_to_is_listened_on(
    tmp_path: pathlib.Path, http10: bool, status: int
) -> None:
    own = Backend("own")
    port = free_port()
    async with serving(own):
        mesh = Mesh(INGRESS.format(port=port, to=own.port), settings=Settings(http10=http10))
        found = sent(mesh.db, OWN, ())
        clusters = [Cluster.FromString(body) for body in found["clusters"]]
        for cluster in clusters:
            cluster.ClearField("upstream_bind_config")  # Capture's own address is not there without capture.
        found["clusters"] = [cluster.SerializeToString() for cluster in clusters]
        bodies = {Listener.FromString(body).name: body for body in found["listeners"]}
        captured = Listener.FromString(bodies["virtualInbound"])
        assert port not in {chain.filter_chain_match.destination_port.value for chain in captured.filter_chains}
        found["listeners"] = [bodies[f"inbound_127.0.0.1_{port}"]]
        async with file_envoy(tmp_path, **found) as envoy:
            assert (await http_get(port, "/", authority="whoever")).json()["backend"] == "own"
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\nhost: whoever\r\n\r\n")
            assert (await read_response(reader)).status == status
            writer.close()
            assert envoy.errors() == []
