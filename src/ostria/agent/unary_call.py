"""One unary gRPC call over HTTP/2 (RFC 9113), without IO: bytes in, bytes out.

    call = UnaryCall("/grpc.health.v1.Health/Check", message)
    send(call.begin()); while not call.done: send(call.receive(read()))
    call.message, or call.failure in words

A call a connection, answers within one flow-control window: enough to probe a server's health and to ask for a
certificate, for a small part of what a gRPC library keeps in memory. Header compression (RFC 7541) is switched off
for the peer (table size 0); a text that comes in Huffman's code all the same is passed over, and so `failure` can
lack words, but whether a message came is always known.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_STREAM = 1
_FRAME = 16_384  # What every peer takes (RFC 9113, 4.2).
_WINDOW = 65_535

# SETTINGS_HEADER_TABLE_SIZE (1) and SETTINGS_ENABLE_PUSH (2), both 0.
_OUR_SETTINGS = struct.pack(">HIHI", 1, 0, 2, 0)

_CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


class UnaryCall:
    """`done` once the answer is whole or cannot come; then `message` is the answer, or None and `failure` says why."""

    def __init__(
        self,
        path: str,
        message: bytes,
        *,
        authority: str = "localhost",
        scheme: str = "http",
        headers: Mapping[str, str] = {},
    ) -> None:
        fields = {
            ":method": "POST",
            ":scheme": scheme,
            ":path": path,
            ":authority": authority,
            "te": "trailers",
            "content-type": "application/grpc",
            "user-agent": "ostria",
            **headers,
        }
        self._head = b"".join(_literal(name, value) for name, value in fields.items())
        self._body = b"\0" + struct.pack(">I", len(message)) + message
        self._unread = b""
        self._block = b""
        self._block_ends_stream = False
        self._data = b""
        self._trailers: dict[str, str] = {}
        self.done = False
        self.message: bytes | None = None
        self.failure = ""

    def begin(self) -> bytes:
        """What to send first. Raises ValueError if the call is too long for one."""
        if len(self._head) > _FRAME or len(self._body) > _FRAME:
            raise ValueError("the call is too long")
        return (
            _PREFACE
            + _frame(_SETTINGS, 0, 0, _OUR_SETTINGS)
            + _frame(_HEADERS, _END_HEADERS, _STREAM, self._head)
            + _frame(_DATA, _END_STREAM, _STREAM, self._body)
        )

    def receive(self, data: bytes) -> bytes:
        """Take what was read (b"" at the connection's end) and say what to send, which may be nothing."""
        if not data:
            self._end("the connection ended")
        self._unread += data
        sent = b""
        while not self.done and len(self._unread) >= 9:
            size = int.from_bytes(self._unread[:3], "big")
            if size > _FRAME:
                self._end("the other end speaks no HTTP/2")
                break
            if len(self._unread) < 9 + size:
                break
            kind, flags = self._unread[3], self._unread[4]
            stream = int.from_bytes(self._unread[5:9], "big") & 0x7FFF_FFFF
            payload, self._unread = self._unread[9 : 9 + size], self._unread[9 + size :]
            sent += self._take(kind, flags, stream, payload)
        return sent

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind == _GOAWAY and len(payload) >= 8 and int.from_bytes(payload[:4], "big") < _STREAM:
            self._end("the other end goes away")
        if stream != _STREAM:
            return b""
        if kind == _RST_STREAM:
            self._end("the call was reset")
        elif kind == _DATA:
            self._data += _unpadded(flags, payload)
            if len(self._data) > _WINDOW:
                self._end("the answer is too long")
            elif flags & _END_STREAM:
                self._end("")
        elif kind in (_HEADERS, _CONTINUATION):
            self._take_headers(kind, flags, payload)
        return b""

    def _take_headers(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _HEADERS:
            payload = _unpadded(flags, payload)
            self._block = payload[5:] if flags & _PRIORITY else payload
            self._block_ends_stream = bool(flags & _END_STREAM)
        else:
            self._block += payload
        if flags & _END_HEADERS:
            try:
                self._trailers |= _fields(self._block)
            except IndexError:
                self._end("the answer's headers cannot be read")
            if self._block_ends_stream:
                self._end("")

    def _end(self, why: str) -> None:
        if self.done:
            return
        self.done = True
        code = self._trailers.get("grpc-status", "")
        size = int.from_bytes(self._data[1:5], "big")
        whole = len(self._data) >= 5 and len(self._data) == 5 + size and self._data[0] == 0
        if not why and whole and code in ("", "0"):
            self.message = self._data[5:]
            return
        name = _CODES[int(code)] if code.isdecimal() and int(code) < len(_CODES) else code
        words = _unquoted(self._trailers.get("grpc-message", ""))
        self.failure = why or ": ".join(filter(None, (name, words))) or "the call was refused"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload


def _literal(name: str, value: str) -> bytes:
    """A header that is never put into a table (RFC 7541, 6.2.3): a token must not be."""
    return b"\x10" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode()
    return _integer(len(data)) + data


def _integer(value: int) -> bytes:
    """A number behind a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 0x7F:
        return bytes((value,))
    out = b"\x7f"
    value -= 0x7F
    while value >= 0x80:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def _fields(block: bytes) -> dict[str, str]:
    """The headers that are written out; raises IndexError if the block breaks off."""
    found: dict[str, str] = {}
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # From the static table: nothing that we ask for.
            _, at = _read_integer(block, at, 0x7F)
        elif first & 0xE0 == 0x20:  # A change of the table's size.
            _, at = _read_integer(block, at, 0x1F)
        else:
            index, at = _read_integer(block, at, 0x3F if first & 0x40 else 0x0F)
            name = ""
            if not index:
                name, at = _read_string(block, at)
            value, at = _read_string(block, at)
            found[name] = value
    return found


def _read_integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    value = block[at] & prefix
    at += 1
    if value < prefix:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 28:
            raise IndexError("a number is too long")


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    huffman = block[at] & 0x80
    size, at = _read_integer(block, at, 0x7F)
    if at + size > len(block):
        raise IndexError("a text breaks off")
    return "" if huffman else block[at : at + size].decode("latin-1"), at + size


def _unquoted(text: str) -> str:
    """Percent-encoding as gRPC's messages have it."""
    parts = text.split("%")
    out = parts[0].encode("latin-1")
    for part in parts[1:]:
        try:
            out += bytes((int(part[:2], 16),)) + part[2:].encode("latin-1")
        except ValueError:
            out += b"%" + part.encode("latin-1")
    return out.decode("utf-8", "replace")
