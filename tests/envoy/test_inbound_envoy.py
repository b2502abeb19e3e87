"""Real Envoy lets in whom the mesh's mutual TLS mode lets in, and tells the workload who calls."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from cryptography import x509
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.certificates import Authority, client_context, write_identity
from doubles.envoy_samples import endpoint, host, ref, route, service
from doubles.file_envoy import Backend, FileEnvoy, as_dict, file_envoy, free_port, http_get, read_response, serving
from ostria.envoy import clusters, endpoints, inbound, listeners, peers, routes
from ostria.envoy.access_log import LogFile
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

CALLER = "spiffe://cluster.local/ns/default/sa/caller"
SERVER = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
DETECTION_TIMEOUT = 200
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Workload:
    """A workload behind its proxy: `port` is where others reach it, `outbound` the caller's own proxy."""

    def __init__(self, folder: pathlib.Path, port: int, outbound: int, authority: Authority) -> None:
        self.folder = folder
        self.port = port
        self.outbound = outbound
        self.authority = authority
        self.envoy: FileEnvoy

    def client(self, *alpn: str, name: str = CALLER, authority: Authority | None = None) -> ssl.SSLContext:
        identity = (authority or self.authority).issue(name)._replace(roots=self.authority.certificate)
        return client_context(self.folder, identity, alpn=alpn)

    async def exchange(self, data: bytes, tls: ssl.SSLContext | None = None) -> bytes:
        """What comes back, up to 5 bytes, when these are sent; nothing where the connection is closed."""
        options: dict[str, Any] = {"ssl": tls, "server_hostname": ""} if tls else {}
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
            try:
                writer.write(data)
                return await asyncio.wait_for(reader.read(5), 10)
            finally:
                writer.close()
        return b""


@contextlib.asynccontextmanager
async def workload(
    folder: pathlib.Path,
    mode: MutualTls,
    protocol: Protocol = Protocol.HTTP,
    *,
    handler: Handler | None = None,
    accounts: tuple[str, ...] = (SERVER,),
    named: bool = True,
    log: LogFile | None = None,
    others: bytes = b"",
) -> AsyncIterator[Workload]:
    """One Envoy that is the caller's and the server's proxy at once.

    Without capture nothing is redirected: the inbound listener is bound to the port itself, and the workload listens
    elsewhere. All else is as built. `others` are further roots that are trusted.
    """
    backend = Backend("reviews")
    if handler is not None:
        backend.handle = handler  # type: ignore[method-assign]
    authority = Authority()
    port, outbound = free_port(), free_port()
    at = InboundPort(port, protocol, mode, (("reviews.default.svc.cluster.local", "default", 9080),))
    side = Inbound((at,) if named else (), mode, frozenset())
    reviews = service(protocol=protocol)
    plan = Workload(folder, port, outbound, authority)
    async with serving(backend):
        listener = as_dict(Listener, inbound.virtual_inbound(side, log=log, detection_timeout=DETECTION_TIMEOUT))
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
        del listener["additional_addresses"]
        built = clusters.inbound_cluster(at) if named else clusters.inbound_passthrough()
        cluster = as_dict(Cluster, built)
        cluster |= {"type": "STATIC", "lb_policy": "ROUND_ROBIN"}
        place = {"socket_address": {"address": "127.0.0.1", "port_value": backend.port}}
        cluster["load_assignment"] = {
            "cluster_name": cluster["name"],
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        }
        to_mesh = clusters.outbound_cluster(reviews, reviews.ports[0], None, TrafficPolicy(), accounts)
        member = endpoint("127.0.0.1", port=port, mesh_tls=True)
        sniffed = {ref().name} if protocol is Protocol.AUTO else frozenset()
        hosts = [routes.member(routes.virtual_host(host(route()), sniffed=sniffed))]
        passed_on = ConnectionRoute((WeightedTarget(ref(), 100),))
        calls = OutboundListener("127.0.0.1", outbound, "9080", (passed_on,))
        identity = authority.issue(SERVER)
        async with file_envoy(
            folder,
            listeners=[listener, listeners.outbound_listener(calls, clusters.BLACK_HOLE)],
            clusters=[cluster, to_mesh, clusters.BLACK_HOLE_CLUSTER],
            routes=[routes.route_configuration("9080", hosts)],
            endpoints=[endpoints.load_assignment(ref().name, (member,))],
            replace=write_identity(folder, identity._replace(roots=identity.roots + others)),
        ) as plan.envoy:
            yield plan
            assert plan.envoy.errors() == []


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    await reader.read()
    writer.close()


