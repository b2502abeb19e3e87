"""Sets of public keys, as issuers of tokens publish them (RFC 7517), cut down to what verification needs.

    what somebody wrote or a server answered -> read_key_set() -> KeySet, or ValueError with words for people

What is private in it (RFC 7518, 6.2.2 and 6.3.2), certificates and fields of people's own are left out: proxies'
configuration is shown to more people than keys are meant for, and holds one copy for each filter chain.

Envoy refuses a rule whose set holds no key that it can use, and who refuses the rule checks no tokens at all. So every
set ends with a key that is valid and fits nothing: with no other key beside it, every token is refused.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

import msgspec

LARGEST = 512 << 10
"""The characters of the largest text that is read as a set of keys."""

_MOST = 256
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi")
# What a key of each type cannot be without.
_NEEDED = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}


class _Key(msgspec.Struct, omit_defaults=True):
    """The fields of a key that verification reads; in the order in which they are written."""

    kty: str = ""
    kid: str = ""
    alg: str = ""
    use: str = ""
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""
    k: str = ""
    d: str = ""
    p: str = ""
    q: str = ""
    dp: str = ""
    dq: str = ""
    qi: str = ""


class _Set(msgspec.Struct):
    keys: list[msgspec.Raw] | None = None


NOBODYS = _Key(
    kty="EC",
    kid="nobody",
    alg="ES256",
    crv="P-256",
    x="_qf-9dxMg4VFdO14vj7jh-SQonNu3DZ_92U_twA2oXk",
    y="EePHwKL_quikUJ1EfyNB5p4HmPoqqAHuttO4bHre7-c",
)
"""A key of which nobody has the private half: its x is a hash, the first of a row that lies on the curve."""


class KeySet(NamedTuple):
    """A set of keys. `text` is the JSON that proxies are given, of one form whatever the source's was.

    `keys` counts those that tokens can be verified with, and `private` says that the source told a private one.
    """

    text: str
    keys: int
    private: bool = False


def _made(keys: list[_Key], *, private: bool = False) -> KeySet:
    return KeySet(msgspec.json.encode({"keys": [*keys, NOBODYS]}).decode(), len(keys), private)


NO_KEYS = _made([])
"""What verifies no token at all."""


def read_key_set(text: str) -> KeySet:
    """The keys of a JSON text: a set, one key by itself, or certificates by key id. Raises ValueError.

    A key that cannot be used is left out, as Envoy does; a text that is no set of keys at all is refused.
    """
    if len(text) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 10} KiB")
    try:
        raw = msgspec.json.decode(text, type=_Set).keys
        if raw is None:
            alone = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            if "kty" not in alone:
                return _certificates(msgspec.json.decode(text, type=dict[str, str]))
            raw = [msgspec.Raw(text.encode())]
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise ValueError("it is no set of keys: expected JSON with a list `keys`") from None
    if len(raw) > _MOST:
        raise ValueError(f"it holds more than {_MOST} keys")
    keys = [key for each in raw if (key := _read(each)) is not None]
    private = any(getattr(key, name) for key in keys for name in _PRIVATE)
    return _made([msgspec.structs.replace(key, **dict.fromkeys(_PRIVATE, "")) for key in keys], private=private)


def _read(raw: msgspec.Raw) -> _Key | None:
    try:
        key = msgspec.json.decode(raw, type=_Key)
    except (msgspec.DecodeError, RecursionError):
        return None
    needed = _NEEDED.get(key.kty)
    return key if needed and all(getattr(key, name) for name in needed) and key.use != "enc" else None


def _certificates(found: dict[str, str]) -> KeySet:
    """The keys of certificates in PEM, as some issuers publish them."""
    # Few issuers do, and every process that reads resources would load three megabytes for them.
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa

    if not found or len(found) > _MOST:
        raise ValueError("it is no set of keys: expected JSON with a list `keys`")
    keys = []
    for kid, text in sorted(found.items()):
        try:
            key = x509.load_pem_x509_certificate(text.encode()).public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("it is no set of keys, nor one of certificates") from None
        if isinstance(key, rsa.RSAPublicKey):
            numbers = key.public_numbers()
            keys.append(_Key(kty="RSA", kid=kid, n=_number(numbers.n), e=_number(numbers.e)))
    return _made(keys)


def _number(value: int) -> str:
    """As RFC 7518 writes it (Base64urlUInt)."""
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
