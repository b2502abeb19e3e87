"""The small gRPC call, against gRPC's own server and in the hands of strangers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.agent.unary_call import UnaryCall

SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    seen = dict(context.invocation_metadata() or ())
    if request == b"refuse":
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you: 50% é")
    if request == b"long":
        return b"y" * 40_000
    return request + str(seen.get("authorization", "")).encode()


class Handler(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer) if details.method == "/x.Y/Z" else None  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[int]:
    running = grpc.aio.server(handlers=[Handler()])
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        yield port
    finally:
        await running.stop(None)


async def call(port: int, message: bytes, *, path: str = "/x.Y/Z", token: str = "") -> UnaryCall:
    one = UnaryCall(path, message, headers={"authorization": token} if token else {})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(one.begin())
        while not one.done:
            writer.write(one.receive(await reader.read(7)))
    finally:
        writer.close()
    return one


async def test_grpcs_own_server_answers():
    async with server() as port:
        assert (await call(port, b"hello")).message == b"hello"
        assert (await call(port, b"")).message == b""
        token = "Bearer " + "t" * 5_000
        assert (await call(port, b"a", token=token)).message == b"a" + token.encode()
        assert (await call(port, b"long")).message == b"y" * 40_000


async def test_a_refusal_is_told_in_the_servers_words():
    async with server() as port:
        refused = await call(port, b"refuse")
        unknown = await call(port, b"x", path="/x.Y/other")
    assert (refused.message, refused.failure) == (None, "PERMISSION_DENIED: not you: 50% é")
    assert unknown.failure.startswith("UNIMPLEMENTED")


def test_a_call_that_is_too_long_is_not_begun():
    with pytest.raises(ValueError, match="too long"):
        UnaryCall("/x", b"y" * 20_000).begin()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"", "the connection ended"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the other end speaks no HTTP/2"),
        (frame(3, 0, 1, b"\0\0\0\x08"), "the call was reset"),
        (frame(7, 0, 0, b"\0\0\0\0\0\0\0\0"), "the other end goes away"),
        (frame(0, 1, 1, b"\0\0\0\0\x05abc"), "the call was refused"),
        (frame(1, 5, 1, b"\x00\x0bgrpc-status\x0214"), "UNAVAILABLE"),
        (frame(1, 5, 1, b"\x00\x7f\xff\xff\xff\xff\xff"), "the answer's headers cannot be read"),
    ],
)
def test_what_is_no_answer_is_a_failure(data: bytes, failure: str):
    one = UnaryCall("/x", b"")
    one.receive(SETTINGS)
    one.receive(data)
    assert (one.done, one.message, one.failure) == (True, None, failure)


def test_settings_and_pings_are_answered():
    one = UnaryCall("/x", b"")
    assert one.receive(SETTINGS) == b"\0\0\0\x04\x01\0\0\0\0"
    assert one.receive(frame(6, 0, 0, b"12345678")) == frame(6, 1, 0, b"12345678")


@given(st.binary(max_size=300))
def test_no_bytes_are_a_defect(data: bytes):
    one = UnaryCall("/x", b"")
    one.receive(SETTINGS + data)
    one.receive(b"")
    assert one.done