FORGED = [("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/default/sa/forged")]


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
@pytest.mark.parametrize("named", [True, False])
async def test_permissive_takes_both_and_says_who_called(
    tmp_path: pathlib.Path, protocol: Protocol, named: bool
) -> None:
    async with workload(tmp_path, MutualTls.PERMISSIVE, protocol, named=named) as reviews:
        by_mesh = await http_get(reviews.outbound, headers=FORGED)
        seen = by_mesh.json()["headers"]
        assert f"URI={SERVER}" in seen["x-forwarded-client-cert"]
        assert f"By={SERVER}" in seen["x-forwarded-client-cert"]
        assert "forged" not in str(seen)
        assert by_mesh.json()["peer"] == "127.0.0.6"
        in_clear = await http_get(reviews.port, headers=FORGED)
        assert in_clear.status == 200
        assert "x-forwarded-client-cert" not in in_clear.json()["headers"]
        if protocol is Protocol.AUTO:
            told = await http_get(reviews.port, tls=reviews.client("istio-http/1.1", "istio", "http/1.1"))
            assert f"URI={CALLER}" in told.json()["headers"]["x-forwarded-client-cert"]


async def test_strict_refuses_plaintext_and_strangers(tmp_path: pathlib.Path) -> None:
    async with workload(tmp_path, MutualTls.STRICT) as reviews:
        assert (await http_get(reviews.outbound)).status == 200
        request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        assert await reviews.exchange(request) == b""
        assert await reviews.exchange(request, reviews.client()) == b"HTTP/"
        assert await reviews.exchange(request, reviews.client(authority=Authority())) == b""
        assert await reviews.exchange(request, reviews.client(name="spiffe://elsewhere/ns/default/sa/x")) == b""
        nobody = ssl.create_default_context(cadata=reviews.authority.certificate.decode())
        nobody.check_hostname = False
        assert await reviews.exchange(request, nobody) == b""


async def test_a_server_that_is_not_who_it_should_be_is_not_called(tmp_path: pathlib.Path) -> None:
    other = "spiffe://cluster.local/ns/default/sa/other"
    async with workload(tmp_path, MutualTls.STRICT, accounts=(other,)) as reviews:
        assert (await http_get(reviews.outbound)).status == 503


