"""What a certificate says: a request and a proven identity in, a certificate out. Pure; `now` is an argument.

    CSR + SpiffeId (from the caller's token) + Policy + now -> Issued | Refusal

The identity comes from the token alone. A request's own names change nothing: it may hold none, or exactly that
one. The certificate follows SPIFFE's X509-SVID standard (spiffe.io): no subject, one URI name, marked critical.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ostria.identity.authority import BACKDATE, Authority
from ostria.identity.spiffe import SpiffeId

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_LONGEST_REQUEST = 64 * 1024
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS = range(2048, 8193)
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Policy(NamedTuple):
    """How long certificates live, in seconds: where none is asked for, and at most.

    `backdate` lets a peer whose clock is behind take a new certificate.
    """

    lifetime: float = 24 * 3600.0
    longest: float = 90 * 24 * 3600.0
    backdate: float = BACKDATE


class Issued(NamedTuple):
    """A certificate in PEM, and its life in seconds since 1970."""

    certificate: bytes
    not_before: float
    not_after: float


class Refusal(NamedTuple):
    """Why a request is not answered. `another` says that it names somebody else than the caller."""

    reason: str
    another: bool = False


def issue(
    csr: bytes,
    identity: SpiffeId,
    authority: Authority,
    now: float,
    policy: Policy = Policy(),  # noqa: B008 - Frozen.
    *,
    lifetime: float = 0.0,
    unit: str = "",
) -> Issued | Refusal:
    """A workload's certificate for the key of a request (PEM or DER); `lifetime` is what the caller asks for, if any.

    A longer life than the policy's or the authority's own is cut, not refused. `unit` is told in the subject.
    """
    key = examine(csr, identity)
    if isinstance(key, Refusal):
        return key
    uri = x509.UniformResourceIdentifier(str(identity))
    return _sign(authority, key, [uri], now - policy.backdate, now + life(policy, lifetime), unit)


def life(policy: Policy, asked: float) -> float:
    """How long a certificate lives for which `asked` seconds are asked (0: none in particular)."""
    return min(asked if asked > 0 else policy.lifetime, policy.longest)


def examine(csr: bytes, identity: SpiffeId, *, named: bool = False) -> PublicKey | Refusal:
    """The key of a request that this caller may make. With `named` it must name the caller, and not only may."""
    request = _read(csr)
    if isinstance(request, Refusal):
        return request
    claimed = _names(request)
    if isinstance(claimed, Refusal):
        return claimed
    if (claimed or named) and claimed != [x509.UniformResourceIdentifier(str(identity))]:
        return Refusal(f"the request names another than {identity}", another=True)
    return _accepted(request)


def serving(
    key: PublicKey,
    names: Sequence[str],
    authority: Authority,
    now: float,
    policy: Policy = Policy(),  # noqa: B008 - Frozen.
) -> Issued:
    """A server's certificate for DNS names; raises ValueError for a name that DNS does not know."""
    return _sign(authority, key, [x509.DNSName(name) for name in names], now - policy.backdate, now + policy.lifetime)


def _read(csr: bytes) -> x509.CertificateSigningRequest | Refusal:
    if len(csr) > _LONGEST_REQUEST:
        return Refusal("the request is too long")
    load = x509.load_pem_x509_csr if csr.lstrip().startswith(b"-----") else x509.load_der_x509_csr
    try:
        return load(csr)
    except (ValueError, UnsupportedAlgorithm):
        return Refusal("this is no certificate signing request (PKCS #10, PEM or DER)")


def _names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName] | Refusal:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return Refusal("the request's extensions cannot be read")


def _accepted(request: x509.CertificateSigningRequest) -> PublicKey | Refusal:
    try:
        key = request.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            if not isinstance(key.curve, _CURVES):
                return Refusal(f"keys on {key.curve.name} are not taken: use P-256")
        elif isinstance(key, rsa.RSAPublicKey):
            if key.key_size not in _RSA_BITS:
                return Refusal(f"RSA keys of {key.key_size} bits are not taken: use {_RSA_BITS.start} or more")
        else:
            # Envoy serves neither Ed25519 nor anything newer.
            return Refusal("only ECDSA and RSA keys are taken")
        # Whoever asks must hold the key, or a certificate could be had for somebody else's.
        if not request.is_signature_valid:
            return Refusal("the request is not signed with its own key")
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return Refusal("the request's key or signature cannot be read")
    return key


def _sign(
    authority: Authority,
    key: PublicKey,
    names: Sequence[x509.GeneralName],
    not_before: float,
    not_after: float,
    unit: str = "",
) -> Issued:
    signer = authority.certificate
    not_before = max(not_before, signer.not_valid_before_utc.timestamp())
    not_after = min(not_after, signer.not_valid_after_utc.timestamp())
    # RSA keys may encrypt a secret in old handshakes; ECDSA keys only sign.
    used = {"digital_signature"} | ({"key_encipherment"} if isinstance(key, rsa.RSAPublicKey) else set())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []))
        .issuer_name(signer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(not_before))
        .not_valid_after(_moment(not_after))
        # RFC 5280, 4.2.1.6: with an empty subject the alternative names are critical.
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in used for usage in _USAGES}), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority.key_identifier, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Issued(
        certificate.public_bytes(serialization.Encoding.PEM),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
