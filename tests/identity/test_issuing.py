"""What a certificate says, and whom it is refused."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from doubles.authorities import NOW, csr, root
from ostria.identity.authority import load
from ostria.identity.issuing import Issued, Policy, Refusal, issue, serving
from ostria.identity.spiffe import SpiffeId

REVIEWS = SpiffeId("cluster.local", "default", "reviews")
AUTHORITY = load(root(), NOW)
DAY = 86_400.0


def issued(request: bytes, **more: float) -> x509.Certificate:
    answer = issue(request, REVIEWS, AUTHORITY, NOW, **more)  # type: ignore[arg-type]
    assert isinstance(answer, Issued), answer
    certificate = x509.load_pem_x509_certificate(answer.certificate)
    assert certificate.not_valid_before_utc.timestamp() == answer.not_before
    assert certificate.not_valid_after_utc.timestamp() == answer.not_after
    return certificate


def refused(request: bytes) -> Refusal:
    answer = issue(request, REVIEWS, AUTHORITY, NOW)
    assert isinstance(answer, Refusal), answer
    return answer


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "RSA 2048"],
)
@pytest.mark.parametrize("der", [False, True], ids=["PEM", "DER"])
@pytest.mark.parametrize("names", [(), (str(REVIEWS),)], ids=["no names", "its own name"])
def test_a_workloads_certificate_is_a_spiffe_svid(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, der: bool, names: tuple[str, ...]
):
    certificate = issued(csr(*names, key=key, der=der, subject="anything"))
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert certificate.public_key() == key.public_key()
    assert list(certificate.subject) == []
    assert (san.critical, list(san.value)) == (True, [x509.UniformResourceIdentifier(str(REVIEWS))])
    assert (constraints.critical, constraints.value.ca) == (True, False)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment == isinstance(key, rsa.RSAPrivateKey)
    assert not usage.value.key_cert_sign
    assert set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    certificate.verify_directly_issued_by(AUTHORITY.certificate)


def test_it_lives_for_a_day_and_is_good_for_clocks_that_are_ten_minutes_behind():
    certificate = issued(csr())
    assert certificate.not_valid_before_utc.timestamp() == NOW - 600
    assert AUTHORITY.certificate.not_valid_before_utc.timestamp() == NOW - 600
    assert certificate.not_valid_after_utc.timestamp() == NOW + DAY


@pytest.mark.parametrize(("asked", "given"), [(3600, 3600), (0, DAY), (-5, DAY), (10_000 * DAY, 90 * DAY)])
def test_a_life_that_is_asked_for_is_given_up_to_the_longest(asked: float, given: float):
    assert issued(csr(), lifetime=asked).not_valid_after_utc.timestamp() == NOW + given


def test_no_certificate_outlives_its_authority():
    late = AUTHORITY.certificate.not_valid_after_utc.timestamp() - 100
    answer = issue(csr(), REVIEWS, AUTHORITY, late)
    assert isinstance(answer, Issued)
    assert answer.not_after == late + 100


def test_serial_numbers_do_not_repeat():
    assert len({issued(csr()).serial_number for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "names",
    [
        ("spiffe://cluster.local/ns/default/sa/ratings",),
        ("spiffe://other.example/ns/default/sa/reviews",),
        (str(REVIEWS), "spiffe://cluster.local/ns/default/sa/ratings"),
        (str(REVIEWS), "istiod.istio-system.svc"),
        ("istiod.istio-system.svc",),
    ],
)
def test_a_request_that_names_somebody_else_is_refused(names: tuple[str, ...]):
    assert refused(csr(*names)).another


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP224R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA 1024", "P-224", "Ed25519"],
)
def test_weak_and_unusual_keys_are_refused(key: object):
    assert "not taken" in refused(csr(key=key)).reason or "only" in refused(csr(key=key)).reason


def test_a_key_that_the_caller_does_not_hold_is_refused():
    # The public key is replaced by another of the same length; the signature stays.
    mine, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    spki = [
        key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for key in (mine, other)
    ]
    request = csr(key=mine, der=True)
    assert spki[0] in request
    assert "signed" in refused(request.replace(*spki)).reason


@pytest.mark.parametrize("request_", [b"", b"x", b"-----BEGIN CERTIFICATE REQUEST-----\nx\n", b"\x30" * 100_000])
def test_what_is_no_request_is_refused(request_: bytes):
    assert refused(request_).reason


def test_the_control_planes_certificate_is_checked_by_name():
    key = ec.generate_private_key(ec.SECP256R1())
    made = serving(key.public_key(), ["istiod.istio-system.svc"], AUTHORITY, NOW, Policy())
    names = x509.load_pem_x509_certificate(made.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["istiod.istio-system.svc"]