FACTS = "".join(f"%DYNAMIC_METADATA({peers.PEER}:{fact})%," for fact in peers.Peer._fields)
CLAIMED = [(peers.PEER_HEADER, "admin|kube-system|admin|v9|admin|v9|elsewhere")]


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_a_peer_is_who_its_proxy_says_it_is(
    tmp_path: pathlib.Path, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = peers.peer_of("caller-v1", "default", "a|b", {"app": "caller", "version": "v1"})
    monkeypatch.setenv(peers.PEER_VARIABLE, caller.text)
    lines = tmp_path / "access.log"
    log = LogFile(str(lines), FACTS + "%DOWNSTREAM_PEER_URI_SAN%\n")
    foreign = Authority()
    async with workload(tmp_path, MutualTls.PERMISSIVE, protocol, log=log, others=foreign.certificate) as reviews:
        by_mesh = await http_get(reviews.outbound, headers=CLAIMED)
        in_clear = await http_get(reviews.port, headers=CLAIMED)
        # Istio's own proxies, and clients that have none, show a certificate and say nothing.
        silent = await http_get(reviews.port, tls=reviews.client("istio-http/1.1", "istio", authority=foreign))
        odd = [(peers.PEER_HEADER, value) for value in ("|", "a|b|c|d|e|f|g|h|i", '"%DYNAMIC_METADATA(x)%', "-|<b>|c")]
        for header in odd:
            told = await http_get(reviews.port, tls=reviews.client("istio-http/1.1", "istio"), headers=[header])
            assert (told.status, peers.PEER_HEADER in told.json()["headers"]) == (200, False)
        for answer in (by_mesh, in_clear, silent):
            assert answer.status == 200
            assert peers.PEER_HEADER not in answer.json()["headers"]
        async with asyncio.timeout(20):
            while len(lines.read_text().splitlines()) < 3 + len(odd):
                await asyncio.sleep(0.02)
    assert lines.read_text().splitlines() == [
        f"caller-v1,default,caller,v1,caller,v1,a%7Cb,{SERVER}",
        "-,-,-,-,-,-,-,-",
        f"-,-,-,-,-,-,-,{CALLER}",
        f"-,-,-,-,-,-,-,{CALLER}",
        f"a,b,c,d,e,f,g,{CALLER}",
        f"-,-,-,-,-,-,-,{CALLER}",
        f"-,-,c,-,-,-,-,{CALLER}",
    ]


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.AUTO])
@pytest.mark.parametrize("named", [True, False])
async def test_bytes_pass_in_every_mode_that_takes_them(
    tmp_path: pathlib.Path, protocol: Protocol, named: bool
) -> None:
    async with workload(tmp_path, MutualTls.PERMISSIVE, protocol, handler=echo, named=named) as server:
        assert await server.exchange(b"x") == b"x"  # Fewer bytes than the inspectors want.
        assert await server.exchange(b"bytes") == b"bytes"
        assert await server.exchange(b"bytes", server.client("istio")) == b"bytes"


async def test_strict_bytes(tmp_path: pathlib.Path) -> None:
    async with workload(tmp_path, MutualTls.STRICT, Protocol.TCP, handler=echo) as server:
        assert await server.exchange(b"bytes") == b""
        assert await server.exchange(b"bytes", server.client("istio")) == b"bytes"


@pytest.mark.parametrize("mode", [MutualTls.PERMISSIVE, MutualTls.DISABLE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.AUTO])
async def test_a_server_that_speaks_first_is_heard(tmp_path: pathlib.Path, protocol: Protocol, mode: MutualTls) -> None:
    async with workload(tmp_path, mode, protocol, handler=greet) as server:
        assert await server.exchange(b"") == b"hello"


@pytest.mark.parametrize("mode", [MutualTls.PERMISSIVE, MutualTls.DISABLE])
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.AUTO, Protocol.HTTPS])
async def test_the_applications_own_tls_is_left_alone(
    tmp_path: pathlib.Path, protocol: Protocol, mode: MutualTls
) -> None:
    own = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    identity = own.issue("own.example")
    (tmp_path / "own.pem").write_bytes(identity.certificate + identity.key)
    context.load_cert_chain(tmp_path / "own.pem")

    async def own_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.start_tls(context)
            await echo(reader, writer)

    async with workload(tmp_path, mode, protocol, handler=own_tls) as server:
        assert await server.exchange(b"bytes", client_context(tmp_path, identity, alpn=("http/1.1",))) == b"bytes"


async def serial(server: Workload) -> int:
    """The serial number of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=server.client(), server_hostname="")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_a_new_identity_is_shown_and_no_connection_drops(tmp_path: pathlib.Path) -> None:
    async with workload(tmp_path, MutualTls.STRICT) as server:
        request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=server.client(), server_hostname=""
        )
        writer.write(request)
        assert (await read_response(reader)).status == 200
        before = await serial(server)
        fresh = server.authority.issue(SERVER)
        write_identity(tmp_path, fresh)
        async with asyncio.timeout(20):
            while await serial(server) == before:
                await asyncio.sleep(0.02)
        assert await serial(server) == fresh.serial
        writer.write(request)
        assert (await read_response(reader)).status == 200
        assert (await http_get(server.outbound)).status == 200
        writer.close()
