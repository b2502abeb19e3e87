"""What leaves this room: encoded Envoy resources with their version and their origins.

A fragment is compared and sent as bytes; nothing downstream decodes it. Its version is a hash of its content, so
that the same mesh gives the same versions in every process and after every restart.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from ostria.base import ObjectKey

_PREFIX = "type.googleapis.com/"


class ResourceType(enum.StrEnum):
    """The xDS resource types we serve, by type URL."""

    CLUSTER = f"{_PREFIX}envoy.config.cluster.v3.Cluster"
    ENDPOINTS = f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = f"{_PREFIX}envoy.config.listener.v3.Listener"
    ROUTES = f"{_PREFIX}envoy.config.route.v3.RouteConfiguration"
    VIRTUAL_HOST = f"{_PREFIX}envoy.config.route.v3.VirtualHost"
    SECRET = f"{_PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret"
    EXTENSION = f"{_PREFIX}envoy.config.core.v3.TypedExtensionConfig"
    NAMES = f"{_PREFIX}ostria.v1.Names"  # What the agent beside Envoy subscribes to; see `names`.


class Fragment(NamedTuple):
    """One encoded resource: the deterministic serialisation of the message that its type names.

    `origins` are the objects whose content shaped it: the suspects when Envoy refuses it.
    `references` are the resources it names, which the same client must be able to get.
    `guards` says that what it protects would be sent unprotected by what a client had before: where a client refuses
    it, that goes as well. `local` says that a client's own files decide whether it takes this: one's refusal says
    nothing of the others.
    """

    name: str
    body: bytes
    version: str
    origins: frozenset[ObjectKey] = frozenset()
    references: frozenset[tuple[ResourceType, str]] = frozenset()
    guards: bool = False
    local: bool = False


def fragment(
    name: str,
    body: bytes,
    origins: frozenset[ObjectKey] = frozenset(),
    references: frozenset[tuple[ResourceType, str]] = frozenset(),
) -> Fragment:
    """A fragment whose version is the hash of its body (16 hex digits)."""
    return Fragment(name, body, blake2b(body, digest_size=8).hexdigest(), origins, references)


def composed(name: str, body: bytes, parts: Iterable[Fragment], rest: bytes = b"") -> Fragment:
    """A fragment whose body joins those of `parts` with `rest`, and whose origins and references are theirs.

    Its version is the hash of their versions: a large body is not read again because a small part of it changed.
    """
    version = blake2b(rest, digest_size=8)
    origins: set[ObjectKey] = set()
    references: set[tuple[ResourceType, str]] = set()
    for part in parts:
        version.update(f"{part.name}\0{part.version}\0".encode())
        origins |= part.origins
        references |= part.references
    return Fragment(name, body, version.hexdigest(), frozenset(origins), frozenset(references))
