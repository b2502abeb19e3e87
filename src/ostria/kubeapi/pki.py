"""The certificates of one API server: its authority, its own, and those of its first clients. Values only.

    authority -> serving(names) ; authority -> client(user, groups) -> kubeconfig

Everything is ECDSA on P-256. Who keeps the files, and when, is the business of the process.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ostria.kubeapi.requests import Document

_AUTHORITY_LIFE = timedelta(days=3650)
_LEAF_LIFE = timedelta(days=365)
_BACK = timedelta(hours=1)


class Pair(NamedTuple):
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


def authority(now: datetime) -> Pair:
    """A new self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("ostria-apiserver-ca")
    made = (
        _builder(name, name, key.public_key(), now, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pair(made, key)


def serving(signer: Pair, names: Sequence[str], now: datetime) -> Pair:
    """A certificate for a server of these DNS names and IP addresses."""
    alternative = x509.SubjectAlternativeName([_general(name) for name in names])
    return _leaf(signer, _name(names[0]), ExtendedKeyUsageOID.SERVER_AUTH, alternative, now)


def client(signer: Pair, user: str, groups: Sequence[str], now: datetime) -> Pair:
    """A certificate that says who a client is: the user as its common name, groups as organizations."""
    return _leaf(signer, _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, None, now)


def is_due(pair: Pair, signer: Pair, names: Sequence[str], now: datetime) -> bool:
    """Whether a serving certificate has to be made anew: half its life is over, other names, another authority."""
    try:
        found = x509.load_pem_x509_certificate(pair.certificate)
        found.verify_directly_issued_by(x509.load_pem_x509_certificate(signer.certificate))
        alternative = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return True
    if set(alternative) != {_general(name) for name in names}:
        return True
    half = found.not_valid_before_utc + (found.not_valid_after_utc - found.not_valid_before_utc) / 2
    return now >= half


def kubeconfig(name: str, server: str, signer: Pair, pair: Pair) -> Document:
    """A kubeconfig with one cluster, one user and one context, all of this name; `server` is a URL."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": _text(signer.certificate)}}
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _text(pair.certificate),
                    "client-key-data": _text(pair.key),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }


def encoded(document: Document) -> bytes:
    """A kubeconfig as a file holds it: JSON, which is YAML that every reader takes."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _leaf(
    signer: Pair,
    subject: x509.Name,
    purpose: x509.ObjectIdentifier,
    alternative: x509.SubjectAlternativeName | None,
    now: datetime,
) -> Pair:
    issuer = x509.load_pem_x509_certificate(signer.certificate)
    issuer_key = serialization.load_pem_private_key(signer.key, password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(issuer.subject, subject, key.public_key(), now, _LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if alternative is not None:
        builder = builder.add_extension(alternative, critical=False)
    return _pair(builder.sign(issuer_key, hashes.SHA256()), key)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str, organizations: Sequence[str] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
