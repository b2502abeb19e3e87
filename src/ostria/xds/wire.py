"""The messages of ADS, delta and state of the world, as bytes.

Requests are decoded once at the door, and responses joined from encoded parts.

Field numbers are those of envoy/service/discovery/v3/discovery.proto. A response of a thousand resources is one join
of a thousand cached pieces; the nonce stands last, so that everything before it is shared by all streams that get the
same change. (Protobuf readers accept fields in any order.)
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from ostria.envoy.fragments import Fragment, ResourceType
from ostria.envoy.wire import framed
from ostria.xds.callers import Node
from ostria.xds.protocol import Request, WholeRequest

_VERSION, _RESOURCES, _TYPE_URL, _NONCE, _REMOVED = 1, 2, 4, 5, 6
_TYPES = {type: type.value.encode() for type in ResourceType}
_HEADS = {type: framed(_TYPE_URL, url) for type, url in _TYPES.items()}


def resource(type: ResourceType, fragment: Fragment) -> bytes:
    """One entry of a response's `resources`: name, version and the body as an Any."""
    body = framed(1, _TYPES[type]) + framed(2, fragment.body)
    return framed(
        _RESOURCES, framed(1, fragment.version.encode()) + framed(2, body) + framed(3, fragment.name.encode())
    )


def bare(type: ResourceType, fragment: Fragment) -> bytes:
    """One entry of a state-of-the-world response's `resources`: the body as an Any, which holds its own name."""
    return framed(_RESOURCES, framed(1, _TYPES[type]) + framed(2, fragment.body))


def absent(name: str) -> bytes:
    """One entry that says that a virtual host was looked for and is not there.

    What waits for it goes on at once; a removal, or no answer, would let it wait.
    """
    return framed(_RESOURCES, framed(3, name.encode()) + framed(4, name.encode()))


def response(type: ResourceType, resources: Iterable[bytes], removed: Iterable[str]) -> bytes:
    """A whole response but for its nonce."""
    gone = b"".join([framed(_REMOVED, name.encode()) for name in removed])
    return b"".join((_HEADS[type], *resources, gone))


def nonce(value: str) -> bytes:
    """What to append to a response to make it one stream's own."""
    return framed(_NONCE, value.encode())


def version(body: bytes) -> bytes:
    """What a state-of-the-world response carries besides: a version, the same wherever the content is the same."""
    return framed(_VERSION, blake2b(body, digest_size=8).hexdigest().encode())


def request(data: bytes) -> Request:
    """Decode one delta request; raises ValueError for bytes that are none."""
    try:
        message = DeltaDiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise ValueError(f"not a DeltaDiscoveryRequest: {error}") from None
    return Request(
        message.type_url,
        tuple(message.resource_names_subscribe),
        tuple(message.resource_names_unsubscribe),
        dict(message.initial_resource_versions),
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
        _node(message) if message.HasField("node") else None,
    )


def whole_request(data: bytes) -> WholeRequest:
    """Decode one state-of-the-world request; raises ValueError for bytes that are none."""
    try:
        message = DiscoveryRequest.FromString(data)
    except DecodeError as error:
        raise ValueError(f"not a DiscoveryRequest: {error}") from None
    return WholeRequest(
        message.type_url,
        tuple(message.resource_names),
        message.response_nonce,
        message.error_detail.message if message.HasField("error_detail") else None,
        _node(message) if message.HasField("node") else None,
    )


def _node(message: DeltaDiscoveryRequest | DiscoveryRequest) -> Node:
    node = message.node
    build = node.user_agent_build_version.version
    return Node(
        node.id,
        node.cluster,
        f"{build.major_number}.{build.minor_number}.{build.patch}" if node.HasField("user_agent_build_version") else "",
        json_format.MessageToJson(node.metadata, indent=None, sort_keys=True) if node.HasField("metadata") else "",
    )
