"""Beside Istio: with one authority, mutual TLS works both ways between our proxies and Envoys set up as Istio's are.

What those offer and take is Istio's: "istio-peer-exchange" first for bytes (a preamble follows if both agree on it),
"istio-http/1.1" and "istio-h2" for requests, "istio" for all, and its names for filter chains.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.certificates import Authority, Identity, write_identity
from doubles.envoy_samples import endpoint, host, ref, route, service
from doubles.file_envoy import Backend, as_dict, file_envoy, free_port, http_get, serving
from ostria.envoy import clusters, endpoints, inbound, listeners, routes
from ostria.mesh.model import (
    ConnectionRoute,
    Inbound,
    InboundPort,
    MutualTls,
    OutboundListener,
    Protocol,
    TrafficPolicy,
    WeightedTarget,
)

pytestmark = pytest.mark.envoy

CLIENT = "spiffe://cluster.local/ns/default/sa/caller"
SERVER = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
TYPES = "type.googleapis.com/envoy.extensions"
MUTUAL_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MUTUAL_TCP = ("istio-peer-exchange", "istio")


def place(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name: str, port: int, **more: Any) -> dict[str, Any]:
    members = [{"lb_endpoints": [{"endpoint": {"address": place(port)}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": members}, **more}


def known(identity: Identity, names: dict[str, str], alpn: tuple[str, ...]) -> dict[str, Any]:
    """The part of TLS that both sides have in Istio; its files stand for what Istio's agent hands out."""
    certificate = {
        "certificate_chain": {"inline_string": identity.certificate.decode()},
        "private_key": {"inline_string": identity.key.decode()},
    }
    validation = {
        "trusted_ca": {"inline_string": identity.roots.decode()},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": names}],
    }
    return {"tls_certificates": [certificate], "validation_context": validation, "alpn_protocols": list(alpn)}


def socket(kind: str, common: dict[str, Any], **more: Any) -> dict[str, Any]:
    typed = {"@type": f"{TYPES}.transport_sockets.tls.v3.{kind}", "common_tls_context": common, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def chain(match: dict[str, Any], to: str, *, http: bool, tls: dict[str, Any] | None = None) -> dict[str, Any]:
    proxy: dict[str, Any] = {
        "@type": f"{TYPES}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "a",
        "cluster": to,
    }
    if http:
        router = {"name": "r", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
        hosts = [{"name": "a", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to}}]}]
        manager = f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
        proxy = {
            "@type": manager,
            "stat_prefix": "a",
            "http_filters": [router],
            "route_config": {"virtual_hosts": hosts},
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": {"uri": True, "subject": True, "dns": True},
        }
    found = {"filter_chain_match": match, "filters": [{"name": "f", "typed_config": proxy}]}
    return found | ({"transport_socket": tls} if tls else {})


def istio_server(port: int, to: int, mode: MutualTls, identity: Identity, *, http: bool) -> dict[str, Any]:
    """As Istio's virtualInbound has a named port."""
    alpn = ("h2", "http/1.1") if http else ("istio-peer-exchange", "h2", "http/1.1")
    prefix = {"prefix": "spiffe://cluster.local/"}
    tls = socket("DownstreamTlsContext", known(identity, prefix, alpn), require_client_certificate=True)
    offers = (*MUTUAL_TCP, *MUTUAL_HTTP)
    match: dict[str, Any] = {"transport_protocol": "tls"}
    if mode is MutualTls.PERMISSIVE:
        match["application_protocols"] = list(offers)
    chains = [chain(match, "app", http=http, tls=tls)]
    if mode is MutualTls.PERMISSIVE:
        chains.append(chain({"transport_protocol": "raw_buffer"}, "app", http=http))
    inspector = f"{TYPES}.filters.listener.tls_inspector.v3.TlsInspector"
    return {
        "listeners": [
            {
                "name": "virtualInbound",
                "address": place(port),
                "filter_chains": chains,
                "listener_filters": [{"name": "i", "typed_config": {"@type": inspector}}],
            }
        ],
        "clusters": [cluster("app", to)],
    }


