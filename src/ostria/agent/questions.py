"""As much of DNS's wire format (RFC 1035, EDNS of RFC 6891) as an agent needs: questions are read, addresses answered.

Everything else is passed on as it came. Pure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

A, AAAA, OPT = 1, 28, 41
IN = 1
NO_ERROR, SERVER_FAILURE = 0, 2
TTL = 30
"""How long (seconds) an answer of ours may be kept."""

_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x200, 0x100, 0x80
_HEADER = struct.Struct(">HHHHHH")
_PLAIN_SIZE, _OUR_SIZE = 512, 1232


class Question(NamedTuple):
    """What is asked. `name` is lower-case without a final dot; `raw` is the question as it came.

    `size` is what the asker takes over UDP, in bytes; `extended` says that it speaks EDNS.
    """

    number: int
    name: bytes
    kind: int
    raw: bytes
    recursion: bool
    size: int
    extended: bool


def read_question(data: bytes) -> Question | None:
    """The one question of a query for the Internet's names; None for everything else."""
    if len(data) < _HEADER.size:
        return None
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE or (flags >> 11) & 15 or questions != 1 or answers or authorities:
        return None
    labels = []
    offset = _HEADER.size
    while offset < len(data) and data[offset]:
        length = data[offset]
        if length > 63:
            return None
        labels.append(data[offset + 1 : offset + 1 + length])
        offset += length + 1
    if offset + 5 > len(data):
        return None
    kind, family = struct.unpack_from(">HH", data, offset + 1)
    end = offset + 5
    size, extended = _PLAIN_SIZE, False
    # Only an OPT record is looked for: a root name, the type, and the size in place of the class.
    if additional and data[end : end + 3] == b"\0\0\x29" and end + 5 <= len(data):
        size = max(_PLAIN_SIZE, min(_OUR_SIZE, int.from_bytes(data[end + 3 : end + 5], "big")))
        extended = True
    name = b".".join(labels).lower()
    recursion = bool(flags & _RECURSION_DESIRED)
    return Question(number, name, kind, data[_HEADER.size : end], recursion, size, extended) if family == IN else None


def answer(question: Question, addresses: Sequence[str], code: int = NO_ERROR) -> bytes:
    """The answer with those addresses that are of the family asked for, the first another one each time."""
    family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(question.kind)
    found = (
        [socket.inet_pton(family, each) for each in addresses if (":" in each) == (family is socket.AF_INET6)]
        if (family)
        else []
    )
    first = question.number % len(found) if found else 0
    flags = _RESPONSE | _RECURSION_AVAILABLE | code | (_RECURSION_DESIRED if question.recursion else 0)
    # The name is a pointer to the question's, which stands after the header.
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", question.kind, IN, TTL, len(each)) + each
        for each in (*found[first:], *found[:first])
    )
    rest = b"\0" + struct.pack(">HHIH", OPT, _OUR_SIZE, 0, 0) if question.extended else b""
    return (
        _HEADER.pack(question.number, flags, 1, len(found), 0, int(question.extended)) + question.raw + records + rest
    )


def fit(question: Question, whole: bytes) -> bytes:
    """An answer for UDP: cut to its question, with the mark that asks for TCP, if it is too large for the asker."""
    if len(whole) <= question.size:
        return whole
    number, flags, *_ = _HEADER.unpack_from(whole)
    return _HEADER.pack(number, flags | _TRUNCATED, 1, 0, 0, 0) + question.raw


def belongs(reply: bytes, question: Question) -> bool:
    """Whether a reply is to this question."""
    end = _HEADER.size + len(question.raw)
    asked = question.number.to_bytes(2, "big")
    return reply[:2] == asked and reply[_HEADER.size : end].lower() == question.raw.lower()
