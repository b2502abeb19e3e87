"""The gRPC service with synthetic clients: who is let in, what ends a stream, what survives a restart."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import time
from collections.abc import AsyncIterator

import grpc
import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from doubles.ads_client import AdsClient, ads_channel
from doubles.catalogue import CATALOGUE, FakeStore, Part, traits_of
from doubles.certificates import Authority
from ostria.engine import Engine
from ostria.envoy.fragments import ResourceType, fragment
from ostria.xds import Delivery, Identity, Limits, Verified
from ostria.xds.server import METHOD, WHOLE_METHOD, Address, Certificate, Server

EDS = ResourceType.ENDPOINTS
CDS = ResourceType.CLUSTER


class Mesh:
    """An engine, its store, and one server after another on them."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.db = Engine()
        self.store = FakeStore(self.db)
        self.limits = limits or Limits()
        self.expires = time.time() + 3600
        self.delivery: Delivery[str]
        self.server: Server[str]

    async def verify(self, token: str) -> Verified | None:
        """A token is the name of its pod."""
        return None if token == "stolen" else Verified(Identity("default", "sa", token), self.expires)

    @contextlib.asynccontextmanager
    async def serving(self, address: Address) -> AsyncIterator[str]:
        self.delivery = Delivery(
            self.db, CATALOGUE, traits_of, self.store, self.store, limits=self.limits, changed=self.store.changed
        )
        server = Server(self.delivery, self.verify, [address], limits=self.limits, jitter=lambda: 0.5)
        async with server as self.server:
            yield address.text if address.text.startswith("unix:") else f"127.0.0.1:{server.ports[0]}"

    @contextlib.asynccontextmanager
    async def dialled(self, folder: pathlib.Path) -> AsyncIterator[grpc.aio.Channel]:
        """A server, and a connection to it."""
        async with self.serving(socket_in(folder)) as address, ads_channel(address) as channel:
            yield channel

    def put(self, changes: dict[str, tuple[Part, ...] | None]) -> int:
        epoch = self.store.put(changes)
        self.server.push()
        return epoch


def endpoints(name: str, body: str) -> dict[str, tuple[Part, ...] | None]:
    return {f"Svc/{name}": (Part(EDS, name, body.encode()), Part(CDS, name, body.encode()))}


def version(body: str) -> str:
    return fragment("", body.encode()).version


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    mesh = Mesh()
    mesh.store.group("alpha", "blue")
    mesh.store.group("beta", "red")
    mesh.store.put(endpoints("a", "1"))
    async with asyncio.timeout(30):
        yield mesh


def socket_in(folder: pathlib.Path) -> Address:
    return Address(f"unix:{folder}/xds.sock")


