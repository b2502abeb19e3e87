"""The wire format of DNS (RFC 1035, EDNS of RFC 6891): what a small server must read and write, and no more.

Pure. Questions are parsed, answers are built; answers of other servers are passed on as bytes, of which only the
times to live are read and lowered (RFC 2181, 8).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = 0, 1, 2, 3, 4, 5
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x400, 0x200, 0x100, 0x80
_HEADER = struct.Struct(">HHHHHH")
_FIXED = struct.Struct(">HHIH")
_MAX_NAME = 255
PLAIN_SIZE = 512
OUR_SIZE = 1232
"""What a UDP answer may have without fragments (DNS flag day 2020)."""


class Malformed(ValueError):
    """These bytes are no message that we can answer."""


class Question(NamedTuple):
    """What is asked. `name` is lower-case without a final dot; `raw` is the question as it came, for the answer."""

    number: int
    name: str
    kind: int
    family: int
    raw: bytes
    recursion: bool
    size: int
    """What the asker takes over UDP, in bytes."""
    extended: bool


class Record(NamedTuple):
    """One resource record; `data` is in wire format."""

    name: str
    kind: int
    ttl: int
    data: bytes


def encode_name(name: str) -> bytes:
    """A name as labels, not compressed. Raises Malformed for one that DNS cannot have."""
    labels = [label.encode("ascii", "replace") for label in name.rstrip(".").split(".") if label]
    if any(len(label) > 63 for label in labels) or sum(len(label) + 1 for label in labels) > _MAX_NAME - 1:
        raise Malformed(f"{name[:80]} is no name")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def parse_question(data: bytes) -> Question:
    """The question of a query. Raises Malformed."""
    if len(data) < _HEADER.size:
        raise Malformed("shorter than a header")
    number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE or (flags >> 11) & 15 or questions != 1 or answers or authorities or additional > 2:
        raise Malformed("not a query with one question")
    labels = []
    offset = _HEADER.size
    while True:
        length = _byte(data, offset)
        offset += 1
        if not length:
            break
        if length > 63 or offset + length > len(data) or offset + length - _HEADER.size > _MAX_NAME:
            raise Malformed("not a name")
        labels.append(data[offset : offset + length].decode("latin-1").lower())
        offset += length
    if offset + 4 > len(data):
        raise Malformed("the question ends early")
    kind, family = struct.unpack_from(">HH", data, offset)
    raw = data[_HEADER.size : offset + 4]
    offset += 4
    size, extended = PLAIN_SIZE, False
    # Only an OPT record may follow: a root name, the type, and the size in place of the class.
    if additional and data[offset : offset + 3] == b"\0" + OPT.to_bytes(2, "big") and offset + 5 <= len(data):
        size = max(PLAIN_SIZE, min(OUR_SIZE, int.from_bytes(data[offset + 3 : offset + 5], "big")))
        extended = True
    return Question(number, ".".join(labels), kind, family, raw, bool(flags & _RECURSION_DESIRED), size, extended)


def build_query(number: int, name: str, kind: int) -> bytes:
    """A recursive query of our own."""
    header = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + encode_name(name) + struct.pack(">HH", kind, IN)


def build_answer(
    question: Question,
    code: int,
    answers: Iterable[Record] = (),
    authorities: Iterable[Record] = (),
    additional: Iterable[Record] = (),
    *,
    authoritative: bool = True,
) -> bytes:
    """An answer to a question. What it names is the question's name where it is the same, so case is kept."""
    sections = [list(answers), list(authorities), list(additional)]
    flags = _RESPONSE | _RECURSION_AVAILABLE | code
    flags |= _AUTHORITATIVE if authoritative else 0
    flags |= _RECURSION_DESIRED if question.recursion else 0
    counts = [len(section) for section in sections]
    body = b"".join(_record(question, record) for section in sections for record in section)
    if question.extended:
        counts[2] += 1
        body += b"\0" + _FIXED.pack(OPT, OUR_SIZE, 0, 0)
    return _HEADER.pack(question.number, flags, 1, *counts) + question.raw + body


def fit(question: Question, answer: bytes) -> bytes:
    """The answer for UDP: cut to its question, with the mark that asks for TCP, if it is too large for the asker."""
    if len(answer) <= question.size:
        return answer
    number, flags, *_ = _HEADER.unpack_from(answer)
    return _HEADER.pack(number, flags | _TRUNCATED, 1, 0, 0, 0) + question.raw


def is_truncated(answer: bytes) -> bool:
    """Whether the rest of an answer has to be asked for by TCP."""
    return bool(_HEADER.unpack_from(answer)[1] & _TRUNCATED)


