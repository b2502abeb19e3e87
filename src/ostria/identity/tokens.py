"""Whose a bound service-account token is: the API server that issued it is asked, and nobody else is believed.

A token is taken only for the audience it was made for, and only if it is bound to a pod: a token that is not could
be carried anywhere. See https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

AUDIENCE = "istio-ca"
PATH = "/apis/authentication.k8s.io/v1/tokenreviews"

_ACCOUNT_PREFIX = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_LONGEST = 16 * 1024

Post = Callable[[str, bytes], Awaitable[bytes]]
"""Sends a JSON body to a path of the API server and gives its answer; raises if there is none."""


class TokenIdentity(NamedTuple):
    """The pod that a token is bound to. `expires` is in seconds since the Unix epoch, 0.0 where it does not say."""

    namespace: str
    service_account: str
    pod: str
    pod_uid: str
    expires: float


class _Claims(msgspec.Struct, frozen=True):
    exp: float = 0.0


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: list[str] = []


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class TokenReviewer:
    """Asks the API server. One review a call; nothing is kept, so that a pod's end ends its token."""

    def __init__(self, post: Post, *, audience: str = AUDIENCE) -> None:
        self._post = post
        self._audience = audience

    async def identify(self, token: str) -> TokenIdentity | None:
        """Whose token this is; None if it does not hold, is for somebody else, or is bound to no pod.

        Raises what `post` raises when the API server cannot be asked: unknown is not the same as refused.
        """
        if not token or len(token) > _LONGEST:
            return None
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        status = msgspec.json.decode(await self._post(PATH, msgspec.json.encode(review)), type=_Review).status
        if not status.authenticated or self._audience not in status.audiences:
            return None
        account = status.user.username.removeprefix(_ACCOUNT_PREFIX)
        namespace, colon, name = account.partition(":")
        pod = _first(status.user.extra, _POD_NAME)
        if account == status.user.username or not colon or not pod:
            return None
        return TokenIdentity(namespace, name, pod, _first(status.user.extra, _POD_UID), expiry(token))


def expiry(token: str) -> float:
    """When a JWT says that it ends (RFC 7519, `exp`), unverified; 0.0 where it does not say.

    Only for tokens whose issuer has just vouched for them.
    """
    payload = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (binascii.Error, msgspec.DecodeError, ValueError):
        return 0.0


def _first(extra: dict[str, list[str]], key: str) -> str:
    values = extra.get(key, [])
    return values[0] if values else ""
