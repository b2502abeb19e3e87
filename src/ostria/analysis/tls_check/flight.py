"""What a server answers to a hello, read from bytes that may say anything.

    bytes -> records -> handshake messages -> Answer

Up to TLS 1.2 all of it is in clear; of TLS 1.3 the rest of the flight is opened with the keys of the handshake, which
a client knows from its own key share (RFC 8446 section 7).
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ostria.analysis.tls_check.hello import P256, X25519, Keys, Version

LARGEST = 1 << 18
"""More than so many bytes are not read of one answer."""

_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_ALERTS = {
    10: "unexpected message", 20: "bad record", 40: "handshake failure", 42: "bad certificate",
    46: "certificate unknown", 47: "illegal parameter", 50: "decode error", 70: "protocol version",
    71: "insufficient security", 80: "internal error", 86: "inappropriate fallback", 109: "missing extension",
    112: "unrecognized name", 116: "certificate required", 120: "no application protocol",
}  # fmt: skip


class Malformed(Exception):
    """What came is no TLS, or breaks its rules."""


class Ending(enum.Enum):
    """Whether more is to be read."""

    MORE = enum.auto()
    DONE = enum.auto()


class Answer(NamedTuple):
    """What a server chose and showed. `version` 0 is none: it refused, with `alert` if it said one.

    `certificates` are DER, the server's own first. `group` is a number, `alpn` "" for none.
    """

    version: int = 0
    suite: int = 0
    group: int = 0
    alpn: str = ""
    certificates: tuple[bytes, ...] = ()
    stapled: bytes = b""
    asks: bool = False
    alert: str = ""


class Flight:
    """One answer as it arrives. `whole` reads up to the certificates; else the server's choice is enough."""

    def __init__(self, hello: bytes, private: bytes, *, whole: bool) -> None:
        self.answer = Answer()
        self._hello = hello
        self._private = private
        self._whole = whole
        self._bytes = b""
        self._messages = b""
        self._sealed: _Opened | None = None
        self._read = 0

    def feed(self, data: bytes) -> Ending:
        """Take what has arrived. Raises Malformed."""
        self._bytes += data
        self._read += len(data)
        if self._read > LARGEST:
            raise Malformed("the answer has no end")
        while len(self._bytes) >= 5:
            kind, version, length = struct.unpack("!BHH", self._bytes[:5])
            if kind not in (20, 21, 22, 23) or version >> 8 != 3 or length > 1 << 14 | 1 << 11:
                raise Malformed("what it answers is no TLS")
            if len(self._bytes) < 5 + length:
                break
            head, body, self._bytes = self._bytes[:5], self._bytes[5 : 5 + length], self._bytes[5 + length :]
            if self._record(kind, head, body) is Ending.DONE:
                return Ending.DONE
        if self._bytes and self._bytes[0] not in (20, 21, 22, 23):
            raise Malformed("what it answers is no TLS")
        return Ending.MORE

    def _record(self, kind: int, head: bytes, body: bytes) -> Ending:
        if kind == 23 and self._sealed is not None:
            kind, body = self._sealed.open(head, body)
        if kind == 21:
            number = body[1] if len(body) == 2 else 0
            self.answer = self.answer._replace(alert=_ALERTS.get(number, f"alert {number}"))
            return Ending.DONE
        if kind != 22:
            return Ending.MORE
        self._messages += body
        for type_, content, message in self._complete():
            try:
                if self._message(type_, content, message) is Ending.DONE:
                    return Ending.DONE
            except (IndexError, struct.error, ValueError) as error:
                raise Malformed("a message of its handshake is malformed") from error
        return Ending.MORE

    def _complete(self) -> Iterator[tuple[int, bytes, bytes]]:
        while len(self._messages) >= 4:
            length = int.from_bytes(self._messages[1:4])
            if length > LARGEST:
                raise Malformed("a message of its handshake is too large")
            if len(self._messages) < 4 + length:
                return
            message, self._messages = self._messages[: 4 + length], self._messages[4 + length :]
            yield message[0], message[4:], message

    def _message(self, type_: int, content: bytes, message: bytes) -> Ending:
        modern = self.answer.version == Version.TLS13
        if type_ == 2:
            return self._server_hello(_Reader(content), message)
        if type_ == 8 and modern:
            self.answer = self.answer._replace(alpn=_alpn(_extensions(_Reader(content))))
        elif type_ == 11:
            chain, stapled = _certificates(_Reader(content), modern=modern)
            self.answer = self.answer._replace(certificates=chain, stapled=stapled)
        elif type_ == 13:
            self.answer = self.answer._replace(asks=True)
        elif type_ == 22:
            self.answer = self.answer._replace(stapled=content[4:])
        # The certificates are there, and what may stand behind them is.
        return Ending.DONE if type_ in (14, 15) else Ending.MORE

    def _server_hello(self, reader: _Reader, message: bytes) -> Ending:
        version, random = reader.number(2), reader.take(32)
        reader.vector(1)
        suite = reader.number(2)
        reader.number(1)
        extensions = _extensions(reader) if reader.left else {}
        if 43 in extensions:
            version = int.from_bytes(extensions[43])
        share = _Reader(extensions.get(51, b""))
        group = share.number(2) if share.left else 0
        self.answer = Answer(version, suite, group, _alpn(extensions))
        if random == _RETRY or not self._whole:
            return Ending.DONE
        if version == Version.TLS13:
            secret = _shared(Keys.of(self._private), group, share.vector(2))
            if secret is None:
                return Ending.DONE
            self._sealed = _Opened(secret, suite, self._hello + message)
        return Ending.MORE


