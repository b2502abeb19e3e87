"""Netlink messages and the conversation with the kernel: framing, attributes, errors.

The kernel answers a netlink request before the send returns, so every call here is synchronous and waits for nothing.
What the messages mean is decided in `links` (rtnetlink) and `balancer` (nf_tables).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# linux/netlink.h
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
# linux/netfilter/nfnetlink.h
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH_SUBSYSTEM = struct.pack(">BBH", 0, 0, 10)
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 18


class Message(NamedTuple):
    """One request. `kind` and `flags` are the header's (REQUEST is implied); `about` names it in an error."""

    kind: int
    flags: int
    body: bytes
    about: str = ""


class NetlinkError(OSError):
    """The kernel has refused a message."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(value: str) -> bytes:
    """A string as the kernel wants it: with a final NUL."""
    return value.encode() + b"\0"


def u32(value: int) -> bytes:
    """A number in the machine's order, as rtnetlink has them."""
    return struct.pack("=I", value)


def be32(value: int) -> bytes:
    """A number in the network's order, as nf_tables has them; negative ones (verdicts) as two's complement."""
    return struct.pack(">I", value & 0xFFFFFFFF)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes that follow a fixed header of `offset` bytes, by type; the last wins."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Netlink:
    """A netlink socket of some network namespace. It owns the socket and is closed by `with`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sequence = 0
        sock.settimeout(0)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Send rtnetlink messages as one datagram; raises NetlinkError for the first that the kernel refused.

        The others are carried out all the same.
        """
        self._converse(messages, len(messages) - 1)

    def commit(self, messages: Sequence[Message]) -> None:
        """Send nf_tables messages as one transaction: all of them have an effect, or NetlinkError and none has."""
        begin = Message(_BATCH_BEGIN, 0, _BATCH_SUBSYSTEM)
        end = Message(_BATCH_END, 0, _BATCH_SUBSYSTEM)
        self._converse([begin, *messages, end] if messages else [], len(messages))

    def _converse(self, messages: Sequence[Message], acknowledge: int) -> None:
        """Only one message is acknowledged: errors are told in any case, and a reply a message would fill the buffer.

        It is the last but for the mark that ends a transaction, which is never answered.
        """
        if not messages:
            return
        first = self._sequence + 1
        parts = []
        for place, message in enumerate(messages):
            self._sequence += 1
            parts.append(self._frame(message, NLM_F_ACK if place == acknowledge else 0))
        self._socket.send(b"".join(parts))
        acknowledged = False
        for kind, sequence, body in self._replies():
            if kind != NLMSG_ERROR:
                continue
            (code,) = struct.unpack_from("=i", body)
            if code:
                about = messages[sequence - first].about if first <= sequence <= self._sequence else ""
                self._drain()
                raise NetlinkError(-code, os.strerror(-code), about or None)
            acknowledged = acknowledged or sequence == first + acknowledge
        assert acknowledged, "the kernel answers before send returns"

    def dump(self, message: Message) -> list[bytes]:
        """All objects that a dump request yields: their bodies, without the netlink header."""
        self._sequence += 1
        self._socket.send(self._frame(message, NLM_F_DUMP))
        found = []
        for kind, _, body in self._replies():
            if kind == NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", body)
                raise NetlinkError(-code, os.strerror(-code), message.about or None)
            if kind == NLMSG_DONE:
                break
            found.append(body)
        return found

    def get(self, message: Message) -> bytes | None:
        """One object; None if there is no such object."""
        self._sequence += 1
        self._socket.send(self._frame(message, 0))
        for kind, _, body in self._replies():
            if kind != NLMSG_ERROR:
                return body
        return None

    def _frame(self, message: Message, flags: int) -> bytes:
        length = _HEADER.size + len(message.body)
        header = _HEADER.pack(length, message.kind, NLM_F_REQUEST | message.flags | flags, self._sequence, 0)
        return header + message.body + b"\0" * (-length % 4)

    def _replies(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
                yield kind, sequence, data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3

    def _drain(self) -> None:
        for _ in self._replies():
            pass
