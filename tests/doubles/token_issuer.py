"""An issuer of tokens: keys that are made here, the set that it publishes, and what it signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

ISSUER = "https://issuer.example.com"
FOREVER = 4_000_000_000
LONG_AGO = 1_000_000_000


@cache
def _rsa_key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class TokenIssuer:
    """`number` tells issuers apart: each has keys of its own, one RSA and one EC."""

    def __init__(self, name: str = ISSUER, number: int = 0) -> None:
        self.name = name
        self.key = _rsa_key(number)
        self._curve = ec.generate_private_key(ec.SECP256R1())
        self.kid = f"rsa-{number}"

    def jwk(self) -> dict[str, Any]:
        return self._jwk(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()), self.kid)

    def key_set(self) -> dict[str, Any]:
        """What it publishes."""
        curve = jwt.algorithms.ECAlgorithm.to_jwk(self._curve.public_key())
        return {"keys": [self.jwk(), self._jwk(curve, f"ec-{self.kid}")]}

    def published(self) -> str:
        return json.dumps(self.key_set())

    def pem(self) -> bytes:
        """The public RSA key as text, which an attacker has as well."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def token(self, claims: Mapping[str, Any] | None = None, *, algorithm: str = "RS256", **more: Any) -> str:
        """A token of the subject `alice` that is good for long; `claims` come on top, and None takes one away."""
        said = {"iss": self.name, "sub": "alice", "exp": FOREVER, **(claims or {}), **more}
        key: Any = self.key if algorithm.startswith(("RS", "PS")) else self._curve
        kid = self.kid if key is self.key else f"ec-{self.kid}"
        known = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(known, key, algorithm, {"kid": kid})

    @staticmethod
    def _jwk(text: str, kid: str) -> dict[str, Any]:
        return {**json.loads(text), "kid": kid}


def forged(header: Mapping[str, Any], claims: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token of exactly these parts, which nobody has signed."""
    return ".".join((_part(json.dumps(header).encode()), _part(json.dumps(claims).encode()), _part(signature)))


def named(value: object) -> str:
    """What a test's parameter is called: tokens are others in each process, and names must not be."""
    return text if len(text := str(value)) < 30 else "token"


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
