"""A certificate that is renewed by its own key: who has no token any more signs its new request with the old key. Pure.

    authorization: Ostria-Certificate <chain, PEM in base64url>.<signature of the request's bytes in base64url>

It proves what mutual TLS would: that the caller holds the key of a certificate that this mesh has issued and that has
not ended. Who repeats the message gets a certificate for a key that is not theirs. (gRPC for Python cannot ask a client
for a certificate without demanding one of every client of the port.)
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ostria.identity.authority import SigningKey, is_signed
from ostria.identity.spiffe import SpiffeId, parse

SCHEME = "ostria-certificate"
_LONGEST = 32 * 1024
_DEEPEST = 6


class Possessed(NamedTuple):
    """Whose certificate was shown, and by which join token the first one of its line was had ("" if by none)."""

    identity: SpiffeId
    joined: str


def prove(request: bytes, chain: bytes, key: SigningKey) -> str:
    """The value of the header `authorization` for a request, as its bytes are sent, by the certificate's key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(request, ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(request, padding.PKCS1v15(), hashes.SHA256())
    return f"{SCHEME} {_text(chain)}.{_text(signature)}"


def proven(credentials: str, request: bytes, roots: bytes, now: float) -> Possessed | None:
    """Whose certificate this is, from what follows the scheme; None if it proves nothing at `now`."""
    if len(credentials) > _LONGEST:
        return None
    shown, _, signed = credentials.partition(".")
    try:
        leaf, *above = x509.load_pem_x509_certificates(_bytes(shown))
        signature = _bytes(signed)
        if len(above) > _DEEPEST or not _leads(leaf, above, x509.load_pem_x509_certificates(roots), now):
            return None
        _verify(leaf.public_key(), signature, request)
        if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return None
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = names
        if not isinstance(name, x509.UniformResourceIdentifier):
            return None
        units = leaf.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        return Possessed(parse(name.value), str(units[0].value) if units else "")
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound, binascii.Error):
        return None


def _leads(leaf: x509.Certificate, above: list[x509.Certificate], roots: list[x509.Certificate], now: float) -> bool:
    """Whether all on the way are valid now, the upper ones are authorities', and the way ends at a root."""
    current, left = leaf, list(above)
    while True:
        if not current.not_valid_before_utc.timestamp() <= now < current.not_valid_after_utc.timestamp():
            return False
        if any(is_signed(current, root) and now < root.not_valid_after_utc.timestamp() for root in roots):
            return True
        upper = next((each for each in left if is_signed(current, each)), None)
        if upper is None or not upper.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        left.remove(upper)
        current = upper


def _verify(key: object, signature: bytes, content: bytes) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, content, padding.PKCS1v15(), hashes.SHA256())
    else:
        raise TypeError("a key that signs in no way known here")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
