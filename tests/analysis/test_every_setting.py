"""No setting of the mesh is silently ignored: each field of MeshConfig changes what follows, or it is said not to."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import pytest

from doubles.consequences import follows
from doubles.meshes import Mesh
from ostria.base import ObjectKey
from ostria.resources import problems
from ostria.resources.fields import fields_of
from ostria.resources.mesh_config import ACCEPTED, MeshConfig

WORLD = (pathlib.Path(__file__).parent / "every_field" / "world.yaml").read_text()
CONFIG_MAP = ObjectKey("", "ConfigMap", "istio-system", "istio")

# What meets the settings that the world alone does not.
MORE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: default}
spec: {hosts: [outside.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: b, namespace: default}
spec: {host: b, trafficPolicy: {connectionPool: {http: {maxRetries: 3}}, outlierDetection: {consecutive5xxErrors: 2}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: everywhere, namespace: mesh-wide}
spec: {host: "*.local", trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: outside, namespace: default}
spec: {host: outside.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}
---
apiVersion: v1
kind: Service
metadata: {name: another, namespace: istio-system}
spec: {clusterIP: 10.0.0.8, selector: {app: nobody}, ports: [{name: http, port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: default, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules:
  - host: shop.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: other, namespace: default, annotations: {kubernetes.io/ingress.class: edge}}
spec:
  rules:
  - host: other.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}
"""

SETTINGS: dict[str, Any] = {
    "proxyHttpPort": 3128,
    "connectTimeout": "3s",
    "protocolDetectionTimeout": "7s",
    "tcpKeepalive": {"probes": 3},
    "ingressClass": "edge",
    "ingressService": "another",
    "ingressControllerMode": "OFF",
    "ingressSelector": "another",
    "accessLogFile": "/dev/stdout",
    "accessLogFormat": "%PROTOCOL%",
    "accessLogEncoding": "JSON",
    "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    "inboundTrafficPolicy": {"mode": "LOCALHOST"},
    "enableAutoMtls": False,
    "trustDomain": "example.com",
    "trustDomainAliases": ["old.example.com"],
    "defaultServiceExportTo": ["."],
    "defaultVirtualServiceExportTo": ["."],
    "defaultDestinationRuleExportTo": ["."],
    "rootNamespace": "mesh-wide",
    "localityLbSetting": {"enabled": False},
    "dnsRefreshRate": "7s",
    "h2UpgradePolicy": "UPGRADE",
    "discoverySelectors": [{"matchLabels": {"team": "a"}}],
    "pathNormalization": {"normalization": "MERGE_SLASHES"},
    "defaultHttpRetryPolicy": {"attempts": 7},
    "meshMTLS": {"minProtocolVersion": "TLSV1_3"},
    "tlsDefaults": {"ecdhCurves": ["P-256"]},
}

# What a field says nothing without.
BESIDE = {
    "accessLogFormat": {"accessLogFile": "/dev/stdout"},
    "accessLogEncoding": {"accessLogFile": "/dev/stdout", "accessLogFormat": '{"a": "%PROTOCOL%"}'},
}

# What becomes of these is seen elsewhere: in pods that are injected, in AuthorizationPolicies that name a provider, and
# in what comes with workloads' certificates.
ELSEWHERE = ("caCertificates", "defaultConfig", "enablePrometheusMerge", "extensionProviders")


def config_map(settings: dict[str, Any]) -> str:
    data = json.dumps({"mesh": json.dumps(settings)})
    return f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {data}}}"


@functools.cache
def mesh() -> Mesh:
    return Mesh(WORLD, MORE)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_an_effect(name: str):
    beside = BESIDE.get(name, {})
    before = follows(mesh().apply(config_map(beside)).db)
    assert follows(mesh().apply(config_map({**beside, name: SETTINGS[name]})).db) != before
    assert problems(mesh().db, CONFIG_MAP) is None
    assert follows(mesh().apply(config_map(beside)).db) == before


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_setting_without_an_effect_says_so(name: str):
    mesh().apply(config_map({name: None}))
    (told,) = problems(mesh().db, CONFIG_MAP) or ()
    assert (told.code, told.field) == ("not-acted-on", f"data.mesh.{name}")
    assert told.hint


def test_that_is_all_of_them():
    assert fields_of(MeshConfig).keys() == SETTINGS.keys() | set(ELSEWHERE)
