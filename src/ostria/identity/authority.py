"""Who signs: a key with its certificate, the chain above it, and the roots that peers check against. Pure.

    Material (four PEM files, Istio's names)  --load-->  Authority
    self_signed(now)  --> Material, for a mesh that was given none

A mesh either makes its own root once and keeps it (`keeping`), or is given an intermediate authority in the Secret
`cacerts` (istio.io: Plug in CA Certificates), under Istio's names of files or under those of a Secret of type
kubernetes.io/tls, as cert-manager writes it.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SELF_SIGNED_LIFETIME = 3652 * 24 * 3600.0
"""Ten years, in seconds."""

BACKDATE = 600.0
"""By so many seconds certificates begin before they are made: for whom whose clock is behind by as much."""

ROOT_CERT, CA_CERT, CA_KEY, CERT_CHAIN = "root-cert.pem", "ca-cert.pem", "ca-key.pem", "cert-chain.pem"
REVOCATIONS = "ca-crl.pem"
TLS_CERT, TLS_KEY, TLS_ROOT = "tls.crt", "tls.key", "ca.crt"

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_SIGNING = x509.KeyUsage(
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


class AuthorityError(ValueError):
    """Material that cannot sign; the message says which file is at fault and what to do."""


class Material(NamedTuple):
    """An authority's files, in PEM. `chain` is what peers need between a workload's certificate and the roots.

    `revocations` are the lists (CRL) that peers check certificates against, b"" where there are none.
    """

    roots: bytes
    certificate: bytes
    key: bytes
    chain: bytes = b""
    revocations: bytes = b""

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Material:
        """From files by their names; raises AuthorityError if one is missing.

        A self-signed authority needs no roots beside its certificate (Istio's istio-ca-secret holds none).
        """
        if not files.get(CA_CERT) and files.get(TLS_CERT):
            root_name, certificate_name, key_name = TLS_ROOT, TLS_CERT, TLS_KEY
        else:
            root_name, certificate_name, key_name = ROOT_CERT, CA_CERT, CA_KEY
        for name in (certificate_name, key_name):
            if not files.get(name):
                raise AuthorityError(f"{name} is missing beside {', '.join(sorted(files)) or 'nothing'}")
        certificate = files[certificate_name]
        roots = files.get(root_name) or certificate
        return cls(roots, certificate, files[key_name], files.get(CERT_CHAIN, b""), files.get(REVOCATIONS, b""))

    @property
    def files(self) -> dict[str, bytes]:
        """The files by their names."""
        files = {ROOT_CERT: self.roots, CA_CERT: self.certificate, CA_KEY: self.key, CERT_CHAIN: self.chain}
        return files | ({REVOCATIONS: self.revocations} if self.revocations else {})


class Authority(NamedTuple):
    """What signs. `chain` (PEM) goes with every certificate, `roots` (PEM) to everybody. Made by `load`.

    `root` (PEM) is the one of the roots that it leads to; `ends` is when it or something above it ends, in seconds
    since 1970.
    """

    certificate: x509.Certificate
    key: SigningKey
    chain: bytes
    roots: bytes
    key_identifier: x509.AuthorityKeyIdentifier
    root: bytes
    ends: float


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
    path, root = _path(certificate, between, roots)
    ends = min(each.not_valid_after_utc.timestamp() for each in (certificate, *path, root))
    return Authority(
        certificate, key, _pem(path), _pem(dict.fromkeys(roots)), _identifier(certificate), _pem({root: None}), ends
    )


def split(pem: bytes, name: str = ROOT_CERT) -> tuple[bytes, ...]:
    """The certificates of a PEM text, each once and written as we write them; raises AuthorityError."""
    return tuple(_pem({each: None}) for each in dict.fromkeys(_certificates(name, pem)))


def crossed(authority: Authority, by: Authority) -> bytes | None:
    """The certificate of an authority once more, signed by another (PEM); None where that one may sign no authorities.

    Whoever trusts only the other's root takes what the first one signs, if this comes along.
    """
    above = x509.load_pem_x509_certificates(by.chain + by.root) if by.chain else [by.certificate]
    if any(_depth(each) <= below for below, each in enumerate(above)):
        return None
    own, signer = authority.certificate, by.certificate
    key = own.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(signer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(own.not_valid_before_utc, signer.not_valid_before_utc))
        .not_valid_after(min(own.not_valid_after_utc, signer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_SIGNING, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(by.key_identifier, critical=False)
    )
    return _pem({builder.sign(by.key, hashes.SHA256()): None})


def revocations(lists: bytes, *authorities: bytes) -> bytes:
    """The revocation lists (PEM) if they are whole; raises AuthorityError.

    Whoever checks against one list of a way asks for a list of each authority on it (`authorities`, PEM): one that is
    left out would end every connection under it.
    """
    found = []
    for block in _LIST.findall(lists):
        try:
            found.append(x509.load_pem_x509_crl(block))
        except ValueError:
            raise AuthorityError(f"{REVOCATIONS} holds a revocation list that cannot be read") from None
    if not found:
        raise AuthorityError(f"{REVOCATIONS} holds no revocation lists in PEM")
    for pem in authorities:
        for each in _certificates(CA_CERT, pem) if pem.strip() else ():
            if not any(_lists(one, each) for one in found):
                raise AuthorityError(f"{REVOCATIONS} has no list of {each.subject.rfc4514_string()}: add one")
    return b"".join(block + b"\n" for block in _LIST.findall(lists))


def self_signed(now: float, organization: str = "cluster.local", *, lifetime: float = SELF_SIGNED_LIFETIME) -> Material:
    """A new root that signs for itself, valid for ten years if nothing else is said (in seconds)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization)])
    start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(seconds=BACKDATE))
        .not_valid_after(start + datetime.timedelta(seconds=lifetime))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_SIGNING, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Material(pem, pem, secret)


def _lists(revoked: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if revoked.issuer != authority.subject:
        return False
    try:
        return revoked.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _depth(certificate: x509.Certificate) -> float:
    """How many authorities may follow below this one."""
    try:
        allowed = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except x509.ExtensionNotFound:
        return math.inf
    return math.inf if allowed is None else allowed


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


def _path(
    certificate: x509.Certificate, between: list[x509.Certificate], roots: list[x509.Certificate]
) -> tuple[dict[x509.Certificate, None], x509.Certificate]:
    """The certificates that a peer needs to come from ours to a root, in order and without the root; and that root."""
    path: dict[x509.Certificate, None] = {}
    current = certificate
    while current not in roots:
        path[current] = None
        # Of a root that was renewed with its key, the one that lasts longer counts.
        above = [root for root in roots if is_signed(current, root)]
        if above:
            return path, max(above, key=lambda root: root.not_valid_after_utc)
        upper = next((other for other in between if other not in path and is_signed(current, other)), None)
        if upper is None:
            raise AuthorityError(
                f"{CA_CERT} does not lead to {ROOT_CERT}: put the authorities between them into {CERT_CHAIN}"
            )
        current = upper
    return path, current


def is_signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """Whether one certificate has been issued and signed by another."""
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
