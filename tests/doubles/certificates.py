"""Test certificates: a small authority, SPIFFE identities, and the files that a proxy reads its own from."""

from __future__ import annotations

import datetime
import pathlib
import ssl
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ostria.envoy.secrets import SECRET_FILES, identity_secrets

_DAY = datetime.timedelta(days=1)


class Identity(NamedTuple):
    """A certificate, its key and the roots to check peers against, in PEM."""

    certificate: bytes
    key: bytes
    roots: bytes

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate).serial_number


class Authority:
    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        unsigned = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        unsigned = unsigned.add_extension(usage, critical=True)
        self.certificate = unsigned.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str) -> Identity:
        """A certificate for SPIFFE ids and DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        general = [x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names]
        unsigned = self._builder(x509.Name([]), key).add_extension(x509.SubjectAlternativeName(general), critical=True)
        return Identity(
            unsigned.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            self.certificate,
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            # Python 3.13 checks as strictly as RFC 5280 says.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def write_identity(folder: pathlib.Path, identity: Identity) -> dict[str, str]:
    """Write an identity's files into a folder; what to replace in configuration to find them there."""
    for path, text in identity_secrets(
        identity.certificate, identity.key, identity.roots, secret_files=str(folder)
    ).items():
        staged = pathlib.Path(f"{path}.new")
        staged.write_text(text)
        staged.rename(path)
    return {SECRET_FILES: str(folder)}


def client_context(folder: pathlib.Path, identity: Identity, *, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A client that shows this identity and looks only at the server's chain, not at its name."""
    certificate, key = folder / f"{identity.serial}.pem", folder / f"{identity.serial}.key"
    certificate.write_bytes(identity.certificate)
    key.write_bytes(identity.key)
    context = ssl.create_default_context(cadata=identity.roots.decode())
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
