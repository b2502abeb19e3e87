"""Real Envoy serves a gateway's ports: plain HTTP by host, TLS by server name, and clients with certificates."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator

import pytest
from cryptography import x509

from doubles.certificates import Authority, client_context, write_identity
from doubles.envoy_samples import endpoint, host, ref, route, service
from doubles.file_envoy import Backend, Response, file_envoy, free_port, http_get, read_response, serving
from ostria.base import ObjectKey
from ostria.envoy import clusters, endpoints, gateways, routes, secrets
from ostria.mesh.gateways import route_table
from ostria.mesh.model import (
    GatewayListener,
    GatewayServer,
    GatewayTls,
    Protocol,
    Redirect,
    RequestMatch,
    ServerTls,
    TrafficPolicy,
)

pytestmark = pytest.mark.envoy

GATEWAY = ObjectKey("", "Gateway", "default", "bookinfo-gateway")


class Gateway:
    def __init__(self, plain: int, secure: int) -> None:
        self.plain = plain
        self.secure = secure
        self.authority = Authority()
        self.clients = Authority()

    async def get(self, name: str, context: ssl.SSLContext) -> tuple[str, Response]:
        """The name in the certificate that a server name is shown, and the answer to a request for it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.secure, ssl=context, server_hostname=name)
        try:
            shown = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            head = f"GET / HTTP/1.1\r\nhost: {name}\r\nx-forwarded-client-cert: forged\r\n\r\n"
            writer.write(head.encode())
            return names.get_values_for_type(x509.DNSName)[0], await read_response(reader)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def gateway(folder: pathlib.Path) -> AsyncIterator[Gateway]:
    """A plain port and a TLS port with two servers, the second of which asks its clients for certificates."""
    at = Gateway(free_port(), free_port())
    server = GatewayServer(GATEWAY, 0, at.plain, 80, Protocol.HTTP, (("*", "*"),), "127.0.0.1", name="http")
    simple = GatewayServer(
        GATEWAY,
        1,
        at.secure,
        443,
        Protocol.HTTPS,
        (("default", "simple.example"),),
        "127.0.0.1",
        GatewayTls(ServerTls.SIMPLE, "simple"),
        name="https",
    )
    mutual = simple._replace(
        position=2, hosts=(("*", "*.mutual.example"),), tls=GatewayTls(ServerTls.MUTUAL, "mutual"), name="https-mutual"
    )
    shown = {name: at.authority.issue(f"{name}.example") for name in ("simple", "mutual")}
    held = {
        name: secrets.Credential(mine.certificate, mine.key, at.clients.certificate) for name, mine in shown.items()
    }
    backend, reviews = Backend("reviews"), service()
    everything = [routes.member(routes.virtual_host(host(route())))]
    redirected = host(route(match=RequestMatch(), targets=(), redirect=Redirect()), domains=("r.example",))
    secure_only = redirected._replace(name="secure", domains=("simple.example",), require_tls=True)
    tables = {
        f"http.{at.plain}": [
            *everything,
            routes.member(routes.virtual_host(redirected._replace(name="redirect"))),
            routes.member(routes.virtual_host(secure_only)),
        ],
        route_table(simple): everything,
        route_table(mutual): everything,
    }
    async with (
        serving(backend),
        file_envoy(
            folder,
            listeners=[
                gateways.gateway_listener(GatewayListener("127.0.0.1", at.plain, (server,))),
                gateways.gateway_listener(GatewayListener("127.0.0.1", at.secure, (simple, mutual))),
            ],
            clusters=[clusters.outbound_cluster(reviews, reviews.ports[0], None, TrafficPolicy(), ())],
            routes=[routes.route_configuration(name, members) for name, members in tables.items()],
            endpoints=[endpoints.load_assignment(ref().name, (endpoint("127.0.0.1", port=backend.port),))],
            secrets=[
                *(secrets.certificate_secret(name, mine) for name, mine in held.items()),
                secrets.authorities_secret("mutual", held["mutual"]),
            ],
            replace=write_identity(folder, at.authority.issue("spiffe://cluster.local/ns/a/sa/gateway")),
        ) as envoy,
    ):
        yield at
        assert envoy.errors() == []


async def test_plain_http(tmp_path: pathlib.Path) -> None:
    async with gateway(tmp_path) as at:
        forged = [("x-forwarded-client-cert", "forged"), ("x-forwarded-for", "1.2.3.4")]
        answer = await http_get(at.plain, headers=forged, authority="anything.example")
        assert answer.headers["server"] == "istio-envoy"
        seen = answer.json()["headers"]
        assert "x-forwarded-client-cert" not in seen
        assert seen["x-forwarded-for"].startswith("1.2.3.4,")  # And the address that the gateway itself saw.
        redirect = await http_get(at.plain, "/a", authority="simple.example")
        assert (redirect.status, redirect.headers["location"]) == (301, "https://simple.example/a")


async def test_servers_by_name(tmp_path: pathlib.Path) -> None:
    async with gateway(tmp_path) as at:
        caller = client_context(tmp_path, at.clients.issue("client.example")._replace(roots=at.authority.certificate))
        anonymous = ssl.create_default_context(cadata=at.authority.certificate.decode())
        anonymous.check_hostname = False
        name, answer = await at.get("simple.example", anonymous)
        assert (name, answer.status) == ("simple.example", 200)
        assert "x-forwarded-client-cert" not in answer.json()["headers"]
        name, answer = await at.get("a.mutual.example", caller)
        assert (name, answer.status) == ("mutual.example", 200)
        assert "DNS=client.example" in answer.json()["headers"]["x-forwarded-client-cert"]
        assert "forged" not in answer.json()["headers"]["x-forwarded-client-cert"]
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await at.get("a.mutual.example", anonymous)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await at.get("unknown.example", anonymous)
