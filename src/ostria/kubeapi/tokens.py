"""Tokens of service accounts: made for an audience and a time, bound to a pod, and good as long as that lives. Pure.

    TokenRequest -> Issuer.issue -> JWT (ES256) -> Issuer.review -> Reviewed(user, audiences), or Invalid

See https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ostria.base.times import timestamp
from ostria.kubeapi import causes
from ostria.kubeapi.errors import Cause, bad_request, conflict, invalid, not_found
from ostria.kubeapi.fields import at, mapping
from ostria.kubeapi.kinds import AUTHENTICATION, CORE, PODS
from ostria.kubeapi.requests import Document, Reader, ResourceKey, User

ISSUER = "https://kubernetes.default.svc.cluster.local"
SERVICE_ACCOUNTS = ResourceKey(CORE, "serviceaccounts")
SECRETS = ResourceKey(CORE, "secrets")
NODES = ResourceKey(CORE, "nodes")
CONFIGURATION_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/openid/v1/jwks"

_SHORTEST, _LONGEST, _USUAL = 600, 1 << 32, 3600
_ALGORITHM = "ES256"
_LEEWAY = timedelta(seconds=60)
_BINDABLE = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}
_EXTRA = "authentication.kubernetes.io/"


class Invalid(Exception):
    """The token does not hold; the words say why, for a log and for reviewers."""


class Reviewed(NamedTuple):
    """Whose a token is, and for whom it was made."""

    user: User
    audiences: tuple[str, ...]


def new_key() -> bytes:
    """A new signing key (ECDSA on P-256) as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Issuer:
    """Signs and reads tokens with one key; accounts, pods and nodes are looked up as they are at that moment."""

    def __init__(self, key: bytes, reader: Reader, issuer: str = ISSUER) -> None:
        loaded = serialization.load_pem_private_key(key, password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or not isinstance(loaded.curve, ec.SECP256R1):
            raise ValueError("the signing key of tokens must be ECDSA on P-256")
        self._key = loaded
        self._public = loaded.public_key()
        self._reader = reader
        self.issuer = issuer
        der = self._public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self._id = _base64(hashlib.sha256(der).digest())

    def issue(self, namespace: str, name: str, request: Document, now: datetime, identifier: str) -> Document:
        """The answer to a TokenRequest for an account; `identifier` is new and the token's own. Raises StatusError."""
        account = self._reader.get(SERVICE_ACCOUNTS, namespace, name)
        if account is None:
            raise not_found("serviceaccounts", name)
        spec = mapping(request, "spec")
        audiences = spec.get("audiences") or [self.issuer]
        seconds = _USUAL if spec.get("expirationSeconds") is None else spec["expirationSeconds"]
        wrong = _check(audiences, seconds)
        if wrong:
            raise invalid("TokenRequest", "", wrong, AUTHENTICATION)
        kubernetes: Document = {"namespace": namespace, "serviceaccount": _reference(account)}
        reference = spec.get("boundObjectRef")
        if reference:
            kubernetes |= self._bound(namespace, name, reference)
        issued = int(now.timestamp())
        claims = {
            "aud": audiences,
            "exp": issued + seconds,
            "iat": issued,
            "iss": self.issuer,
            "jti": identifier,
            "kubernetes.io": kubernetes,
            "nbf": issued,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        token = jwt.encode(claims, self._key, _ALGORITHM, {"kid": self._id})
        expires, created = timestamp(issued + seconds), timestamp(now.timestamp())
        return {
            "kind": "TokenRequest",
            "apiVersion": f"{AUTHENTICATION}/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": expires},
        }

    def review(self, token: str, audiences: Sequence[str], now: datetime) -> Reviewed:
        """Whose a token is, if it is for one of the audiences. Raises Invalid."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public,
                algorithms=[_ALGORITHM],
                issuer=self.issuer,
                # Times are checked here, against the time that is passed in.
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError as error:
            raise Invalid(f"invalid bearer token: {error}") from None
        moment = now.timestamp()
        if moment >= claims.get("exp", 0):
            raise Invalid("service account token has expired")
        if moment + _LEEWAY.total_seconds() < claims.get("nbf", 0):
            raise Invalid("service account token is not valid yet")
        made_for = claims.get("aud") or ()
        found = tuple(each for each in audiences if each in made_for)
        if not found:
            raise Invalid(f"token audiences {sorted(made_for)} is invalid for the target audiences {sorted(audiences)}")
        return Reviewed(self._user(claims, now), found)

    def keys(self) -> Document:
        """The public key, as a JSON Web Key Set (RFC 7517)."""
        numbers = self._public.public_numbers()
        coordinates = {"x": _base64(numbers.x.to_bytes(32)), "y": _base64(numbers.y.to_bytes(32))}
        key = {"use": "sig", "kty": "EC", "kid": self._id, "crv": "P-256", "alg": _ALGORITHM, **coordinates}
        return {"keys": [key]}

    def configuration(self, address: str) -> Document:
        """The issuer's OpenID Connect discovery document; `address` is HOST:PORT of this server."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"https://{address}{KEYS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [_ALGORITHM],
        }

    def _bound(self, namespace: str, account: str, reference: Document) -> Document:
        kind, name, uid = reference.get("kind"), reference.get("name") or "", reference.get("uid")
        key = _BINDABLE.get(str(kind))
        if key is None or reference.get("apiVersion") not in (None, "", "v1"):
            raise bad_request(f"cannot bind token for serviceaccount {account!r} to object of kind {kind!r}")
        found = self._reader.get(key, "" if kind == "Node" else namespace, name)
        if found is None:
            raise not_found(key.plural, name)
        if uid and found["metadata"].get("uid") != uid:
            real = found["metadata"].get("uid")
            raise conflict(key.plural, name, f"the UID in the bound object reference ({uid}) does not match ({real})")
        claims: Document = {str(kind).lower(): _reference(found)}
        if kind == "Pod":
            if (at(found, "spec", "serviceAccountName") or "default") != account:
                words = f"cannot bind token to pod {name}: it runs as another serviceaccount than {account}"
                raise bad_request(words)
            node_name = at(found, "spec", "nodeName")
            if node_name:
                node = self._reader.get(NODES, "", node_name)
                claims["node"] = {"name": node_name} if node is None else _reference(node)
        return claims

    def _user(self, claims: dict[str, Any], now: datetime) -> User:
        kubernetes = mapping(claims, "kubernetes.io")
        namespace, account = kubernetes.get("namespace", ""), mapping(kubernetes, "serviceaccount")
        name, uid = account.get("name", ""), account.get("uid", "")
        self._alive(SERVICE_ACCOUNTS, namespace, account, now)
        extra: list[tuple[str, tuple[str, ...]]] = [(f"{_EXTRA}credential-id", (f"JTI={claims.get('jti', '')}",))]
        for kind, key in _BINDABLE.items():
            bound = kubernetes.get(kind.lower())
            if not bound:
                continue
            # A node that a pod runs on is told, but it is the pod that must live.
            if kind != "Node" or "pod" not in kubernetes:
                self._alive(key, "" if kind == "Node" else namespace, bound, now)
            if kind != "Secret":
                extra += [
                    (f"{_EXTRA}{kind.lower()}-{part}", (bound[part],)) for part in ("name", "uid") if bound.get(part)
                ]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{name}", groups, uid, tuple(sorted(extra)))

    def _alive(self, key: ResourceKey, namespace: str, bound: Document, now: datetime) -> None:
        found = self._reader.get(key, namespace, bound.get("name", ""))
        if found is None or found["metadata"].get("uid", "") != bound.get("uid", ""):
            raise Invalid(f"service account token has been invalidated: {key.plural} {bound.get('name')} is gone")
        ends = found["metadata"].get("deletionTimestamp")
        if ends and datetime.fromisoformat(ends) + _LEEWAY < now:
            raise Invalid(f"service account token has been invalidated: {key.plural} {bound.get('name')} has ended")


def _check(audiences: Any, seconds: Any) -> list[Cause]:
    if not isinstance(audiences, list) or not all(isinstance(each, str) and each for each in audiences):
        return [causes.wrong("spec.audiences", audiences, "must be a list of strings that are not empty")]
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < _SHORTEST:
        return [causes.wrong("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")]
    if seconds > _LONGEST:
        return [causes.wrong("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")]
    return []


def _reference(document: Document) -> Document:
    return {"name": document["metadata"]["name"], "uid": document["metadata"].get("uid", "")}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
