"""One request in HTTP/2 (RFC 9113), by hand: nothing here speaks it as a client, and one stream is little.

Headers are sent as literals (RFC 7541, 6.2.2). Of the answer only the status is read.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY, _ACK = 1, 4, 8, 32, 1
# The static table's statuses (RFC 7541, appendix A), and digits as they are compressed (appendix B).
_STATUSES = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
_DIGITS = {"00000": "0", "00001": "1", "00010": "2", **{f"011{at:03b}": str(at + 2) for at in range(1, 8)}}


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Iterable[tuple[str, str]]
) -> int | None:
    """The status of the answer to a request without a body; None where the connection ends without one."""
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))
    writer.write(_frame(_HEADERS, _END_STREAM | _END_HEADERS, 1, block))
    status = None
    while True:
        try:
            head = await reader.readexactly(9)
            body = await reader.readexactly(int.from_bytes(head[:3], "big"))
        except asyncio.IncompleteReadError:
            return status
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            return status
        elif kind == _HEADERS and status is None:
            assert not flags & (_PADDED | _PRIORITY)
            status = _status(body)
        if stream == 1 and flags & _END_STREAM and kind in (_DATA, _HEADERS):
            return status


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


def _text(value: str) -> bytes:
    data = value.encode("latin-1")
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    rest, found = length - 127, bytearray((127,))
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes(found) + bytes((rest,)) + data


def _status(block: bytes) -> int:
    """The status, which comes first."""
    at = 0
    while block[at] & 0xE0 == 0x20:
        at += 1  # The table's size is changed.
    first = block[at]
    if first & 0x80:
        return _STATUSES[first & 0x7F]
    length = block[at + 1]
    value = block[at + 2 : at + 2 + (length & 0x7F)]
    if not length & 0x80:
        return int(value)
    bits, digits = "".join(f"{byte:08b}" for byte in value), ""
    while len(digits) < 3:
        size = 5 if bits[:5] in _DIGITS else 6
        digits += _DIGITS[bits[:size]]
        bits = bits[size:]
    return int(digits)