class _Reader:
    """A message, read from the front. Raises IndexError where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, size: int) -> bytes:
        if len(self.left) < size:
            raise IndexError(size)
        found, self.left = self.left[:size], self.left[size:]
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _extensions(reader: _Reader) -> dict[int, bytes]:
    found, inner = {}, _Reader(reader.vector(2))
    while inner.left:
        number = inner.number(2)
        found[number] = inner.vector(2)
    return found


def _alpn(extensions: dict[int, bytes]) -> str:
    if 16 not in extensions:
        return ""
    return _Reader(_Reader(extensions[16]).vector(2)).vector(1).decode("ascii", "replace")


def _certificates(reader: _Reader, *, modern: bool) -> tuple[tuple[bytes, ...], bytes]:
    """The chain of a Certificate message, and the answer about it that the server has stapled (TLS 1.3)."""
    if modern:
        reader.vector(1)
    chain, stapled, inner = [], b"", _Reader(reader.vector(3))
    while inner.left:
        chain.append(inner.vector(3))
        extensions = _extensions(inner) if modern else {}
        if len(chain) == 1 and 5 in extensions:
            stapled = extensions[5][4:]
    return tuple(chain), stapled


# --- opening the flight of TLS 1.3 --------------------------------------------------------------------------------


def _shared(keys: Keys, group: int, theirs: bytes) -> bytes | None:
    """The secret that both sides know; None for a group whose keys we have not sent."""
    if group == X25519:
        return keys.x25519.exchange(x25519.X25519PublicKey.from_public_bytes(theirs))
    if group == P256:
        return keys.p256.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs))
    return None


class _Opened:
    """The server's side of a handshake, record by record."""

    def __init__(self, secret: bytes, suite: int, transcript: bytes) -> None:
        name = "sha384" if suite == 0x1302 else "sha256"
        size = hashlib.new(name).digest_size
        early = hmac.digest(bytes(size), bytes(size), name)
        derived = _expand(early, "derived", hashlib.new(name).digest(), size, name)
        handshake = hmac.digest(derived, secret, name)
        traffic = _expand(handshake, "s hs traffic", hashlib.new(name, transcript).digest(), size, name)
        key = _expand(traffic, "key", b"", 16 if suite == 0x1301 else 32, name)
        self._cipher: AESGCM | ChaCha20Poly1305 = ChaCha20Poly1305(key) if suite == 0x1303 else AESGCM(key)
        self._start = int.from_bytes(_expand(traffic, "iv", b"", 12, name))
        self._count = 0

    def open(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """What a record holds, and its kind. Raises Malformed."""
        nonce = (self._start ^ self._count).to_bytes(12)
        self._count += 1
        try:
            text = self._cipher.decrypt(nonce, body, head).rstrip(b"\x00")
        except InvalidTag as error:
            raise Malformed("what it encrypts cannot be opened") from error
        if not text:
            raise Malformed("what it encrypts is nothing")
        return text[-1], text[:-1]


def _expand(secret: bytes, label: str, context: bytes, size: int, name: str) -> bytes:
    """HKDF-Expand-Label, for what fits into one hash or two."""
    full = b"tls13 " + label.encode()
    info = struct.pack("!H", size) + bytes([len(full)]) + full + bytes([len(context)]) + context
    found, block, number = b"", b"", 1
    while len(found) < size:
        block = hmac.digest(secret, block + info + bytes([number]), name)
        found, number = found + block, number + 1
    return found[:size]
