"""How values become bytes: framing of encoded parts, and messages encoded the one way that never varies.

A message whose repeated parts are already encoded is their concatenation, each behind its tag and its length
(protobuf.dev/programming-guides/encoding). So a list of a thousand virtual hosts costs one join, and only the part
that changed is encoded anew. Parts joined in the order of their field numbers, and entries of maps in the order of
their keys, give the very bytes that protobuf's own deterministic serialisation gives; the tests hold this.
"""

from __future__ import annotations

import struct as packing
from collections.abc import Iterable, Mapping

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

# A value of google.protobuf.Struct, of those kinds that configuration metadata needs.
Value = str | bool | float | Mapping[str, "Value"] | tuple["Value", ...]

_PREFIX = "type.googleapis.com/"
_DOUBLE = packing.Struct("<d")


def encode(message: Message) -> bytes:
    """The message's bytes, the same in every process: maps are written in the order of their keys."""
    return message.SerializeToString(deterministic=True)


def packed(message: Message) -> Any:
    """The message as an Any with deterministic content (`Any.Pack` leaves the order of maps open)."""
    return Any(type_url=_PREFIX + message.DESCRIPTOR.full_name, value=encode(message))


def duration(milliseconds: int) -> Duration:
    """A span of time."""
    seconds, rest = divmod(milliseconds, 1000)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)


def varint(number: int) -> bytes:
    """A number of at least 0 in base 128, the lowest seven bits first."""
    if number < 0x80:
        return _SMALL[number]
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


_SMALL = tuple(bytes((number,)) for number in range(0x80))


def framed(field: int, payload: bytes) -> bytes:
    """A string, bytes or message field: tag, length, payload. `field` is the field's number."""
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def scalar(field: int, number: int) -> bytes:
    """An unsigned integer, bool or enum field; nothing where it is 0, as in proto3."""
    return varint(field << 3) + varint(number) if number else b""


def struct(fields: Mapping[str, Value]) -> bytes:
    """A google.protobuf.Struct, keys in their order by bytes."""
    return b"".join(
        framed(1, framed(1, key) + framed(2, _value(value)))
        for key, value in sorted((key.encode(), value) for key, value in fields.items())
    )


def metadata(namespaces: Mapping[str, Mapping[str, Value]]) -> bytes:
    """An envoy.config.core.v3.Metadata that holds these structs in filter_metadata, by filter name."""
    return b"".join(
        framed(1, framed(1, name.encode()) + framed(2, struct(namespaces[name]))) for name in sorted(namespaces)
    )


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return framed(3, value.encode())
    if isinstance(value, bool):
        return varint(4 << 3) + varint(value)
    if isinstance(value, Mapping):
        return framed(5, struct(value))
    if isinstance(value, tuple):
        return framed(6, _values(value))
    return varint(2 << 3 | 1) + _DOUBLE.pack(value)


def _values(values: Iterable[Value]) -> bytes:
    return b"".join(framed(1, _value(value)) for value in values)
