"""Who is at the other end of a stream: what its token proves, and what it says of itself.

The two are kept apart. Identity comes from the verified token alone; a node's words are hints (its version, what it
can do), and a node that names another pod than the token's is refused.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Identity(NamedTuple):
    """The workload that a token is bound to."""

    namespace: str
    service_account: str
    pod: str = ""
    pod_uid: str = ""
    cluster: str = ""


class Verified(NamedTuple):
    """A token that holds: whose it is, and until when (seconds since the Unix epoch)."""

    identity: Identity
    expires: float


class Node(NamedTuple):
    """What an Envoy says of itself in its first request; nothing of it is proven.

    `metadata` is the node's metadata as JSON with sorted keys ("" if there is none), `version` like "1.40.0" ("" if
    it does not tell). `whole` says that it speaks state of the world, which its call shows.
    """

    id: str = ""
    cluster: str = ""
    version: str = ""
    metadata: str = ""
    whole: bool = False


class Verifier(Protocol):
    """Decides whether a bearer token holds."""

    async def __call__(self, token: str) -> Verified | None:
        """The token's identity, or None if it does not hold."""


def claims_another(identity: Identity, node: Node) -> bool:
    """Whether the node's id names a pod other than the identity's.

    Istio's node ids are `type~ip~pod.namespace~domain`; an id of another form names no pod.
    """
    parts = node.id.split("~")
    if len(parts) != 4:
        return False
    return parts[2] != f"{identity.pod}.{identity.namespace}"
