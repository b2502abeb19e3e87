"""Certificates, keys and revocation lists in PEM: whether a proxy can serve them, in the terms of Envoy's TLS library.

No text of a key ever enters a message.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_KEY = re.compile(rb"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SMALLEST_RSA = 2048


class Fault(NamedTuple):
    """Which of the two files is wrong, and how. What is not `refused` is well formed, and no proxy will serve it."""

    name: str
    message: str
    refused: bool = True


def pair_fault(certificate: bytes, key: bytes, certificate_name: str, key_name: str) -> Fault | None:
    """Why a chain and its key cannot be served; None if they can. The server's own certificate stands first."""
    try:
        chain = x509.load_pem_x509_certificates(certificate)
        public = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        return Fault(certificate_name, f"{certificate_name} is malformed: it holds no certificate in PEM")
    found = _KEY.search(key)
    if found is None:
        return Fault(key_name, f"{key_name} is malformed: it holds no private key in PEM")
    try:
        private = load_pem_private_key(found[0], None)
    except TypeError:
        return Fault(key_name, f"{key_name} is encrypted: nobody here has the password")
    except (ValueError, UnsupportedAlgorithm):
        return Fault(key_name, f"{key_name} is malformed: the private key cannot be read")
    if private.public_key() != public:
        whose = next(
            (number for number, each in enumerate(chain[1:], 2) if each.public_key() == private.public_key()), 0
        )
        order = f": it belongs to certificate {whose} of the chain, which must stand first" if whose else ""
        return Fault(key_name, f"{key_name} is not the key of the certificate in {certificate_name}{order}")
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size >= _SMALLEST_RSA:
            return None
        message = f"the key has {private.key_size} bits: proxies take 2048 and more, and go on with what they have"
        return Fault(key_name, message, refused=False)
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, _CURVES):
        return None
    return Fault(key_name, "the key is of a kind that Envoy does not take: RSA, or ECDSA with P-256, P-384 or P-521")


def certificates_fault(text: bytes) -> str:
    """Why authorities' certificates cannot be used; "" if they can."""
    try:
        x509.load_pem_x509_certificates(text)
    except (ValueError, UnsupportedAlgorithm):
        return "is malformed: it holds no certificates in PEM"
    return ""


def revocations_fault(text: bytes) -> str:
    """Why a list of revoked certificates cannot be used; "" if it can."""
    try:
        x509.load_pem_x509_crl(text)
    except (ValueError, UnsupportedAlgorithm):
        return "is malformed: it holds no revocation list in PEM"
    return ""
