"""The certificate service on a real gRPC server, over TLS, with its own certificate replaced while it serves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509

from doubles.authorities import NOW, csr, root
from ostria.base.clock import ManualClock
from ostria.identity.authority import Authority, load
from ostria.identity.server import CertificateService, Statistics
from ostria.identity.service_wire import (
    METHOD,
    Request,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from ostria.identity.serving import LOOK, keep_serving, make, serving_names
from ostria.identity.tokens import TokenIdentity

ISTIOD = "istiod.istio-system.svc"
TOKENS = {
    "good": TokenIdentity("default", "reviews", "reviews-v1", "u-1", NOW + 3600),
    "expired": TokenIdentity("default", "reviews", "reviews-v1", "u-1", NOW - 1),
    "endless": TokenIdentity("default", "reviews", "reviews-v1", "u-1", 0.0),
    "odd": TokenIdentity("default", "no account", "reviews-v1", "u-1", NOW + 3600),
}


async def verify(token: str) -> TokenIdentity | None:
    if token == "unknowable":
        raise ConnectionError("the API server does not answer")
    return TOKENS.get(token)


class Plane:
    """A control plane's gRPC server with nothing but this service."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.authority = load(root(), NOW)
        self.service = CertificateService(lambda: self.authority, verify, lambda: "cluster.local", clock=self.clock.now)
        self.port = 0

    async def ask(self, request: bytes, token: str | None = "good", *, seconds: int = 0) -> list[bytes]:
        credentials = grpc.ssl_channel_credentials(self.authority.roots)
        options = [("grpc.ssl_target_name_override", ISTIOD), ("grpc.use_local_subchannel_pool", 1)]
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options) as channel:
            call: Any = channel.unary_unary(METHOD)
            return decode_response(await call(encode_request(Request(request, seconds)), metadata=metadata, timeout=10))

    async def refusal(self, request: bytes, token: str | None = "good") -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.ask(request, token)
        return refused.value.code()


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane()
    first = make(plane.authority, [ISTIOD], NOW)
    pair = grpc.ssl_server_credentials([(first.key, first.chain)])
    server = grpc.aio.server(handlers=[plane.service])
    plane.port = server.add_secure_port("127.0.0.1:0", pair)
    await server.start()
    try:
        yield plane
    finally:
        await server.stop(None)


async def test_a_token_and_a_request_make_a_certificate(plane: Plane):
    leaf, roots = await plane.ask(csr())
    certificate = x509.load_pem_x509_certificate(leaf)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://cluster.local/ns/default/sa/reviews"]
    assert roots == plane.authority.roots
    assert plane.service.statistics() == Statistics(issued=1, refused=0)


async def test_a_shorter_life_may_be_asked_for(plane: Plane):
    leaf, _ = await plane.ask(csr(), seconds=600)
    assert x509.load_pem_x509_certificate(leaf).not_valid_after_utc.timestamp() == NOW + 600


@pytest.mark.parametrize("token", [None, "", "foreign", "expired", "endless", "odd"])
async def test_any_other_token_is_refused(plane: Plane, token: str | None):
    assert await plane.refusal(csr(), token) is grpc.StatusCode.UNAUTHENTICATED
    assert plane.service.statistics() == Statistics(issued=0, refused=1, by_code=(("UNAUTHENTICATED", 1),))


async def test_a_request_that_names_somebody_else_is_refused(plane: Plane):
    other = csr("spiffe://cluster.local/ns/default/sa/ratings")
    assert await plane.refusal(other) is grpc.StatusCode.PERMISSION_DENIED


async def test_what_is_no_request_is_refused(plane: Plane):
    assert await plane.refusal(b"hello") is grpc.StatusCode.INVALID_ARGUMENT


async def test_not_to_know_is_not_to_refuse(plane: Plane):
    assert await plane.refusal(csr(), "unknowable") is grpc.StatusCode.UNAVAILABLE


def test_the_messages_are_istios():
    # istio.io/api security/v1alpha1/ca.proto: csr = 1, validity_duration = 3, metadata = 4; cert_chain = 1.
    assert encode_request(Request(b"x", 5)) == b"\x0a\x01x\x18\x05"
    assert decode_request(b"\x0a\x01x\x18\x05\x22\x00") == Request(b"x", 5)
    assert decode_response(encode_response([b"a", b"b"])) == [b"a", b"b"]
    with pytest.raises(ValueError, match="IstioCertificateRequest"):
        decode_request(b"\xff")


@contextlib.asynccontextmanager
async def shown(clock: ManualClock, authority: list[Authority]) -> AsyncIterator[list[bytes]]:
    """What the control plane shows, the last one last; the last authority signs."""
    first = make(authority[0], serving_names(), NOW)
    chains = [first.chain]
    task = asyncio.get_running_loop().create_task(
        keep_serving(
            first,
            lambda: authority[-1],
            serving_names(),
            lambda key, chain: chains.append(chain),
            clock=clock,
            jitter=lambda: 0.0,
        )
    )
    try:
        yield chains
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def passes(clock: ManualClock, seconds: float) -> None:
    """Let so much time pass at once, as where a machine slept, and everything happen that is due."""
    while not clock.sleepers:
        await asyncio.sleep(0)
    clock.advance(seconds)
    while not clock.sleepers:
        await asyncio.sleep(0)


async def test_the_control_planes_own_certificate_is_renewed_at_half_of_its_life():
    clock = ManualClock(NOW)
    async with shown(clock, [load(root(), NOW)]) as chains:
        for expected in (1, 2, 3, 4):
            assert len(chains) == expected
            await passes(clock, 12 * 3600 - 330)
            assert len(chains) == expected
            await passes(clock, 332)
    assert len({x509.load_pem_x509_certificate(chain).serial_number for chain in chains}) == 5


async def test_after_a_sleep_past_its_end_the_control_plane_shows_a_good_one_at_once():
    clock = ManualClock(NOW)
    async with shown(clock, [load(root(), NOW)]) as chains:
        # The steady clock has stood still: what is left of the pause that was begun before is all that passes.
        await passes(clock, 3 * 24 * 3600.0)
        assert x509.load_pem_x509_certificate(chains[-1]).not_valid_after_utc.timestamp() > clock.now() + 86_000


async def test_another_authority_signs_for_the_control_plane_at_once():
    clock, authorities = ManualClock(NOW), [load(root(), NOW)]
    async with shown(clock, authorities) as chains:
        await passes(clock, LOOK)
        authorities.append(load(root(), NOW))
        await passes(clock, LOOK)
        x509.load_pem_x509_certificate(chains[-1]).verify_directly_issued_by(authorities[-1].certificate)


def test_the_names_are_those_that_proxies_check():
    assert serving_names()[0] == ISTIOD
    assert serving_names("mesh", "prod")[0] == "istiod-prod.mesh.svc"
