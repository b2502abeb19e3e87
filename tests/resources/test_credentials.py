"""Which Secrets are taken for credentials, and what is wrong with one that cannot be served."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from doubles.certificates import Authority
from ostria.base import Level
from ostria.resources import read_text

AUTHORITY = Authority()
ONE, TWO = AUTHORITY.issue("one.example"), AUTHORITY.issue("two.example")


def key(password: bytes = b"") -> bytes:
    secret = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    made = ec.generate_private_key(ec.SECP256R1())
    return made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)


def odd_key() -> tuple[bytes, bytes]:
    """A certificate of a kind that Envoy does not take, and its key."""
    made = ed25519.Ed25519PrivateKey.generate()
    known = x509.load_pem_x509_certificate(ONE.certificate)
    unsigned = x509.CertificateBuilder(known.issuer, known.subject, made.public_key(), known.serial_number)
    unsigned = unsigned.not_valid_before(known.not_valid_before_utc).not_valid_after(known.not_valid_after_utc)
    text = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return unsigned.sign(made, None).public_bytes(serialization.Encoding.PEM), text


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"tls.crt": ONE.certificate, "tls.key": ONE.key}, ""),
        ({"cert": ONE.certificate, "key": ONE.key, "cacert": AUTHORITY.certificate}, ""),
        ({"tls.crt": ONE.certificate + AUTHORITY.certificate, "tls.key": ONE.key, "ca.crt": b""}, ""),
        ({"ca.crt": AUTHORITY.certificate}, ""),
        # What is not a credential is nobody's business.
        ({"key": b"s3cret"}, ""),
        ({"password": b"cert"}, ""),
        ({"tls.crt": ONE.certificate, "tls.key": TWO.key}, "data.tls.key: tls.key is not the key of the certificate"),
        (
            {"cert": AUTHORITY.certificate + ONE.certificate, "key": ONE.key},
            "data.key: key is not the key of the certificate in cert: it belongs to certificate 2 of the chain",
        ),
        ({"tls.crt": b"", "tls.key": ONE.key}, "data: tls.crt is missing or empty"),
        ({"tls.crt": ONE.certificate, "tls.key": b""}, "data: tls.key is missing or empty"),
        ({"tls.crt": b"certificate", "tls.key": ONE.key}, "data.tls.crt: tls.crt is malformed"),
        ({"tls.crt": ONE.certificate[:200], "tls.key": ONE.key}, "data.tls.crt: tls.crt is malformed"),
        ({"tls.crt": ONE.certificate, "tls.key": ONE.key[:80]}, "data.tls.key: tls.key is malformed"),
        ({"tls.crt": ONE.certificate, "tls.key": key(b"password")}, "data.tls.key: tls.key is encrypted"),
        (dict(zip(("tls.crt", "tls.key"), odd_key(), strict=True)), "data.tls.key: the key is of a kind"),
        ({"tls.crt": b"x" * (1 << 20) + b"y", "tls.key": ONE.key}, "data.tls.crt: tls.crt is larger than a megabyte"),
        ({"ca.crt": b"authority"}, "data.ca.crt: ca.crt is malformed"),
        ({"ca.crt": AUTHORITY.certificate, "ca.crl": b"list"}, "data.ca.crl: ca.crl is malformed"),
    ],
)
def test_a_secret(data: dict[str, bytes], expected: str) -> None:
    encoded = json.dumps({name: base64.b64encode(value).decode() for name, value in data.items()})
    (change,) = read_text(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\ndata: {encoded}", "f.yaml").changes
    said = [f"{problem.field}: {problem.message}" for problem in change.problems]
    assert [text.startswith(expected) for text in said] == ([True] if expected else []), said
    assert (change.object is None) == bool(expected)
    assert all(problem.level is Level.ERROR for problem in change.problems)
    # Nothing of a key is ever told.
    for value in data.values():
        assert not any(line and line in "".join(said) for line in value.decode(errors="replace").splitlines()[1:3])


def test_a_file_may_write_it_as_text() -> None:
    text = json.dumps({"tls.crt": ONE.certificate.decode(), "tls.key": TWO.key.decode()})
    head = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: a}\nstringData: "
    (change,) = read_text(head + text, "f.yaml").changes
    assert [problem.code for problem in change.problems] == ["broken-credential"]
