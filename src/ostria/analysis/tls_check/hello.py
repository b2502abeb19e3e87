"""ClientHellos as bytes: RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2. Chance is passed in."""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Version(enum.IntEnum):
    """The versions, by their numbers on the wire."""

    SSL3 = 0x0300
    TLS10 = 0x0301
    TLS11 = 0x0302
    TLS12 = 0x0303
    TLS13 = 0x0304

    @property
    def title(self) -> str:
        """As people write it."""
        return "SSL 3.0" if self is Version.SSL3 else f"TLS 1.{self - 0x0301}"


GROUPS = {
    0x11EC: "X25519MLKEM768",
    0x001D: "X25519",
    0x0017: "P-256",
    0x0018: "P-384",
    0x0019: "P-521",
    0x001E: "X448",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
}
X25519, P256 = 0x001D, 0x0017

_SIGNATURES: tuple[int, ...] = (0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080A, 0x080B)
_SIGNATURES += (0x0401, 0x0501, 0x0601, 0x0303, 0x0301, 0x0203, 0x0201)


class Chance(NamedTuple):
    """What must be drawn for one connection: 32 bytes each."""

    random: bytes
    session: bytes
    private: bytes


class Keys(NamedTuple):
    """The private halves of a hello's key shares."""

    x25519: x25519.X25519PrivateKey
    p256: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, private: bytes) -> Keys:
        """Both, of the same 32 bytes."""
        scalar = int.from_bytes(private) % (2**255) + 1
        return cls(x25519.X25519PrivateKey.from_private_bytes(private), ec.derive_private_key(scalar, ec.SECP256R1()))


def client_hello(
    version: Version,
    suites: Sequence[int],
    chance: Chance,
    *,
    server_name: str = "",
    alpn: Sequence[str] = (),
    groups: Sequence[int] = tuple(GROUPS),
    shares: bool = False,
) -> bytes:
    """A handshake message of one version. `shares` sends keys along, so that a server of TLS 1.3 goes on at once."""
    modern = version is Version.TLS13
    body = struct.pack("!H", min(version, Version.TLS12)) + chance.random
    body += _short(chance.session if modern else b"")
    body += _long(b"".join(struct.pack("!H", suite) for suite in suites)) + b"\x01\x00"
    if version is not Version.SSL3:
        extensions = _extensions(version, chance, server_name, alpn, groups, shares=shares)
        body += _long(b"".join(struct.pack("!H", number) + _long(data) for number, data in extensions))
    return b"\x01" + len(body).to_bytes(3) + body


def record(message: bytes, version: Version) -> bytes:
    """A handshake message in its record."""
    return b"\x16" + struct.pack("!HH", min(version, Version.TLS10), len(message)) + message


def _extensions(
    version: Version, chance: Chance, server_name: str, alpn: Sequence[str], groups: Sequence[int], *, shares: bool
) -> list[tuple[int, bytes]]:
    found = [(0, _long(b"\x00" + _long(server_name.encode("ascii"))))] if server_name else []
    found += [
        (5, b"\x01\x00\x00\x00\x00"),
        (10, _long(b"".join(struct.pack("!H", group) for group in groups))),
        (11, b"\x01\x00"),
        (13, _long(b"".join(struct.pack("!H", each) for each in _SIGNATURES))),
        (23, b""),
        (0xFF01, b"\x00"),
    ]
    if alpn:
        found.append((16, _long(b"".join(_short(name.encode("ascii")) for name in alpn))))
    if version is Version.TLS13:
        found += [(43, b"\x02\x03\x04"), (45, b"\x01\x01"), (51, _long(_shares(chance, groups) if shares else b""))]
    return found


def _shares(chance: Chance, groups: Sequence[int]) -> bytes:
    keys, text = Keys.of(chance.private), b""
    if X25519 in groups:
        text += struct.pack("!H", X25519) + _long(keys.x25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    if P256 in groups:
        point = keys.p256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        text += struct.pack("!H", P256) + _long(point)
    return text


def _short(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data
