"""Certificates that a server shows: what stands in them, and whether they are for a name."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ocsp


class Certificate(NamedTuple):
    """One certificate of a chain. `names` are its subject alternative names, each of its type's shape; `key` is the
    kind and the size of its key; `signature` is the hash that its issuer signed."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime
    key: str
    key_bits: int
    signature: str
    serial: str

    @property
    def is_root(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject == self.issuer


def read_chain(chain: Sequence[bytes]) -> tuple[Certificate, ...]:
    """The certificates of a chain in DER. Raises ValueError for one that is none."""
    return tuple(_read(x509.load_der_x509_certificate(each)) for each in chain)


def _read(certificate: x509.Certificate) -> Certificate:
    kind, bits = _key(certificate)
    try:
        signed = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        signed = None
    return Certificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=kind,
        key_bits=bits,
        signature=signed.name if signed else "",
        serial=f"{certificate.serial_number:X}",
    )


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown", 0
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}", key.key_size
    return type(key).__name__.removesuffix("PublicKey").strip("_"), 256


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = [each.value for each in found if isinstance(each, x509.DNSName)]
    names += [str(each.value) for each in found if isinstance(each, x509.IPAddress)]
    names += [each.value for each in found if isinstance(each, x509.UniformResourceIdentifier)]
    return tuple(names)


def is_for(certificate: Certificate, host: str) -> bool:
    """Whether a certificate is for a host, as clients decide it (RFC 6125 section 6.4, RFC 9525).

    The common name does not count. A wildcard is the whole of the first label and stands for one label.
    """
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        return any(_covers(name, _ascii(host)) for name in certificate.names)
    return address in certificate.names


def _covers(name: str, host: str) -> bool:
    name = name.lower().rstrip(".")
    if not name.isascii() or "\0" in name or not host:
        return False
    first, _, rest = name.partition(".")
    if first != "*":
        return "*" not in name and name == host
    return "*" not in rest and "." in rest and host.partition(".")[2] == rest and bool(host.partition(".")[0])


def _ascii(host: str) -> str:
    """A name as it stands in certificates; "" for what is none."""
    try:
        return host.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        return ""


def stapled_status(answer: bytes) -> str:
    """What a stapled OCSP answer says of the certificate: "good", "revoked", ...; "" where nothing is stapled."""
    if not answer:
        return ""
    try:
        read = ocsp.load_der_ocsp_response(answer)
        if read.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return read.response_status.name.lower()
        return read.certificate_status.name.lower()
    except (ValueError, UnsupportedAlgorithm):
        return "malformed"
