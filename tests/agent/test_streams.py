"""The agent's HTTP, in the hands of strangers: what comes is understood or refused, and never a defect."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostria.agent.loop import Loop, now
from ostria.agent.streams import HttpError, Stream, request


def ask(answer: bytes) -> tuple[int, str]:
    """Status and text of an answer that is these bytes, after which the connection ends."""
    found: list[tuple[int, str]] = []
    ours, theirs = socket.socketpair()

    async def main() -> int:
        response = await request(Stream(ours, now() + 5), "GET", "/")
        found.append((response.status, await response.text()))
        return 0

    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        Loop().run(main())
    return found[0]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi, more", "hi"),
        (b"HTTP/1.1 200\r\n\r\nhi", "hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n3\r\n, y\r\n0\r\n\r\n", "hi, y"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
    ],
)
def test_bodies_of_each_kind(answer: bytes, text: str):
    assert ask(answer) == (200, text)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhi",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 50_000,
    ],
)
def test_what_is_no_answer_is_refused(answer: bytes):
    with pytest.raises(HttpError):
        ask(answer)


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length:"]))
def test_no_bytes_are_a_defect(data: bytes, before: bytes):
    try:
        status, _ = ask(before + data)
    except HttpError:
        return
    assert status >= 0
