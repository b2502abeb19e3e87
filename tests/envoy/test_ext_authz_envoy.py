"""Real Envoy asks whom CUSTOM policies name, over HTTP and gRPC, and does what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from doubles.access_envoy import LOGGING, guarded_envoy
from doubles.file_envoy import free_port
from doubles.meshes import Mesh
from ostria.engine import Engine
from ostria.mesh.traits import ClientTraits

pytestmark = pytest.mark.envoy

HTTP_HOST, GRPC_HOST = "ext-authz-http.local", "ext-authz-grpc.local"
# istio.io: External Authorization; the services beside the workload, the providers, the policy.
WORLD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: external-authz, namespace: default}}
spec:
  hosts: [{host}]
  endpoints: [{{address: 127.0.0.1}}]
  ports: [{{name: {port}, number: 8000, protocol: {protocol}}}]
  resolution: STATIC
---
apiVersion: v1
kind: Service
metadata: {{name: server, namespace: default}}
spec:
  selector: {{app: server}}
  ports: [{{name: http, port: 80}}, {{name: tcp, port: 9000}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: {config}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ext-authz, namespace: default}}
spec:
  selector: {{matchLabels: {{app: server}}}}
  action: CUSTOM
  provider: {{name: sample}}
  rules: [{{to: [{{operation: {{{operation}}}}}]}}]
"""
SERVER = ClientTraits(namespace="default", labels=(("app", "server"),))


def world(host: str, provider: dict[str, Any], operation: str = "paths: [/headers]") -> tuple[Engine, ClientTraits]:
    kind = "envoyExtAuthzGrpc" if host == GRPC_HOST else "envoyExtAuthzHttp"
    made = {"name": "sample", kind: {"service": host, "port": 8000, **provider}}
    config = json.dumps(json.dumps({**LOGGING, "extensionProviders": [made]}))
    protocol = "GRPC" if host == GRPC_HOST else "HTTP"
    mesh = Mesh(WORLD.format(host=host, port=protocol.lower(), protocol=protocol, config=config, operation=operation))
    return mesh.db, SERVER


@contextlib.asynccontextmanager
async def http_authorizer(asked: list[dict[str, Any]]) -> AsyncIterator[int]:
    """Allows what has the header `x-ext-authz: allow`, as Istio's sample does."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *rest = head.decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked.append({"path": first.split(" ")[1], "headers": headers, "body": body.decode()})
                if headers.get("x-ext-authz") == "allow":
                    told = "x-ext-authz-user: me\r\nx-other: no\r\nset-cookie: a=b"
                    writer.write(f"HTTP/1.1 200 OK\r\n{told}\r\ncontent-length: 0\r\n\r\n".encode())
                else:
                    told = "x-ext-authz-reason: header\r\nx-other: no"
                    writer.write(f"HTTP/1.1 401 No\r\n{told}\r\ncontent-length: 6\r\n\r\ndenied".encode())
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_over_http(tmp_path: pathlib.Path) -> None:
    asked: list[dict[str, Any]] = []
    provider = {
        "includeRequestHeadersInCheck": ["x-ext-authz", "x-in-*"],
        "includeAdditionalHeadersInCheck": {"x-added": "value"},
        "headersToUpstreamOnAllow": ["x-ext-authz-*"],
        "headersToDownstreamOnDeny": ["x-ext-authz-*"],
        "headersToDownstreamOnAllow": ["set-cookie"],
        "pathPrefix": "/check",
    }
    async with http_authorizer(asked) as port:
        async with guarded_envoy(tmp_path, {"server": world(HTTP_HOST, provider)}, places={HTTP_HOST: port}) as guarded:
            allow = [("x-ext-authz", "allow"), ("x-in-a", "1"), ("x-out", "2")]
            allowed = await guarded.http("server", "/headers?a=b", headers=allow)
            denied = await guarded.http("server", "/headers", headers=[("x-ext-authz", "no")])
            others = await guarded.http("server", "/ip")
            assert (allowed.status, denied.status, others.status) == (200, 401, 200)
            assert await guarded.tcp("server") == b"bytes"
        headers = dict(allowed.seen["headers"])
        assert (headers["x-ext-authz-user"], headers.get("x-other")) == ("me", None)
        assert allowed.headers["set-cookie"] == "a=b"
        assert (denied.headers["x-ext-authz-reason"], denied.headers.get("x-other")) == ("header", None)
        assert [each["path"] for each in asked] == ["/check/headers?a=b", "/check/headers"]
        seen = asked[0]["headers"]
        assert (seen["x-added"], seen["x-in-a"], seen.get("x-out")) == ("value", "1", None)


async def test_when_nobody_answers(tmp_path: pathlib.Path) -> None:
    worlds = {
        "closed": world(HTTP_HOST, {"statusOnError": "503", "timeout": "1s"}),
        "plain": world(HTTP_HOST, {"timeout": "1s"}),
        "open": world(HTTP_HOST, {"failOpen": True, "timeout": "1s"}),
    }
    async with guarded_envoy(tmp_path, worlds, places={HTTP_HOST: free_port()}) as guarded:
        statuses = [(await guarded.http(name, "/headers")).status for name in worlds]
    assert statuses == [503, 403, 200]


@contextlib.asynccontextmanager
async def grpc_authorizer(asked: list[CheckRequest]) -> AsyncIterator[int]:
    """Allows requests with `x-ext-authz: allow`, and connections from 127.0.0.1."""

    async def check(request: CheckRequest, context: Any) -> CheckResponse:
        asked.append(request)
        attributes = request.attributes
        source = attributes.source.address.socket_address.address
        headers = attributes.request.http.headers
        good = headers.get("x-ext-authz") == "allow" if headers else source == "127.0.0.1"
        answer = CheckResponse()
        answer.status.code = 0 if good else 7
        return answer

    method = grpc.unary_unary_rpc_method_handler(
        check, request_deserializer=CheckRequest.FromString, response_serializer=CheckResponse.SerializeToString
    )
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def test_over_grpc_requests_and_connections(tmp_path: pathlib.Path) -> None:
    asked: list[CheckRequest] = []
    async with grpc_authorizer(asked) as port:
        worlds = {
            "server": world(
                GRPC_HOST, {"includeRequestBodyInCheck": {"maxRequestBytes": 100}}, "ports: ['80', '9000']"
            ),
            "elsewhere": world(GRPC_HOST, {}, "ports: ['81']"),
        }
        async with guarded_envoy(tmp_path, worlds, places={GRPC_HOST: port}) as guarded:
            assert (await guarded.http("server", headers=[("x-ext-authz", "allow")])).status == 200
            assert (await guarded.http("server", headers=[("x-ext-authz", "no")])).status == 403
            assert await guarded.tcp("server") == b"bytes"
            assert await guarded.tcp("server", source="127.0.0.9") == b""
            assert len(asked) == 4
            assert (await guarded.http("elsewhere")).status == 200
            assert await guarded.tcp("elsewhere") == b"bytes"
            assert len(asked) == 4
            lines = await guarded.logged(6)
    assert lines[1]["details"] == "ext_authz_denied"