def answers(query: bytes, answer: bytes) -> bool:
    """Whether an answer belongs to a query: its number and its question are the same, but for the case."""
    end = _after_name(query, _HEADER.size) + 4
    if len(answer) < end or answer[:2] != query[:2] or not answer[2] & 0x80:
        return False
    return answer[4:6] == b"\0\1" and answer[_HEADER.size : end].lower() == query[_HEADER.size : end].lower()


def code_of(answer: bytes) -> int:
    """The response code."""
    return int(_HEADER.unpack_from(answer)[1]) & 15


class Times(NamedTuple):
    """Where an answer's times to live are written, and for how many seconds the whole may be kept."""

    offsets: tuple[int, ...]
    seconds: int


def times_of(answer: bytes) -> Times:
    """An answer's times to live. One without records may be kept as its SOA says, else not at all. Raises Malformed."""
    _, _, questions, *counts = _HEADER.unpack_from(answer)
    offset = _HEADER.size
    for _ in range(questions):
        offset = _after_name(answer, offset) + 4
    offsets, shortest = [], []
    for section, count in enumerate(counts):
        for _ in range(count):
            offset = _after_name(answer, offset)
            if offset + _FIXED.size > len(answer):
                raise Malformed("a record ends early")
            kind, _, ttl, length = _FIXED.unpack_from(answer, offset)
            end = offset + _FIXED.size + length
            if end > len(answer):
                raise Malformed("a record ends early")
            if kind != OPT:
                offsets.append(offset + 4)
                if section == 0:
                    shortest.append(ttl)
                elif kind == SOA and section == 1 and not counts[0] and length >= 20:
                    # RFC 2308, 5: the lesser of the record's time and its MINIMUM field.
                    shortest.append(min(ttl, int.from_bytes(answer[end - 4 : end], "big")))
            offset = end
    return Times(tuple(offsets), min(shortest, default=0))


def aged(answer: bytes, times: Times, seconds: int, number: int) -> bytes:
    """A kept answer as it is after some seconds, under a new query's number."""
    changed = bytearray(answer)
    changed[:2] = number.to_bytes(2, "big")
    for offset in times.offsets:
        left = max(0, int.from_bytes(answer[offset : offset + 4], "big") - seconds)
        changed[offset : offset + 4] = left.to_bytes(4, "big")
    return bytes(changed)


def addresses_in(answer: bytes) -> list[Record]:
    """The address and CNAME records of another server's answer, names written out. Raises Malformed."""
    _, _, questions, count, _, _ = _HEADER.unpack_from(answer)
    offset = _HEADER.size
    for _ in range(questions):
        offset = _after_name(answer, offset) + 4
    found = []
    for _ in range(count):
        name, offset = _read_name(answer, offset)
        if offset + _FIXED.size > len(answer):
            raise Malformed("a record ends early")
        kind, _, ttl, length = _FIXED.unpack_from(answer, offset)
        start = offset + _FIXED.size
        offset = start + length
        if kind in (A, AAAA) and offset <= len(answer):
            found.append(Record(name, kind, ttl, answer[start:offset]))
        elif kind == CNAME:
            found.append(Record(name, kind, ttl, encode_name(_read_name(answer, start)[0])))
    return found


def _record(question: Question, record: Record) -> bytes:
    # A pointer to the question's name, which stands after the header.
    name = b"\xc0\x0c" if record.name == question.name else encode_name(record.name)
    return name + _FIXED.pack(record.kind, IN, record.ttl, len(record.data)) + record.data


def _byte(data: bytes, offset: int) -> int:
    if offset >= len(data):
        raise Malformed("the message ends early")
    return data[offset]


def _after_name(data: bytes, offset: int) -> int:
    while length := _byte(data, offset):
        if length & 0xC0 == 0xC0:
            return offset + 2
        offset += length + 1
    return offset + 1


def _read_name(data: bytes, offset: int) -> tuple[str, int]:
    after = _after_name(data, offset)
    labels: list[str] = []
    size = 0
    while length := _byte(data, offset):
        if length & 0xC0 == 0xC0:
            target = (length & 0x3F) << 8 | _byte(data, offset + 1)
            # A pointer leads back; so there is no circle.
            if target >= offset:
                raise Malformed("a pointer that does not lead back")
            offset = target
            continue
        size += length + 1
        if size > _MAX_NAME or offset + 1 + length > len(data):
            raise Malformed("not a name")
        labels.append(data[offset + 1 : offset + 1 + length].decode("latin-1"))
        offset += length + 1
    return ".".join(labels).lower(), after
