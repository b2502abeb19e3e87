"""What the node asks of the world around it: objects that pods name, tokens, and places to write to.

Each protocol is as small as what is asked, so that an API server, a test or a folder of manifests can answer it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ostria.node.pods import Pod, PodKey


class Token(NamedTuple):
    """A service account's token. `expires` is seconds since 1970."""

    text: str
    expires: float


class Cluster(Protocol):
    """The objects of the cluster that pods name. What raises OSError is asked again later."""

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The keys of a ConfigMap, None if there is none."""

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The keys of a Secret, None if there is none."""

    async def request_token(self, namespace: str, account: str, audience: str, seconds: int, pod: PodKey) -> Token:
        """A token of the account that is bound to the pod; `audience` "" is the API server's own."""


class StatusSink(Protocol):
    """Where pods' statuses go."""

    async def write_status(self, key: PodKey, status: Mapping[str, Any]) -> None:
        """Write a whole PodStatus. What raises OSError is written again later."""

    async def remove_pod(self, key: PodKey) -> None:
        """The pod has ended and is cleaned up: its object may go."""


class EventSink(Protocol):
    """Where events go."""

    def emit(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        """Say something about a pod; `kind` is Normal or Warning. It does not wait."""


class Network(Protocol):
    """The pods' network."""

    async def attach(self, pod: str, namespace_fd: int) -> PodAddresses:
        """Connect a pod's network namespace; the same pod gets the same addresses, whenever it is asked."""

    async def detach(self, pod: str) -> None:
        """Give the addresses back."""

    def resolv_conf(self, namespace: str) -> str:
        """What /etc/resolv.conf says in pods of this namespace."""


class PodAddresses(Protocol):
    """What a pod is reached by."""

    @property
    def v4(self) -> object:
        """The IPv4 address, as something that `str` writes; "" if it has none."""

    @property
    def v6(self) -> object:
        """The IPv6 address, likewise."""


def config_map_data(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of a ConfigMap's document."""
    text = {key: str(value).encode() for key, value in (document.get("data") or {}).items()}
    return text | {key: base64.b64decode(value) for key, value in (document.get("binaryData") or {}).items()}


def secret_data(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The keys of a Secret's document."""
    held = {key: base64.b64decode(value) for key, value in (document.get("data") or {}).items()}
    return held | {key: str(value).encode() for key, value in (document.get("stringData") or {}).items()}