def istio_client(port: int, to: int, identity: Identity, *, http: bool) -> dict[str, Any]:
    """As Istio's outbound listener and cluster have them; what its ALPN filter makes requests offer stands there."""
    alpn = ("istio-http/1.1", "istio", "http/1.1") if http else MUTUAL_TCP
    names = {"exact": SERVER}
    tls = socket("UpstreamTlsContext", known(identity, names, alpn), sni="outbound_.9080_._.reviews.default")
    calls = {"name": "out", "address": place(port), "filter_chains": [chain({}, "peer", http=http)]}
    return {"listeners": [calls], "clusters": [cluster("peer", to, transport_socket=tls)]}


def our_server(port: int, to: int, mode: MutualTls, protocol: Protocol) -> dict[str, Any]:
    at = InboundPort(port, protocol, mode, (("reviews.default.svc.cluster.local", "default", 9080),))
    listener = as_dict(Listener, inbound.virtual_inbound(Inbound((at,), mode, frozenset())))
    listener["address"] = place(port)
    del listener["additional_addresses"]
    app = as_dict(Cluster, clusters.inbound_cluster(at)) | cluster(clusters.inbound_name(port), to)
    app.pop("lb_policy", None)
    return {"listeners": [listener], "clusters": [app, clusters.BLACK_HOLE_CLUSTER]}


def our_client(port: int, to: int, protocol: Protocol) -> dict[str, Any]:
    reviews = service(protocol=protocol)
    calls = OutboundListener("127.0.0.1", port, "9080", (ConnectionRoute((WeightedTarget(ref(), 100),)),))
    if protocol.is_http:
        calls = OutboundListener("127.0.0.1", port, "9080", ())
    member = endpoint("127.0.0.1", port=to, mesh_tls=True)
    return {
        "listeners": [listeners.outbound_listener(calls, clusters.BLACK_HOLE)],
        "clusters": [
            clusters.outbound_cluster(reviews, reviews.ports[0], None, TrafficPolicy(), (SERVER,)),
            clusters.BLACK_HOLE_CLUSTER,
        ],
        "routes": [routes.route_configuration("9080", [routes.member(routes.virtual_host(host(route())))])],
        "endpoints": [endpoints.load_assignment(ref().name, (member,))],
    }


@contextlib.asynccontextmanager
async def pair(
    folder: pathlib.Path, theirs: dict[str, Any], ours: dict[str, Any], own: Identity
) -> AsyncIterator[None]:
    for name in ("istio", "ours"):
        (folder / name).mkdir()
    async with (
        asyncio.timeout(60),
        file_envoy(folder / "istio", **theirs),
        file_envoy(folder / "ours", replace=write_identity(folder, own), **ours) as envoy,
    ):
        yield
        assert envoy.errors() == []


async def said(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    try:
        return await asyncio.wait_for(reader.read(5), 10)
    finally:
        writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(100):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def application(protocol: Protocol) -> AsyncIterator[int]:
    backend = Backend("reviews")
    if not protocol.is_http:
        backend.handle = echo  # type: ignore[method-assign]
    async with serving(backend):
        yield backend.port


async def check(port: int, protocol: Protocol) -> None:
    """A call at the client's proxy comes to the application, by mutual TLS."""
    if protocol.is_http:
        answer = await http_get(port)
        assert answer.status == 200
        assert f"URI={CLIENT}" in answer.json()["headers"]["x-forwarded-client-cert"]
    else:
        assert await said(port) == b"hello"


MODES = [MutualTls.STRICT, MutualTls.PERMISSIVE]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.TCP])
async def test_istios_proxy_is_served_by_ours(tmp_path: pathlib.Path, mode: MutualTls, protocol: Protocol) -> None:
    authority, port, at = Authority(), free_port(), free_port()
    async with application(protocol) as app:
        theirs = istio_client(at, port, authority.issue(CLIENT), http=protocol.is_http)
        async with pair(tmp_path, theirs, our_server(port, app, mode, protocol), authority.issue(SERVER)):
            await check(at, protocol)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.TCP])
async def test_ours_is_served_by_istios(tmp_path: pathlib.Path, mode: MutualTls, protocol: Protocol) -> None:
    authority, port, at = Authority(), free_port(), free_port()
    async with application(protocol) as app:
        theirs = istio_server(port, app, mode, authority.issue(SERVER), http=protocol.is_http)
        async with pair(tmp_path, theirs, our_client(at, port, protocol), authority.issue(CLIENT)):
            await check(at, protocol)
