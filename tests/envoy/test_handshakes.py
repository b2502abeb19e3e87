"""What MeshConfig says of handshakes: of the mesh's own, and of all others."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from doubles.meshes import Mesh, pod, service
from ostria.base import ObjectKey
from ostria.envoy import catalogue
from ostria.envoy.fragments import ResourceType
from ostria.mesh.clients import traits_of
from ostria.resources import read_text

CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    meshMTLS: {minProtocolVersion: TLSV1_3, ecdhCurves: [P-384], cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384, NONE]}
    tlsDefaults: {minProtocolVersion: TLSV1_3, ecdhCurves: [X25519, P-999], cipherSuites: [AES128-SHA]}
"""
MESH = """
apiVersion: v1
kind: Pod
metadata: {name: edge, labels: {istio: edge}, annotations: {inject.istio.io/templates: gateway}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 1, name: a, protocol: HTTPS}, hosts: [a.b], tls: {mode: SIMPLE, credentialName: a}}
  - {port: {number: 1, name: b, protocol: HTTPS}, hosts: [b.b], tls: {mode: ISTIO_MUTUAL}}
  - {port: {number: 1, name: c, protocol: HTTPS}, hosts: [c.b],
     tls: {mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_1, cipherSuites: [AES256-SHA]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside}
spec: {host: outside, trafficPolicy: {tls: {mode: SIMPLE}}}
"""


def parameters(mesh: Mesh, kind: ResourceType, name: str, at: str) -> list[dict[str, Any]]:
    """The least version, suites and curves of every TLS context of one resource, without what is no TLS."""
    client = traits_of(mesh.db, ObjectKey("", "Pod", "default", at))
    assert client is not None
    found = catalogue.fragment(mesh.db, kind, name, client)
    assert found is not None
    if kind is ResourceType.CLUSTER:
        cluster = Cluster.FromString(found.body)
        sockets = [cluster.transport_socket, *(each.transport_socket for each in cluster.transport_socket_matches)]
        context: Any = UpstreamTlsContext
    else:
        sockets = [chain.transport_socket for chain in Listener.FromString(found.body).filter_chains]
        context = DownstreamTlsContext
    told = []
    for socket in sockets:
        if socket.name.endswith("tls"):
            asked = context.FromString(socket.typed_config.value).common_tls_context.tls_params
            told.append((asked.tls_minimum_protocol_version, tuple(asked.cipher_suites), tuple(asked.ecdh_curves)))
    return list(dict.fromkeys(told))


OWN = (4, ("ECDHE-RSA-AES256-GCM-SHA384",), ("P-384",))
OTHER = (3, ("AES128-SHA",), ("X25519",))


@pytest.mark.parametrize(
    ("kind", "name", "at", "expected"),
    [
        (ResourceType.LISTENER, "virtualInbound", "a", [OWN]),
        (ResourceType.CLUSTER, "outbound|80||inside.default.svc.cluster.local", "a", [OWN]),
        (ResourceType.CLUSTER, "outbound|80||outside.default.svc.cluster.local", "a", [OTHER]),
        (ResourceType.LISTENER, "0.0.0.0_1", "edge", [OTHER, OWN, (2, ("AES256-SHA",), ("X25519",))]),
    ],
)
def test_the_meshs_own_and_all_others(kind: ResourceType, name: str, at: str, expected: list[object]) -> None:
    services = (service(name, 80, ip=ip) for name, ip in (("inside", "10.96.0.1"), ("outside", "10.96.0.2")))
    mesh = Mesh(MESH, pod("a", "10.0.0.1", {"app": "a"}), *services)
    usual = parameters(mesh, kind, name, at)
    mesh.apply(CONFIG)
    assert parameters(mesh, kind, name, at) == expected
    mesh.apply(CONFIG.partition("\ndata:")[0])
    assert parameters(mesh, kind, name, at) == usual


def test_names_that_envoy_does_not_know_are_told() -> None:
    (change,) = read_text(CONFIG, "f.yaml").changes
    assert [(problem.code, problem.field) for problem in change.problems] == [
        ("unknown-cipher-suite", "data.mesh.meshMTLS.cipherSuites[1]"),
        ("invalid-value", "data.mesh.tlsDefaults.ecdhCurves[1]"),
    ]