async def test_a_client_is_served_and_follows_changes(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    async with mesh.dialled(tmp_path) as channel:
        async with AdsClient(channel, pod="alpha") as client:
            client.subscribe(EDS, "a")
            await client.wait_holds(EDS, "a", version("1"))
            epoch = mesh.put(endpoints("a", "2"))
            state = await mesh.server.wait_enforced(epoch)
            assert (state.concerned, state.accepted) == (1, 1)
            assert client.version(EDS, "a") == version("2")
        assert (await mesh.server.wait_enforced(mesh.put(endpoints("a", "3")))).concerned <= 1


@pytest.mark.parametrize(
    ("token", "node", "code"),
    [
        ("", "alpha", grpc.StatusCode.UNAUTHENTICATED),
        ("stolen", "alpha", grpc.StatusCode.UNAUTHENTICATED),
        ("alpha", "sidecar~10.0.0.1~beta.default~default.svc.cluster.local", grpc.StatusCode.PERMISSION_DENIED),
        ("alpha", "sidecar~10.0.0.1~alpha.other~default.svc.cluster.local", grpc.StatusCode.PERMISSION_DENIED),
        ("unknown", "unknown", grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_who_is_not_who_it_must_be_is_refused(
    mesh: Mesh, tmp_path: pathlib.Path, token: str, node: str, code: grpc.StatusCode
) -> None:
    async with mesh.dialled(tmp_path) as channel:
        async with AdsClient(channel, pod="alpha", token=token or "stolen", node=node) as client:
            client.subscribe(EDS, "a")
            assert (await client.ended)[0] is code
            assert client.responses == []
        assert mesh.delivery.clients == ()


@pytest.mark.parametrize("method", [METHOD, WHOLE_METHOD])
async def test_a_call_without_a_token_is_refused(mesh: Mesh, tmp_path: pathlib.Path, method: str) -> None:
    async with mesh.dialled(tmp_path) as channel:
        call = channel.stream_stream(method)()
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_state_of_the_world_is_served_to_the_tokens_pod_and_to_no_other(
    mesh: Mesh, tmp_path: pathlib.Path
) -> None:
    async with mesh.dialled(tmp_path) as channel:
        for claimed, code in (("beta", grpc.StatusCode.PERMISSION_DENIED), ("alpha", None)):
            call = channel.stream_stream(WHOLE_METHOD)(metadata=(("authorization", "Bearer alpha"),))
            request = DiscoveryRequest(type_url=CDS)
            request.node.id = f"sidecar~10.0.0.1~{claimed}.default~default.svc.cluster.local"
            await call.write(request.SerializeToString())
            if code is not None:
                assert await call.code() is code
                continue
            first = DiscoveryResponse.FromString(await call.read())
            assert [entry.value for entry in first.resources] == [b"1"]
            await call.write(DiscoveryRequest(type_url=CDS, response_nonce=first.nonce).SerializeToString())
            epoch = mesh.put(endpoints("a", "2"))
            second = DiscoveryResponse.FromString(await call.read())
            assert [entry.value for entry in second.resources] == [b"2"]
            assert second.version_info != first.version_info
            await call.write(DiscoveryRequest(type_url=CDS, response_nonce=second.nonce).SerializeToString())
            assert (await mesh.server.wait_enforced(epoch)).accepted == 1
            call.cancel()


async def test_the_node_id_that_names_the_tokens_pod_is_served(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    node = "sidecar~10.0.0.1~alpha.default~default.svc.cluster.local"
    async with mesh.dialled(tmp_path) as channel, AdsClient(channel, pod="alpha", node=node) as client:
        client.subscribe(CDS)
        await client.wait_holds(CDS, "a", version("1"))
        assert [c.name for c in mesh.delivery.clients] == [node]


async def test_a_stream_ends_before_its_token(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    mesh.expires = time.time() + 0.5
    async with mesh.dialled(tmp_path) as channel, AdsClient(channel, pod="alpha") as client:
        client.subscribe(EDS, "a")
        assert (await client.ended)[0] is grpc.StatusCode.OK
        assert time.time() < mesh.expires


async def test_what_is_no_request_ends_the_stream(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    async with mesh.dialled(tmp_path) as channel:
        for first in (b"", None):
            call = channel.stream_stream(METHOD)(metadata=(("authorization", "Bearer alpha"),))
            if first is not None:
                await call.write(first)
            await call.write(b"\xff\xff\xff")
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_too_many_names_and_too_large_a_request_end_the_stream(tmp_path: pathlib.Path) -> None:
    mesh = Mesh(Limits(names=3, request_bytes=2000))
    mesh.store.group("alpha", "blue")
    async with mesh.dialled(tmp_path) as channel:
        for names in ("abcd", ["x" * 1000, "y" * 1001]):
            async with AdsClient(channel, pod="alpha") as client:
                client.subscribe(EDS, *names)
                assert (await client.ended)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_does_not_answer_gets_the_latest_when_it_does(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    async with (
        mesh.dialled(tmp_path) as channel,
        AdsClient(channel, pod="alpha", answers=False) as silent,
        AdsClient(channel, pod="beta") as other,
    ):
        silent.subscribe(EDS, "a")
        other.subscribe(EDS, "a")
        await silent.wait_holds(EDS, "a", version("1"))
        for body in range(2, 50):
            mesh.put(endpoints("a", str(body)))
            await other.wait_holds(EDS, "a", version(str(body)))
        assert len(silent.responses) == 1
        statistics = next(found for found in mesh.delivery.statistics() if found.name == "alpha")
        assert statistics.channels[EDS].outstanding == "1"
        assert statistics.channels[EDS].pending == 1
        silent._request(EDS, nonce="1")
        await silent.wait_holds(EDS, "a", version("49"))


async def test_a_restart_sends_a_returning_client_only_what_changed(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    mesh.store.put(endpoints("b", "1"))
    async with mesh.dialled(tmp_path) as channel, AdsClient(channel, pod="alpha") as client:
        client.subscribe(CDS)
        client.subscribe(EDS, "a", "b")
        await client.wait(lambda: len(client.held[EDS]) == len(client.held[CDS]) == 2)
    mesh.store.put({**endpoints("b", "2"), "Svc/a": None})
    async with mesh.dialled(tmp_path) as channel, AdsClient(channel, pod="alpha", held=client.held) as client:
        client.subscribe(CDS)
        await client.wait(lambda: len(client.responses) == 2)
        changed, removed = client.responses
        assert [entry.name for entry in changed.resources] == ["b"]
        assert not changed.removed_resources
        assert removed.removed_resources == ["a"]


async def test_leaving_tells_the_clients_and_forgets_them(mesh: Mesh, tmp_path: pathlib.Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(mesh.serving(socket_in(tmp_path)))
        channel = await stack.enter_async_context(ads_channel(address))
        client = await stack.enter_async_context(AdsClient(channel, pod="alpha"))
        client.subscribe(EDS, "a")
        await client.wait_holds(EDS, "a", version("1"))
        await mesh.server.__aexit__(None, None, None)
        assert (await client.ended)[0] is grpc.StatusCode.UNAVAILABLE
        assert mesh.delivery.clients == ()


async def test_tls_with_a_certificate_that_is_replaced(mesh: Mesh) -> None:
    old, new = Authority(), Authority()
    certificate = Certificate(*server_pair(old))
    async with mesh.serving(Address("127.0.0.1:0", certificate.credentials())) as address:
        for mine, other in ((old, new), (new, old)):
            certificate.replace(*server_pair(mine))
            async with ads_channel(address, mine.certificate) as channel, AdsClient(channel, pod="alpha") as client:
                client.subscribe(EDS, "a")
                await client.wait_holds(EDS, "a", version("1"))
            async with ads_channel(address, other.certificate) as channel, AdsClient(channel, pod="alpha") as client:
                client.subscribe(EDS, "a")
                assert (await client.ended)[0] is grpc.StatusCode.UNAVAILABLE


def server_pair(authority: Authority) -> tuple[bytes, bytes]:
    identity = authority.issue("localhost")
    return identity.key, identity.certificate
