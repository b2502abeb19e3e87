"""Sets of keys: what proxies are given of them, whatever somebody has written or a server has answered."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from doubles.certificates import Authority
from ostria.resources.key_sets import LARGEST, NO_KEYS, NOBODYS, read_key_set

RSA = {"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"}


def read(value: Any) -> list[dict[str, str]]:
    """The keys that proxies are given beside nobody's, which is always there."""
    found = read_key_set(json.dumps(value))
    keys: list[dict[str, str]] = json.loads(found.text)["keys"]
    assert keys[-1]["kid"] == NOBODYS.kid
    assert found.keys == len(keys) - 1
    return keys[:-1]


def test_what_verification_does_not_need_is_left_out() -> None:
    more = {"x5c": ["MII..."], "d": "secret", "p": "secret", "oth": [{}], "my": {"own": 1}, "alg": "RS256"}
    assert read({"keys": [RSA | more], "more": 1}) == [
        {"kty": "RSA", "kid": "a", "alg": "RS256", "n": "AQAB", "e": "AQAB"}
    ]
    assert read_key_set(json.dumps({"keys": [RSA | more]})).private
    assert not read_key_set(json.dumps({"keys": [RSA]})).private


@pytest.mark.parametrize(
    "key",
    [{}, {"kty": "RSA", "n": "AQAB"}, {"kty": "XYZ"}, RSA | {"use": "enc"}, RSA | {"n": 5}, "key", None, 7, [RSA]],
)
def test_a_key_that_cannot_be_used_is_left_out(key: Any) -> None:
    assert read({"keys": [key, RSA]}) == [{"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"}]


def test_one_key_by_itself_is_a_set() -> None:
    assert len(read(RSA)) == 1


def test_certificates_by_key_id_are_a_set() -> None:
    with pytest.raises(ValueError, match="no set of keys"):
        read({"a": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"})
    # This one's key is of a curve, which the issuers that publish certificates do not sign with.
    assert read({"a": Authority().certificate.decode()}) == []


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"keys": {}}', "<html>", '{"a": 1}', '{"a": "b"}', '"keys"'])
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="it is no set of keys"):
        read_key_set(text)


def test_it_is_bounded() -> None:
    with pytest.raises(ValueError, match="larger than"):
        read_key_set(" " * (LARGEST + 1))
    with pytest.raises(ValueError, match="more than 256"):
        read({"keys": [RSA] * 257})
    with pytest.raises(ValueError, match="no set"):
        read_key_set('{"keys":[' + "[" * 100_000)


@given(
    st.text()
    | st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(
        json.dumps
    )
)
def test_any_text_is_a_set_or_a_message(text: str) -> None:
    try:
        found = read_key_set(text)
    except ValueError:
        return
    assert json.loads(found.text)["keys"]


def test_nobodys_key_is_nobodys() -> None:
    """Its x is the first hash of a row that lies on the curve: who chose it cannot have begun with a private key."""
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    constant = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    for number in range(100):
        x = int.from_bytes(hashlib.sha256(f"nobody has this key {number}".encode()).digest(), "big")
        square = (x**3 - 3 * x + constant) % prime
        y = pow(square, (prime + 1) // 4, prime)
        if x < prime and y * y % prime == square:
            break
    y = min(y, prime - y)
    assert (NOBODYS.x, NOBODYS.y) == tuple(
        base64.urlsafe_b64encode(value.to_bytes(32, "big")).rstrip(b"=").decode() for value in (x, y)
    )
    ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    assert json.loads(NO_KEYS.text)["keys"] == [
        {"kty": "EC", "kid": "nobody", "alg": "ES256", "crv": "P-256", "x": NOBODYS.x, "y": NOBODYS.y}
    ]
