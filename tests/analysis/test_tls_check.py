"""What is said of TLS servers: names against certificates, grades, and answers that are no answers."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ostria.analysis.tls_check.chain import Certificate, is_for, read_chain
from ostria.analysis.tls_check.flight import Flight, Malformed
from ostria.analysis.tls_check.hello import Chance, Version, client_hello
from ostria.analysis.tls_check.report import Offered, Report, grade
from ostria.analysis.tls_check.suites import OLDER, TLS13, short_name

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
GOOD = Certificate("CN=a", "CN=ca", ("a.example",), NOW - DAY, NOW + 60 * DAY, "ECDSA secp256r1", 256, "sha256", "1")
MODERN = Offered(Version.TLS13, ("TLS_AES_128_GCM_SHA256",))
GCM = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("shop.example", "shop.example", True),
        ("Shop.Example", "sHOP.eXAMPLE.", True),
        ("*.example.com", "a.example.com", True),
        # A wildcard stands for one whole label, and for the first one only.
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("a*.example.com", "ab.example.com", False),
        ("a.*.com", "a.example.com", False),
        ("*.*.com", "a.example.com", False),
        ("*", "example", False),
        ("*.com", "example.com", False),
        # What stands behind a NUL does not count, and nothing before it either.
        ("bank.example\0.evil.example", "bank.example", False),
        ("bank.example\0.evil.example", "evil.example", False),
        # IDN: certificates hold A-labels.
        ("xn--bcher-kva.example", "bücher.example", True),
        ("bücher.example", "bücher.example", False),
        ("xn--bcher-kva.example", "bucher.example", False),
        ("*.example.com", "xn--bcher-kva.example.com", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("*.0.2.1", "192.0.2.1", False),
        ("2001:db8::1", "2001:DB8:0::1", True),
        ("spiffe://a/b", "a", False),
    ],
)
def test_a_name_and_a_certificate(name: str, host: str, expected: bool) -> None:
    assert is_for(GOOD._replace(names=(name,)), host) is expected


def test_the_common_name_does_not_count() -> None:
    assert not is_for(GOOD._replace(subject="CN=b.example"), "b.example")


def report(*offered: Offered, **changed: object) -> Report:
    found = Report("a.example", 443, "192.0.2.1", "a.example", offered or (MODERN,), chain=(GOOD,))
    return found._replace(**changed)  # type: ignore[arg-type]


def older(version: Version, *suites: str) -> Offered:
    return Offered(version, suites or (GCM,))


@pytest.mark.parametrize(
    ("found", "letter", "reason"),
    [
        (report(), "A", ""),
        (report(older(Version.TLS12)), "A-", "TLS 1.3 is not offered"),
        (report(MODERN, older(Version.TLS11)), "B", "TLS 1.1 is offered, which RFC 8996 forbids"),
        (report(older(Version.TLS10)), "C", "neither TLS 1.2 nor TLS 1.3 is offered"),
        (report(MODERN, older(Version.SSL3)), "F", "SSL 3.0 is offered"),
        (report(MODERN, older(Version.TLS12, "TLS_RSA_WITH_RC4_128_SHA", GCM)), "C", "_RC4_128_SHA is offered: RC4"),
        (report(MODERN, older(Version.TLS12, "TLS_RSA_WITH_NULL_SHA", GCM)), "F", "no encryption"),
        (report(older(Version.TLS12, "TLS_RSA_WITH_AES_128_CBC_SHA")), "B", "no forward secrecy"),
        (report(chain=()), "T", "no certificate was shown"),
        (report(chain=(GOOD._replace(not_after=NOW - DAY),)), "T", "has expired on 2026-11-20"),
        (report(chain=(GOOD._replace(not_before=NOW + DAY),)), "T", "is not valid before 2026-11-22"),
        (report(distrust="self-signed certificate"), "T", "self-signed certificate"),
        (report(chain=(GOOD._replace(not_after=NOW + 3 * DAY, not_before=NOW - 80 * DAY),)), "A", "expires on"),
        (report(sni="b.example"), "M", "is not for b.example"),
        (report(chain=(GOOD._replace(key="RSA 1024", key_bits=1024),)), "F", "too small: RSA 1024"),
        (report(chain=(GOOD._replace(signature="sha1"),)), "F", "signed with sha1"),
        (report(stapled="revoked"), "T", "revoked"),
    ],
)
def test_a_grade_and_its_reason(found: Report, letter: str, reason: str) -> None:
    given_ = grade(found, NOW)
    assert given_.letter == letter
    assert not reason or any(reason in each.text for each in given_.reasons if each.cap in (letter, ""))


def test_a_certificate_is_read_whatever_its_names_hold() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    names = x509.SubjectAlternativeName([x509.DNSName("a.example\0.evil.example"), x509.DNSName("*.b.example")])
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), 7, NOW, NOW + DAY).add_extension(names, False)
    (found,) = read_chain([unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)])
    assert found.names == ("a.example\0.evil.example", "*.b.example")
    assert (found.key, found.signature, found.serial) == ("ECDSA secp256r1", "sha256", "7")


def test_names_of_suites_are_those_of_a_gateways_list() -> None:
    assert short_name(OLDER[0xC02F]) == "ECDHE-RSA-AES128-GCM-SHA256"
    assert short_name(TLS13[0x1301]) == "TLS_AES_128_GCM_SHA256"
    assert len(OLDER) == len(set(OLDER.values()))


def flight(version: Version) -> Flight:
    chance = Chance(bytes(32), bytes(32), b"\1" * 32)
    return Flight(client_hello(version, [0x1301, 0xC02F], chance, shares=True), chance.private, whole=True)


# A ServerHello of TLS 1.3 and one of TLS 1.2, to be broken in every way.
HELLOS = tuple(
    bytes.fromhex(head) + bytes(32) + bytes.fromhex(rest)
    for head, rest in (
        ("160303003a020000360303", "00130100000e002b0002030400330004001d0000"),
        ("1603030032020000260303", "00c02f000b00000400000100"),
    )
)


@given(st.sampled_from(HELLOS), st.integers(0, 70), st.binary(max_size=40), st.binary(max_size=200))
def test_no_answer_is_too_odd(hello: bytes, at: int, put: bytes, more: bytes) -> None:
    """Whatever a server says, there is an answer or it is called malformed."""
    for version in (Version.TLS12, Version.TLS13):
        reading = flight(version)
        try:
            reading.feed(hello[:at] + put + hello[at + len(put) :])
            reading.feed(more)
        except Malformed:
            continue


def test_an_answer_without_an_end_is_given_up() -> None:
    reading = flight(Version.TLS12)
    answer = (b"\x17\x03\x03\x40\x00" + bytes(1 << 14)) * 20
    with pytest.raises(Malformed, match="no end"):
        reading.feed(answer)


def test_what_is_no_tls_is_told() -> None:
    with pytest.raises(Malformed, match="no TLS"):
        flight(Version.TLS12).feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
