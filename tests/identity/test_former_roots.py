"""Who was told of a former root alone still finds the control plane, whose authority is another by now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from doubles.authorities import NOW, intermediate, root
from ostria.identity.authority import Material
from ostria.identity.serving import make
from ostria.identity.succession import Pace, advance, begin, signing

ISTIOD = "istiod.istio-system.svc"
PACE = Pace(10.0, 20.0)


class Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def echo(body: bytes, _: object) -> bytes:
            return body

        return grpc.unary_unary_rpc_method_handler(echo)


async def reached(authorities: Sequence[Material], trusting: bytes) -> bool:
    """Whether a client that trusts these roots reaches a control plane under one authority after another."""
    trust, now = begin(authorities[0], NOW), NOW
    for given in authorities[1:]:
        for _ in range(3):
            trust = advance(trust, given, now, PACE)
            now += PACE.retired
    authority = signing(trust, NOW)
    shown = make(authority, [ISTIOD], NOW, chain=authority.chain + b"".join(trust.crossed))
    server = grpc.aio.server(handlers=[Echo()])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(shown.key, shown.chain)]))
    await server.start()
    options = [("grpc.ssl_target_name_override", ISTIOD), ("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(trusting)
    try:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            call: Any = channel.unary_unary("/a/b")
            return bool(await call(b"x", timeout=10) == b"x")
    except grpc.aio.AioRpcError:
        return False
    finally:
        await server.stop(None)


A, B, C = root(), root(), root()


@pytest.mark.parametrize("trusting", [A, B, C], ids=["first", "second", "third"])
async def test_every_root_that_was_ever_told_leads_to_the_control_plane(trusting: Material):
    assert await reached([A, B, C], trusting.roots)


async def test_a_root_that_was_never_told_does_not():
    assert not await reached([A, B], C.roots)


async def test_an_authority_that_may_sign_no_authorities_leads_nowhere():
    # Envoys that know its root alone have to be started again before it goes.
    narrow = intermediate(A, "narrow", depth=0)
    assert await reached([narrow, B], B.roots)
    assert not await reached([narrow, B], A.roots)
