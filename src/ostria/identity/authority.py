"""Who signs: a key with its certificate, the chain above it, and the roots that peers check against. Pure.

    Material (four PEM files, Istio's names)  --load-->  Authority
    self_signed(now)  --> Material, for a mesh that was given none

A mesh either makes its own root once and keeps it (`keeping`), or is given an intermediate authority in the Secret
`cacerts` (istio.io: Plug in CA Certificates).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SELF_SIGNED_LIFETIME = 3652 * 24 * 3600.0
"""Ten years, in seconds."""

ROOT_CERT, CA_CERT, CA_KEY, CERT_CHAIN = "root-cert.pem", "ca-cert.pem", "ca-key.pem", "cert-chain.pem"

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class AuthorityError(ValueError):
    """Material that cannot sign; the message says which file is at fault and what to do."""


class Material(NamedTuple):
    """An authority's files, in PEM. `chain` is what peers need between a workload's certificate and the roots."""

    roots: bytes
    certificate: bytes
    key: bytes
    chain: bytes = b""

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Material:
        """From files by their names; raises AuthorityError if one is missing.

        A self-signed authority needs no roots beside its certificate (Istio's istio-ca-secret holds none).
        """
        for name in (CA_CERT, CA_KEY):
            if not files.get(name):
                raise AuthorityError(f"{name} is missing beside {', '.join(sorted(files)) or 'nothing'}")
        certificate = files[CA_CERT]
        return cls(files.get(ROOT_CERT) or certificate, certificate, files[CA_KEY], files.get(CERT_CHAIN, b""))

    @property
    def files(self) -> dict[str, bytes]:
        """The files by their names."""
        return {ROOT_CERT: self.roots, CA_CERT: self.certificate, CA_KEY: self.key, CERT_CHAIN: self.chain}


class Authority(NamedTuple):
    """What signs. `chain` (PEM) goes with every certificate, `roots` (PEM) to everybody. Made by `load`."""

    certificate: x509.Certificate
    key: SigningKey
    chain: bytes
    roots: bytes
    key_identifier: x509.AuthorityKeyIdentifier


def load(material: Material, now: float) -> Authority:
    """An authority that can sign at `now`; raises AuthorityError."""
    (certificate, *above) = _certificates(CA_CERT, material.certificate)
    roots = _certificates(ROOT_CERT, material.roots)
    try:
        key = serialization.load_pem_private_key(material.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuthorityError(f"{CA_KEY} is no private key in PEM, or needs a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityError(f"{CA_KEY} is neither an ECDSA nor an RSA key")
    if key.public_key() != certificate.public_key():
        raise AuthorityError(f"{CA_KEY} is not the key of {CA_CERT}")
    _check_use(certificate, now)
    between = [*above, *(_certificates(CERT_CHAIN, material.chain) if material.chain.strip() else [])]
    chain = _path(certificate, between, roots)
    return Authority(certificate, key, chain, _pem(dict.fromkeys(roots)), _identifier(certificate))


def self_signed(now: float, organization: str = "cluster.local") -> Material:
    """A new root that signs for itself, valid for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(minutes=1))
        .not_valid_after(start + datetime.timedelta(seconds=SELF_SIGNED_LIFETIME))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Material(pem, pem, secret)


def _certificates(name: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise AuthorityError(f"{name} holds no certificates in PEM") from None


def _check_use(certificate: x509.Certificate, now: float) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            raise AuthorityError(f"{CA_CERT} is not an authority's (basic constraints say CA:FALSE)")
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            raise AuthorityError(f"{CA_CERT} may not sign certificates (its key usage lacks keyCertSign)")
    except x509.ExtensionNotFound as missing:
        # RFC 5280, 4.2.1.9: without basic constraints a key signs no certificates; a key usage may be absent.
        if missing.oid == x509.BasicConstraints.oid:
            raise AuthorityError(f"{CA_CERT} is not an authority's (it has no basic constraints)") from None
    begin, end = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if not begin <= now < end:
        raise AuthorityError(f"{CA_CERT} is valid only from {_day(begin)} to {_day(end)}: give one that is valid now")


def _path(certificate: x509.Certificate, between: list[x509.Certificate], roots: list[x509.Certificate]) -> bytes:
    """The certificates that a peer needs to come from ours to a root, in order and without the root; PEM."""
    path: dict[x509.Certificate, None] = {}
    current = certificate
    while current not in roots:
        path[current] = None
        if any(_signed(current, root) for root in roots):
            return _pem(path)
        above = next((other for other in between if other not in path and _signed(current, other)), None)
        if above is None:
            raise AuthorityError(
                f"{CA_CERT} does not lead to {ROOT_CERT}: put the authorities between them into {CERT_CHAIN}"
            )
        current = above
    return _pem(path)


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        subject = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
    except x509.ExtensionNotFound:
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _pem(certificates: Mapping[x509.Certificate, None]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _day(moment: float) -> str:
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime("%Y-%m-%d")
