"""Real Envoy serves what Gateways open: requests by host, TLS by server name, opened or passed on, and plain bytes.

The mesh is YAML, and Envoy is sent what the catalogue has for the gateway's pod.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509

from doubles.certificates import Authority, Identity, client_context, write_identity
from doubles.file_envoy import Backend, Response, file_envoy, free_port, http_get, read_response, serving
from doubles.meshes import Mesh, endpoint_slice, pod, service
from doubles.sent_resources import sent
from ostria.base import ObjectKey
from ostria.mesh.clients import traits_of
from ostria.mesh.settings import Settings

pytestmark = pytest.mark.envoy

EDGE_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: istio-system
  labels: {istio: ingressgateway}
  annotations: {inject.istio.io/templates: gateway}
"""

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {plain}, name: http, protocol: HTTP}}
    bind: 127.0.0.1
    hosts: ["*.web.example"]
  - port: {{number: {plain}, name: http-secure, protocol: HTTP}}
    bind: 127.0.0.1
    hosts: [simple.example]
    tls: {{httpsRedirect: true}}
  - port: {{number: {secure}, name: https, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [default/simple.example]
    tls: {{mode: SIMPLE, credentialName: simple, minProtocolVersion: TLSV1_3}}
  - port: {{number: {secure}, name: https-mutual, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: ["*.mutual.example"]
    tls: {{mode: MUTUAL, credentialName: mutual}}
  - port: {{number: {secure}, name: https-optional, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [optional.example]
    tls: {{mode: OPTIONAL_MUTUAL, credentialName: mutual}}
  - port: {{number: {secure}, name: passed, protocol: TLS}}
    bind: 127.0.0.1
    hosts: [own.example]
    tls: {{mode: PASSTHROUGH}}
  - port: {{number: {secure}, name: opened, protocol: TLS}}
    bind: 127.0.0.1
    hosts: [raw.example]
    tls: {{mode: SIMPLE, credentialName: simple}}
  - port: {{number: {secure}, name: inner, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: [egress.example]
    tls: {{mode: ISTIO_MUTUAL}}
  - port: {{number: {tcp}, name: tcp, protocol: TCP}}
    bind: 127.0.0.1
    hosts: ["*"]
  - port: {{number: {auto}, name: auto, protocol: TLS}}
    bind: 127.0.0.1
    hosts: ["*.local"]
    tls: {{mode: AUTO_PASSTHROUGH}}
  - port: {{number: 9000, name: socket, protocol: TCP}}
    bind: unix://{folder}/s
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: ["*.web.example", simple.example, "*.mutual.example", optional.example, egress.example]
  gateways: [edge]
  http: [{{route: [{{destination: {{host: web}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: passed}}
spec:
  hosts: [own.example]
  gateways: [edge]
  tls: [{{match: [{{sniHosts: [own.example]}}], route: [{{destination: {{host: own}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: raw}}
spec:
  hosts: ["*"]
  gateways: [edge]
  tcp: [{{route: [{{destination: {{host: raw}}}}]}}]
"""


def secret(name: str, identity: Identity, authorities: bytes) -> str:
    data = {"tls.crt": identity.certificate, "tls.key": identity.key, "ca.crt": authorities}
    lines = ", ".join(f"{key}: {base64.b64encode(value).decode()}" for key, value in data.items())
    kind = "apiVersion: v1\nkind: Secret\nmetadata"
    return f"{kind}: {{name: {name}, namespace: istio-system}}\ndata: {{{lines}}}"


class Raw:
    """A server of bytes: it answers with its name and what it got; over TLS, if it has an identity."""

    def __init__(self, name: str, context: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.context = context
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while line := await reader.readline():
                writer.write(f"{self.name}: ".encode() + line)
                await writer.drain()
        writer.close()


def server_context(folder: pathlib.Path, identity: Identity, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    certificate, key = folder / f"{identity.serial}.pem", folder / f"{identity.serial}.key"
    certificate.write_bytes(identity.certificate)
    key.write_bytes(identity.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Edge:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("plain", "secure", "tcp", "auto")}
        self.authority = Authority()
        self.clients = Authority()

    def anonymous(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        context.check_hostname = False
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def known(self, name: str, issuer: Authority) -> ssl.SSLContext:
        return client_context(self.folder, issuer.issue(name)._replace(roots=self.authority.certificate))

    async def get(self, name: str, context: ssl.SSLContext) -> tuple[str, Response]:
        """The name in the certificate that a server name is shown, and the answer to a request for it."""
        head = f"GET / HTTP/1.1\r\nhost: {name}\r\nx-forwarded-client-cert: forged\r\n\r\n"
        async with self.connected("secure", context, name) as (reader, writer):
            writer.write(head.encode())
            return _shown(writer), await read_response(reader)

    async def say(self, port: str, context: ssl.SSLContext | None = None, name: str | None = None) -> tuple[str, bytes]:
        """The name in the certificate that is shown, and the answer to a line."""
        async with self.connected(port, context, name) as (reader, writer):
            writer.write(b"hello\n")
            return _shown(writer) if context else "", await reader.readline()

    @contextlib.asynccontextmanager
    async def connected(self, port: str, context: ssl.SSLContext | None, name: str | None) -> AsyncIterator[Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[port], ssl=context, server_hostname=name)
        try:
            yield reader, writer
        finally:
            writer.close()


def _shown(writer: asyncio.StreamWriter) -> str:
    shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return next(iter(names.get_values_for_type(x509.DNSName)), "")


REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


@contextlib.asynccontextmanager
async def edge(folder: pathlib.Path, settings: Settings | None = None) -> AsyncIterator[Edge]:
    at = Edge(folder)
    web = Backend("web")
    own = Raw("own", server_context(folder, at.authority.issue("own.backend")))
    meshed = Raw("meshed", server_context(folder, at.authority.issue("meshed.backend"), ("istio",)))
    raw = Raw("raw")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(serving(web))
        for each in (own, meshed, raw):
            server = await asyncio.start_server(each.handle, "127.0.0.1", 0, ssl=each.context)
            stack.callback(server.close)
            each.port = server.sockets[0].getsockname()[1]
        mesh = Mesh(
            EDGE_POD,
            GATEWAY.format(folder=folder, **at.ports),
            *(
                secret(name, at.authority.issue(f"{name}.shown"), at.clients.certificate)
                for name in ("simple", "mutual")
            ),
            service("web", 80, ip="10.96.0.1"),
            endpoint_slice("web", {"web": "127.0.0.1"}, port=web.port),
            service("own", 443, ip="10.96.0.2", port_name="tls"),
            endpoint_slice("own", {"own": "127.0.0.1"}, port=own.port, port_name="tls"),
            service("raw", 9000, ip="10.96.0.3", port_name="tcp"),
            endpoint_slice("raw", {"raw": "127.0.0.1"}, port=raw.port, port_name="tcp"),
            service("meshed", 8080, ip="10.96.0.4"),
            pod("meshed", "127.0.0.1", {"app": "meshed"}),
            endpoint_slice("meshed", {"meshed": "127.0.0.1"}, port=meshed.port),
            settings=settings,
        )
        client = traits_of(mesh.db, ObjectKey("", "Pod", "istio-system", "edge"))
        assert client is not None
        identity = write_identity(folder, at.authority.issue("spiffe://cluster.local/ns/a/sa/gateway"))
        resources = sent(mesh.db, client, ("simple", "mutual", "mutual-cacert"))
        envoy = await stack.enter_async_context(file_envoy(folder, replace=identity, **resources))
        yield at
        assert envoy.errors() == []


async def test_plain_http(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        forged = [("x-forwarded-client-cert", "forged"), ("x-forwarded-for", "1.2.3.4")]
        answer = await http_get(at.ports["plain"], headers=forged, authority="a.web.example")
        assert answer.headers["server"] == "istio-envoy"
        seen = answer.json()["headers"]
        assert "x-forwarded-client-cert" not in seen
        assert seen["x-forwarded-for"].startswith("1.2.3.4,")  # And the address that the gateway itself saw.
        redirect = await http_get(at.ports["plain"], "/a", authority="simple.example")
        assert (redirect.status, redirect.headers["location"]) == (301, "https://simple.example/a")
        assert (await http_get(at.ports["plain"], authority="unknown.example")).status == 404


async def test_servers_by_name(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        anonymous, caller = at.anonymous(), at.known("client.example", at.clients)
        name, answer = await at.get("simple.example", anonymous)
        assert (name, answer.status) == ("simple.shown", 200)
        assert "x-forwarded-client-cert" not in answer.json()["headers"]
        name, answer = await at.get("a.mutual.example", caller)
        assert (name, answer.status) == ("mutual.shown", 200)
        assert "DNS=client.example" in answer.json()["headers"]["x-forwarded-client-cert"]
        assert "forged" not in answer.json()["headers"]["x-forwarded-client-cert"]
        with pytest.raises(REFUSED):
            await at.get("a.mutual.example", anonymous)
        with pytest.raises(REFUSED):
            await at.get("unknown.example", anonymous)


async def test_a_certificate_that_may_be_shown_is_checked_if_it_is(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        _, answer = await at.get("optional.example", at.anonymous())
        assert (answer.status, "x-forwarded-client-cert" in answer.json()["headers"]) == (200, False)
        _, answer = await at.get("optional.example", at.known("client.example", at.clients))
        assert "DNS=client.example" in answer.json()["headers"]["x-forwarded-client-cert"]
        with pytest.raises(REFUSED):
            await at.get("optional.example", at.known("client.example", Authority()))


async def test_a_version_below_the_servers_is_refused(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        old = at.anonymous()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(REFUSED):
            await at.get("simple.example", old)
        assert (await at.get("optional.example", old))[1].status == 200


async def test_tls_is_passed_on_by_the_name_that_is_asked_for(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        assert await at.say("secure", at.anonymous(), "own.example") == ("own.backend", b"own: hello\n")


async def test_tls_is_opened_and_its_bytes_passed_on(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        assert await at.say("secure", at.anonymous(), "raw.example") == ("simple.shown", b"raw: hello\n")


async def test_tcp_is_passed_on(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        assert await at.say("tcp") == ("", b"raw: hello\n")


async def test_a_server_may_be_a_socket(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"hello\n")
        assert await reader.readline() == b"raw: hello\n"
        writer.close()


async def test_mutual_tls_of_the_mesh_is_opened_with_the_gateways_identity(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        spiffe = "spiffe://cluster.local/ns/default/sa/sleep"
        _, answer = await at.get("egress.example", at.known(spiffe, at.authority))
        assert f"URI={spiffe}" in answer.json()["headers"]["x-forwarded-client-cert"]
        stranger = at.known("spiffe://elsewhere/ns/default/sa/sleep", at.authority)
        for refused in (at.anonymous(), stranger):
            with pytest.raises(REFUSED):
                await at.get("egress.example", refused)


async def test_mutual_tls_of_the_mesh_is_passed_to_the_cluster_that_its_name_spells(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        meshed = "outbound_.8080_._.meshed.default.svc.cluster.local"
        assert await at.say("auto", at.anonymous("istio"), meshed) == ("meshed.backend", b"meshed: hello\n")
        # Whoever does not speak the mesh's TLS gets nowhere, and neither does who asks for what does not take it.
        with pytest.raises(REFUSED):
            await at.say("auto", at.anonymous("h2"), meshed)
        with pytest.raises(REFUSED):
            await at.say("auto", at.anonymous("istio"), "outbound_.9000_._.raw.default.svc.cluster.local")


async def old_request(at: Edge) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.ports["plain"])
    writer.write(b"GET / HTTP/1.0\r\nhost: a.web.example\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_http_1_0_is_answered_where_the_mesh_says_so(tmp_path: pathlib.Path) -> None:
    async with edge(tmp_path) as at:
        assert await old_request(at) == 426
    async with edge(tmp_path, Settings(http10=True)) as at:
        assert await old_request(at) == 200
