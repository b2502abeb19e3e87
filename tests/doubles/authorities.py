"""Requests and authorities of every kind, for whatever has to do with issuing."""

from __future__ import annotations

import datetime
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ostria.identity.authority import Material, SigningKey, self_signed

# TLS goes by the machine's clock, so certificates have to be valid by it.
NOW = float(int(time.time()))


def csr(*names: str, key: object = None, der: bool = False, subject: str = "") -> bytes:
    """A signing request; names with "://" are URIs, others DNS names."""
    signer = key or ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        general = [x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    algorithm = None if "25519" in type(signer).__name__.lower() else hashes.SHA256()
    request = builder.sign(signer, algorithm)  # type: ignore[arg-type]
    return request.public_bytes(serialization.Encoding.DER if der else serialization.Encoding.PEM)


def intermediate(
    above: Material,
    name: str,
    *,
    ca: bool = True,
    days: float = 30,
    key: SigningKey | None = None,
    depth: int | None = None,
) -> Material:
    """An authority below another: its own files, chained up to the other's roots. `depth` more may follow below it."""
    key = key or rsa.generate_private_key(65537, 2048)
    issuer = x509.load_pem_x509_certificate(above.certificate)
    signer = serialization.load_pem_private_key(above.key, None)
    start = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(days=1))
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=depth), critical=True)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    between = b"" if above.certificate == above.roots else above.certificate + above.chain
    return Material(above.roots, pem, secret, between)


def revocation_list(by: Material, *serials: int) -> bytes:
    """An authority's list of the certificates that are good no more."""
    issuer = x509.load_pem_x509_certificate(by.certificate)
    start = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
    builder = builder.last_update(start - datetime.timedelta(hours=1)).next_update(start + datetime.timedelta(days=1))
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
        builder = builder.add_revoked_certificate(revoked.build())
    signer = serialization.load_pem_private_key(by.key, None)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


def root() -> Material:
    return self_signed(NOW)
