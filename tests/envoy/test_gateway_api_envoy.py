"""Real Envoy does what the Gateway API says: the filters of a rule, answers without a backend, certificates elsewhere.

The mesh is YAML, and Envoy is sent what the catalogue has for the proxy of the Gateway.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator

import pytest

from doubles.certificates import Authority, write_identity
from doubles.file_envoy import Backend, file_envoy, free_port, http_get, serving
from doubles.meshes import Mesh, endpoint_slice, service
from doubles.sent_resources import sent
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of

pytestmark = pytest.mark.envoy

EDGE = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: default
  labels: {{gateway.networking.k8s.io/gateway-name: edge}}
  annotations: {{inject.istio.io/templates: gateway}}
---
apiVersion: v1
kind: Service
metadata: {{name: edge-istio, namespace: default}}
spec:
  clusterIP: 10.96.0.100
  selector: {{gateway.networking.k8s.io/gateway-name: edge}}
  ports: [{{port: {plain}, name: http}}, {{port: {secure}, name: https}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: default}}
spec:
  gatewayClassName: istio
  listeners:
  - {{name: plain, port: {plain}, protocol: HTTP}}
  - name: secure
    port: {secure}
    protocol: HTTPS
    hostname: secure.example
    tls: {{certificateRefs: [{{name: shown, namespace: certificates}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: shown, namespace: certificates}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}}]
  to: [{{group: "", kind: Secret, name: shown}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: default}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - matches: [{{path: {{value: /old}}}}]
    filters:
    - type: URLRewrite
      urlRewrite: {{hostname: inner.example, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}
    - type: RequestHeaderModifier
      requestHeaderModifier: {{set: [{{name: x-set, value: a}}], add: [{{name: x-add, value: b}}], remove: [x-gone]}}
    - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-answer, value: c}}]}}}}
    backendRefs: [{{name: web, port: 80}}]
  - matches: [{{path: {{type: Exact, value: /whole}}}}]
    filters:
    - {{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: /full}}}}}}
    backendRefs: [{{name: web, port: 80}}]
  - matches: [{{path: {{value: /moved}}}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {{statusCode: 301, path: {{type: ReplacePrefixMatch, replacePrefixMatch: /}}}}
  - matches: [{{path: {{value: /tls}}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https}}}}]
  - matches: [{{path: {{value: /nobody}}}}]
    backendRefs: [{{name: nobody, port: 80}}]
  - matches: [{{path: {{value: /nothing}}}}]
    backendRefs: [{{name: web, port: 80, weight: 0}}]
  - matches: [{{path: {{value: /copied}}}}]
    filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: copy, port: 80}}}}}}]
    backendRefs: [{{name: web, port: 80}}]
  - matches: [{{path: {{value: /plain}}}}]
    backendRefs: [{{name: web, port: 80}}]
"""


class Edge:
    def __init__(self) -> None:
        self.plain, self.secure = free_port(), free_port()
        self.web, self.copy = Backend("web"), Backend("copy")
        self.authority = Authority()


def secret(name: str, namespace: str, certificate: bytes, key: bytes) -> str:
    data = f"{{tls.crt: {base64.b64encode(certificate).decode()}, tls.key: {base64.b64encode(key).decode()}}}"
    return f"{{apiVersion: v1, kind: Secret, metadata: {{name: {name}, namespace: {namespace}}}, data: {data}}}"


@contextlib.asynccontextmanager
async def edge(folder: pathlib.Path) -> AsyncIterator[Edge]:
    at = Edge()
    shown = at.authority.issue("secure.example")
    async with serving(at.web, at.copy):
        mesh = Mesh(
            EDGE.format(plain=at.plain, secure=at.secure),
            secret("shown", "certificates", shown.certificate, shown.key),
            service("web", 80, ip="10.96.0.1"),
            endpoint_slice("web", {"web": "127.0.0.1"}, port=at.web.port),
            service("copy", 80, ip="10.96.0.2"),
            endpoint_slice("copy", {"copy": "127.0.0.1"}, port=at.copy.port),
        )
        client = traits_of(mesh.db, ObjectKey("", "Pod", "default", "edge"))
        assert client is not None
        identity = write_identity(folder, at.authority.issue("spiffe://cluster.local/ns/a/sa/gateway"))
        resources = sent(mesh.db, client, ("kubernetes-gateway://certificates/shown",))
        async with file_envoy(folder, replace=identity, **resources) as envoy:
            yield at
            assert envoy.errors() == []


async def test_filters(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        answer = await http_get(
            at.plain, "/old/page?a=b", authority="a.example", headers=[("x-gone", "1"), ("x-add", "0")]
        )
        seen = answer.json()
        assert (seen["path"], seen["headers"]["host"]) == ("/page?a=b", "inner.example")
        assert seen["headers"]["x-set"] == "a"
        assert "b" in seen["headers"]["x-add"]
        assert "x-gone" not in seen["headers"]
        assert answer.headers["x-answer"] == "c"
        assert (await http_get(at.plain, "/old", authority="a.example")).json()["path"] == "/"
        assert (await http_get(at.plain, "/older", authority="a.example")).status == 404
        assert (await http_get(at.plain, "/whole", authority="a.example")).json()["path"] == "/full"


async def test_redirects(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        moved = await http_get(at.plain, "/moved/here", authority="a.example")
        assert (moved.status, moved.headers["location"]) == (301, f"http://a.example:{at.plain}/here")
        tls = await http_get(at.plain, "/tls", authority="a.example")
        assert (tls.status, tls.headers["location"]) == (302, "https://a.example/tls")


async def test_what_leads_nowhere_answers_500(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        assert (await http_get(at.plain, "/nobody", authority="a.example")).status == 500
        assert (await http_get(at.plain, "/nothing", authority="a.example")).status == 500


async def test_a_copy_is_sent_and_its_answer_thrown_away(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        assert (await http_get(at.plain, "/copied", authority="a.example")).json()["backend"] == "web"
        while not at.copy.requests:
            await http_get(at.plain, "/plain", authority="a.example")


async def test_a_certificate_of_another_namespace(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        context = ssl.create_default_context(cadata=at.authority.certificate.decode())
        context.check_hostname = False
        _, writer = await asyncio.open_connection("127.0.0.1", at.secure, ssl=context, server_hostname="secure.example")
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert()["subjectAltName"]
        finally:
            writer.close()
        assert shown == (("DNS", "secure.example"),)
