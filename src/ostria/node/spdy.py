"""SPDY/3.1 as far as kubectl speaks it: streams with headers, data, resets, pings. Pure: bytes in, events out.

kubectl has a server's side to speak with: streams are opened by the client, and answered at once. There is no flow
control of single streams, which its library neither does nor asks for.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MOST_STREAMS = 1024
_MOST_HEADERS = 1 << 16
_FIN = 1
_CONTROL = 0x8000
_VERSION = 3
_REFUSED, _CANCEL = 3, 5

# Both sides begin to compress from these words, so that common headers cost next to nothing. The words, their order
# and the text after them are fixed by the protocol (SPDY draft 3, section 2.6.10.1).
_WORDS = """
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow
authorization cache-control connection content-base content-encoding content-language content-length content-location
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match
if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range
referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get
status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin
"""
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = [word.replace("_", " ").encode() for word in _WORDS.split()]
    return b"".join(struct.pack(">I", len(word)) + word for word in words) + _TEXT.encode()


DICTIONARY = _dictionary()


class _Kind(enum.IntEnum):
    """Of the control frames, those that mean something here."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    PING = 6
    HEADERS = 8


class ProtocolError(Exception):
    """The other side does not speak SPDY, or too much of it."""


class Opened(NamedTuple):
    """The client has opened a stream; header names are in lower case."""

    stream: int
    headers: Mapping[str, str]


class Data(NamedTuple):
    """Bytes of a stream; `ended` says that the client sends no more on it."""

    stream: int
    data: bytes
    ended: bool = False


class Reset(NamedTuple):
    """The client has given a stream up."""

    stream: int


Event = Opened | Data | Reset


class Connection:
    """One connection's state. What is to be sent is taken by `take`, in order."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._sending = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._open: set[int] = set()

    def take(self) -> bytes:
        """What is to be sent, once."""
        data = bytes(self._sending)
        self._sending.clear()
        return data

    def receive(self, data: bytes) -> Iterator[Event]:
        """What these bytes, and those before them, come to. Raises ProtocolError."""
        self._received += data
        while len(self._received) >= 8:
            size = int.from_bytes(self._received[5:8])
            control = bool(self._received[0] & 0x80)
            if control and size > _MOST_HEADERS:
                raise ProtocolError(f"a control frame of {size} bytes")
            if len(self._received) < 8 + size:
                return
            head, body = bytes(self._received[:8]), bytes(self._received[8 : 8 + size])
            del self._received[: 8 + size]
            if control:
                yield from self._control(head, body)
            else:
                stream = int.from_bytes(head[:4])
                if stream in self._open:
                    yield Data(stream, body, bool(head[4] & _FIN))

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Bytes of a stream, and its end if that is wished; nothing happens if it is no longer open."""
        if stream in self._open:
            pieces = range(0, len(data), 1 << 16) or (0,)
            for at in pieces:
                piece = data[at : at + (1 << 16)]
                flags = _FIN if end and at + len(piece) == len(data) else 0
                self._sending += struct.pack(">IB", stream, flags) + len(piece).to_bytes(3) + piece
            if end:
                # What the client still sends on it interests nobody.
                self._open.discard(stream)

    def reset(self, stream: int) -> None:
        """Give a stream up."""
        if stream in self._open:
            self._open.discard(stream)
            self._frame(_Kind.RST_STREAM, struct.pack(">II", stream, _CANCEL))

    def _control(self, head: bytes, body: bytes) -> Iterator[Event]:
        version, kind, flags = struct.unpack(">HHB", head[:5])
        if version != _CONTROL | _VERSION:
            raise ProtocolError(f"version {version & ~_CONTROL} of SPDY")
        try:
            match kind:
                case _Kind.SYN_STREAM:
                    yield from self._opened(body, flags)
                case _Kind.RST_STREAM:
                    (stream,) = struct.unpack(">I", body[:4])
                    if stream in self._open:
                        self._open.discard(stream)
                        yield Reset(stream)
                case _Kind.PING:
                    self._frame(_Kind.PING, body)
                case _Kind.HEADERS:
                    # The names are not used, but every header goes through one and the same compression.
                    self._headers(body[4:])
        except (struct.error, zlib.error, UnicodeDecodeError) as error:
            raise ProtocolError(str(error)) from None

    def _opened(self, body: bytes, flags: int) -> Iterator[Event]:
        stream = struct.unpack(">I", body[:4])[0] & 0x7FFFFFFF
        headers = self._headers(body[10:])
        if stream in self._open or len(self._open) >= MOST_STREAMS:
            self._frame(_Kind.RST_STREAM, struct.pack(">II", stream, _REFUSED))
            return
        self._open.add(stream)
        nothing = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._frame(_Kind.SYN_REPLY, struct.pack(">I", stream) + nothing)
        yield Opened(stream, headers)
        if flags & _FIN:
            yield Data(stream, b"", ended=True)

    def _headers(self, packed: bytes) -> dict[str, str]:
        data = self._inflate.decompress(packed, _MOST_HEADERS)
        if self._inflate.unconsumed_tail:
            raise ProtocolError("too many headers")
        found: dict[str, str] = {}
        (count,) = struct.unpack_from(">I", data)
        at = 4
        for _ in range(count):
            words = []
            for _ in range(2):
                (size,) = struct.unpack_from(">I", data, at)
                words.append(data[at + 4 : at + 4 + size].decode())
                at += 4 + size
            found[words[0].lower()] = words[1]
        return found

    def _frame(self, kind: int, body: bytes) -> None:
        self._sending += struct.pack(">HHB", _CONTROL | _VERSION, kind, 0) + len(body).to_bytes(3) + body
