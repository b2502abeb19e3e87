"""Netlink as bytes: messages with attributes, sent as one datagram and answered message by message (RFC 3549).

Nothing here knows what the messages say.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ROUTE, NETFILTER = 0, 12

# linux/netlink.h
REQUEST, ACK, EXCLUSIVE, CREATE, APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_ERROR = 2
_NESTED = 0x8000
_SOL_NETLINK, _CAP_ACK = 270, 10
_HEADER = struct.Struct("=IHHII")

# The kernel answers from within send(): this bounds a wait that should never happen.
_ANSWER_SECONDS = 5.0


class Message(NamedTuple):
    """One message: its type, flags beside REQUEST, what follows the header; `what` names it to people."""

    type: int
    flags: int
    body: bytes
    what: str


def attribute(kind: int, *payload: bytes, nested: bool = False) -> bytes:
    """One attribute, padded to four bytes."""
    value = b"".join(payload)
    return struct.pack("=HH", 4 + len(value), kind | (_NESTED if nested else 0)) + value + bytes(-len(value) % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind, *attributes, nested=True)


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string."""
    return attribute(kind, value.encode(), b"\0")


def encode(messages: Sequence[Message], *, first: int = 1) -> bytes:
    """The messages as one datagram, numbered from `first`."""
    return b"".join(
        _HEADER.pack(_HEADER.size + len(message.body), message.type, REQUEST | message.flags, number, 0) + message.body
        for number, message in enumerate(messages, first)
    )


def send(protocol: int, messages: Sequence[Message]) -> None:
    """Send the messages in the network namespace of the calling thread; see `exchange`."""
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)) as link:
        exchange(link, messages)


def exchange(link: socket.socket, messages: Sequence[Message]) -> None:
    """Send the messages over a netlink socket and wait until the last one that asks for it (ACK) is answered.

    A socket belongs to the network namespace in which it was made, and may come from there. Raises the OSError that
    the kernel names first, with what it refused.
    """
    last = max(number for number, message in enumerate(messages, 1) if message.flags & ACK)
    refused: list[OSError] = []
    # A refusal need not carry the message that it refuses.
    link.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
    link.settimeout(_ANSWER_SECONDS)
    link.sendto(encode(messages), (0, 0))
    answered = 0
    while answered < last:
        for number, code in _answers(link.recv(1 << 16)):
            if code:
                refused.append(OSError(code, f"{os.strerror(code)}: {messages[number - 1].what}"))
            # A batch that is refused as a whole is answered by its first message alone.
            answered = last if code and number == 1 else max(answered, number)
    if refused:
        raise refused[0]


def _answers(datagram: bytes) -> Iterator[tuple[int, int]]:
    """Number and errno (0: done) of each message that is answered."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, _, number, _ = _HEADER.unpack_from(datagram, at)
        if kind == _ERROR:
            yield number, -struct.unpack_from("=i", datagram, at + _HEADER.size)[0]
        at += max(_HEADER.size, (length + 3) & ~3)
