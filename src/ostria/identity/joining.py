"""Join tokens: how a machine outside of every cluster gets its first certificate, once.

    ostria-join.<id>.<secret>    what a person carries to the machine
    Secret ostria-join-<id>      what the mesh keeps: for whom it is, until when, and the secret's hash
    Secret ostria-joined-<id>    that it was used, made by whoever comes first: an API server makes no second one

The first use ends it, whether or not a certificate came of it. From then on the machine renews with its certificate
(`possession`), until somebody deletes the Secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import NamedTuple

import msgspec

from ostria.identity.keeping import Send
from ostria.identity.service_wire import JOIN_TOKEN
from ostria.identity.spiffe import SpiffeId, spiffe_id
from ostria.identity.tokens import TokenIdentity

JOINED = "join:"
"""What stands before a token's id in the place of a pod's, and in the certificates of machines (their subject)."""
TYPE = "ostria.dev/join-token"
LABEL = "ostria.dev/join-token"
_TOKEN = re.compile(r"ostria-join\.([a-z0-9]{10})\.([A-Za-z0-9_-]{43})", re.ASCII)


class JoinToken(NamedTuple):
    """A token as it is carried, and the name and the document of the Secret that is kept of it."""

    text: str
    name: str
    document: dict[str, object]


def made(
    namespace: str, service_account: str, expires: float, chance: bytes, *, home: str = "istio-system"
) -> JoinToken:
    """A new token out of 40 bytes of chance; raises ValueError for names that can be nobody's."""
    spiffe_id("cluster.local", namespace, service_account)
    if len(chance) < 40:
        raise ValueError("40 bytes of chance are needed")
    # Of its letters and digits all may stand in an object's name.
    id = base64.b32encode(chance[32:40]).decode().lower()[:10]
    secret = base64.urlsafe_b64encode(chance[:32]).decode().rstrip("=")
    name = f"ostria-join-{id}"
    content = {
        "hash": hashlib.sha256(secret.encode()).hexdigest(),
        "namespace": namespace,
        "service-account": service_account,
        "expires": f"{expires:.0f}",
    }
    document: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": home, "labels": {LABEL: "true"}},
        "type": TYPE,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in content.items()},
    }
    return JoinToken(f"{JOIN_TOKEN}{id}.{secret}", name, document)


class Refused(NamedTuple):
    """Why a join token is not taken."""

    reason: str


class _Metadata(msgspec.Struct, frozen=True):
    uid: str = ""


class _Secret(msgspec.Struct, frozen=True):
    data: dict[str, bytes] = {}
    type: str = ""
    metadata: _Metadata = _Metadata()


class Joining:
    """Takes join tokens that are kept in the root namespace."""

    def __init__(self, send: Send, namespace: str = "istio-system") -> None:
        self._send = send
        self._collection = f"/api/v1/namespaces/{namespace}/secrets"
        self._namespace = namespace

    async def use(self, token: str, now: float) -> TokenIdentity | Refused:
        """For whom a token is; it is used up then. Raises ConnectionError and what sending raises."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            return Refused("this is no join token")
        id, secret = found.groups()
        answer = await self._send("GET", f"{self._collection}/ostria-join-{id}", None)
        if answer.status == 404:
            return Refused("the join token is not known")
        if answer.status != 200:
            raise ConnectionError(f"join tokens cannot be read: status {answer.status}")
        kept = msgspec.json.decode(answer.body, type=_Secret)
        hash = kept.data.get("hash", b"").decode("ascii", "replace")
        if kept.type != TYPE or not hmac.compare_digest(hash, hashlib.sha256(secret.encode()).hexdigest()):
            return Refused("the join token is not known")
        try:
            expires = float(kept.data.get("expires", b"0"))
            identity = spiffe_id("x", kept.data["namespace"].decode(), kept.data["service-account"].decode())
        except (KeyError, ValueError):
            return Refused("the join token is not whole")
        if expires <= now:
            return Refused("the join token has ended")
        if not await self._first(id, kept.metadata.uid, now):
            return Refused("the join token was used before")
        return _of(identity, id, expires)

    async def member(self, id: str, identity: SpiffeId) -> bool:
        """Whether a machine that has joined by a token may go on: as long as its Secret is kept.

        Raises ConnectionError and what sending raises.
        """
        if not re.fullmatch(r"[a-z0-9]{10}", id, re.ASCII):
            return False
        answer = await self._send("GET", f"{self._collection}/ostria-join-{id}", None)
        if answer.status not in (200, 404):
            raise ConnectionError(f"join tokens cannot be read: status {answer.status}")
        if answer.status == 404:
            return False
        kept = msgspec.json.decode(answer.body, type=_Secret)
        names = (kept.data.get("namespace", b"").decode(), kept.data.get("service-account", b"").decode())
        return kept.type == TYPE and names == (identity.namespace, identity.service_account)

    async def _first(self, id: str, uid: str, now: float) -> bool:
        owner = {"apiVersion": "v1", "kind": "Secret", "name": f"ostria-join-{id}", "uid": uid}
        document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": f"ostria-joined-{id}",
                "namespace": self._namespace,
                "labels": {LABEL: "true"},
                "ownerReferences": [owner] if uid else [],
            },
            "type": TYPE,
            "data": {"used": base64.b64encode(f"{now:.0f}".encode()).decode()},
        }
        answer = await self._send("POST", self._collection, msgspec.json.encode(document))
        if answer.status == 409:
            return False
        if answer.status not in (200, 201):
            raise ConnectionError(f"the use of a join token cannot be kept: status {answer.status}")
        return True


def _of(identity: SpiffeId, id: str, expires: float) -> TokenIdentity:
    return TokenIdentity(identity.namespace, identity.service_account, "", f"{JOINED}{id}", expires)
