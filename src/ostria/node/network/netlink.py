"""The conversation with the kernel over a netlink socket of some network namespace: requests, transactions, dumps.

The kernel answers a netlink request before the send returns, so every call here is synchronous and waits for nothing.
What the messages mean is decided in `links` (rtnetlink) and `balancer` (nf_tables); `capture.netlink` encodes them.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence

from ostria.capture.netlink import ACK, Message, encode

# linux/netlink.h, linux/netfilter/nfnetlink.h
NLM_F_REPLACE = 0x100
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_DUMP = 0x300
_NLA_TYPE_MASK = 0x3FFF
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_BATCH_SUBSYSTEM = struct.pack(">BBH", 0, 0, 10)
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE = 1 << 18


class NetlinkError(OSError):
    """The kernel has refused a message."""


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
        begin = Message(_BATCH_BEGIN, 0, _BATCH_SUBSYSTEM, "begin")
        end = Message(_BATCH_END, 0, _BATCH_SUBSYSTEM, "end")
        self._converse([begin, *messages, end] if messages else [], len(messages))

    def _converse(self, messages: Sequence[Message], acknowledge: int) -> None:
        """Only one message is acknowledged: errors are told in any case, and a reply a message would fill the buffer.

        It is the last but for the mark that ends a transaction, which is never answered.
        """
        if not messages:
            return
        first = self._sequence + 1
        self._sequence += len(messages)
        asked = list(messages)
        asked[acknowledge] = _flagged(messages[acknowledge], ACK)
        self._socket.send(encode(asked, first=first))
        acknowledged = False
        for kind, sequence, body in self._replies():
            if kind != _NLMSG_ERROR:
                continue
            (code,) = struct.unpack_from("=i", body)
            if code:
                about = messages[sequence - first].what if first <= sequence <= self._sequence else ""
                self._drain()
                raise NetlinkError(-code, os.strerror(-code), about or None)
            acknowledged = acknowledged or sequence == first + acknowledge
        assert acknowledged, "the kernel answers before send returns"

    def dump(self, message: Message) -> list[bytes]:
        """All objects that a dump request yields: their bodies, without the netlink header."""
        self._sequence += 1
        self._socket.send(encode([_flagged(message, _NLM_F_DUMP)], first=self._sequence))
        found = []
        for kind, _, body in self._replies():
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", body)
                raise NetlinkError(-code, os.strerror(-code), message.what or None)
            if kind == _NLMSG_DONE:
                break
            found.append(body)
        return found

    def get(self, message: Message) -> bytes | None:
        """One object; None if there is no such object."""
        self._sequence += 1
        self._socket.send(encode([message], first=self._sequence))
        for kind, _, body in self._replies():
            if kind != _NLMSG_ERROR:
                return body
        return None

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


def _flagged(message: Message, flags: int) -> Message:
    return message._replace(flags=message.flags | flags)
