"""Bodies in Kubernetes' protobuf, read into documents: kubectl from 1.32 on creates built-in kinds so.

The envelope is `k8s\\0` and a runtime.Unknown (https://kubernetes.io/docs/reference/using-api/api-concepts/
#protobuf-encoding). Numbers of fields are those of protobuf_fields.py, types those of the schemas. Answers are always
JSON, which every client takes.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ostria.kubeapi.errors import StatusError, bad_request, unsupported_media_type
from ostria.kubeapi.protobuf_fields import fields
from ostria.kubeapi.requests import Document
from ostria.kubeapi.schemas import Schemas

_MAGIC = b"k8s\x00"
_PREFIX = "#/components/schemas/"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Malformed(ValueError):
    """The bytes are no such message."""


def decode(body: bytes) -> Document:
    """The object in a body of application/vnd.kubernetes.protobuf.

    StatusError 400 for bytes that are no such message, 415 for kinds and fields that are not read in this form (the
    same object is taken as JSON).
    """
    if body[:4] != _MAGIC:
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix k8s\\0")
    try:
        return _object(body[4:])
    except (ValueError, struct.error, OverflowError, msgspec.DecodeError) as error:
        raise bad_request(f"the body of the request is no protobuf of a Kubernetes object: {error}") from None


def _object(envelope: bytes) -> Document:
    api_version = kind = ""
    raw = b""
    for number, value in _read(envelope):
        if number == 1:
            told = {inner: _text(held) for inner, held in _read(_bytes(value))}
            api_version, kind = told.get(1, ""), told.get(2, "")
        elif number == 2:
            raw = _bytes(value)
        elif number == 3 and value:
            raise unsupported_media_type("protobuf bodies must not be encoded once more")
    schemas = Schemas.load()
    group, _, version = api_version.rpartition("/")
    name = _DELETE_OPTIONS if kind == "DeleteOptions" else schemas.name(group, version, kind)
    if not name or fields(_message(name)) is None:
        raise unsupported_media_type(
            f"{kind or 'an object'} of {api_version!r} is not read from protobuf: send it as JSON"
        )
    decoded = _Decoder(schemas).message(raw, name)
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _message(definition: str) -> str:
    """A definition without its first words, as protobuf_fields names messages."""
    return ".".join(definition.split(".")[-3:])


class _Decoder:
    """Reads messages whose types are known by their schemas."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def message(self, body: bytes, definition: str) -> Document:
        """A message, by the definition of its schema."""
        properties = self._schemas.definition(definition).get("properties") or {}
        return self._fields(body, _message(definition), properties)

    def _fields(self, body: bytes, message: str, properties: Document) -> Document:
        known = fields(message)
        if known is None:
            raise _unread(message)
        found: Document = {}
        for number, value in _read(body):
            field = known.get(number)
            if field is None:
                # Fields of later versions pass over, as in Kubernetes; a volume without its source would be another.
                if message == "core.v1.VolumeSource":
                    raise _unread(f"field {number} of {message}")
                continue
            if field.inlined:
                # A struct that Go embeds: OpenAPI lists its fields with those of the object around it.
                found |= self._fields(_bytes(value), field.inlined, properties)
                continue
            node = properties.get(field.name)
            if node is None:
                continue
            decoded = self._field(value, node, found.get(field.name))
            if not _is_nothing(decoded, keeps_zero=field.keeps_zero, drops_empty=field.drops_empty):
                found[field.name] = decoded
        return found

    def _field(self, value: int | bytes, node: Document, before: Any) -> Any:
        kind = node.get("type")
        if kind == "array" and "$ref" not in node:
            return [*(before or ()), *self._items(value, node["items"])]
        if kind == "object" and "additionalProperties" in node:
            key, held = self._pair(_bytes(value), node["additionalProperties"])
            return {**(before or {}), key: held}
        return self._single(value, node)

    def _items(self, value: int | bytes, node: Document) -> list[Any]:
        if node.get("type") in ("integer", "boolean") and isinstance(value, bytes):
            return [self._single(each, node) for each in _varints(value)]
        return [self._single(value, node)]

    def _pair(self, entry: bytes, node: Document) -> tuple[str, Any]:
        key, value = "", None
        for number, held in _read(entry):
            if number == 1:
                key = _text(held)
            elif number == 2:
                value = held
        if node.get("type") == "array":
            # A map of lists is a map of messages that hold one.
            items = [held for number, held in _read(_bytes(value or b"")) if number == 1]
            return key, [self._single(held, node["items"]) for held in items]
        return key, self._single(b"" if value is None else value, node)

    def _single(self, value: int | bytes, node: Document) -> Any:
        if "$ref" in node:
            return self._referred(_bytes(value), node["$ref"].removeprefix(_PREFIX))
        kind = node.get("type")
        if kind == "string":
            return base64.b64encode(_bytes(value)).decode() if node.get("format") == "byte" else _text(value)
        if kind == "boolean":
            return bool(value)
        if kind == "integer" and isinstance(value, int):
            return value - (1 << 64) if value >= 1 << 63 else value
        if kind == "number" and isinstance(value, bytes):
            return struct.unpack("<d", value)[0]
        raise _Malformed(f"{kind} in another form")

    def _referred(self, body: bytes, definition: str) -> Any:
        name = definition.rsplit(".", 1)[1]
        if name in ("Time", "MicroTime"):
            return _time(body, micro=name == "MicroTime")
        if name == "Quantity":
            return "".join(_text(held) for number, held in _read(body) if number == 1)
        if name == "IntOrString":
            return _int_or_string(body)
        if name in ("FieldsV1", "RawExtension"):
            return msgspec.json.decode(b"".join(_bytes(held) for number, held in _read(body) if number == 1) or b"{}")
        return self.message(body, definition)


def _unread(what: str) -> StatusError:
    return unsupported_media_type(f"{what} is not read from protobuf: send the object as JSON")


def _is_nothing(value: Any, *, keeps_zero: bool, drops_empty: bool) -> bool:
    """Whether Go sends a value only because its struct has the field."""
    if value is None:
        return True
    if isinstance(value, dict):
        return drops_empty and not value
    return not keeps_zero and not isinstance(value, list) and not value


def _time(body: bytes, *, micro: bool) -> str | None:
    told = dict(_read(body))
    seconds, nanos = told.get(1, 0), told.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int):
        raise _Malformed("a time in another form")
    if not told:
        return None
    signed = seconds - (1 << 64) if seconds >= 1 << 63 else seconds
    moment = _EPOCH + timedelta(seconds=signed, microseconds=nanos // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _int_or_string(body: bytes) -> int | str:
    told = dict(_read(body))
    if told.get(1):
        return _text(told.get(3, b""))
    number = told.get(2, 0)
    if not isinstance(number, int):
        raise _Malformed("a number in another form")
    return number - (1 << 64) if number >= 1 << 63 else number


def _read(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: their numbers, and a varint as it is or all else as bytes."""
    place, size = 0, len(body)
    while place < size:
        tag, place = _varint(body, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(body, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(body, place)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise _Malformed(f"wire type {wire}")
        if place + length > size:
            raise _Malformed("it ends too early")
        yield number, body[place : place + length]
        place += length


def _varint(body: bytes, place: int) -> tuple[int, int]:
    result = shift = 0
    while place < len(body) and shift < 70:
        byte = body[place]
        place += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & ((1 << 64) - 1), place
        shift += 7
    raise _Malformed("it ends too early")


def _varints(body: bytes) -> Iterator[int]:
    place = 0
    while place < len(body):
        value, place = _varint(body, place)
        yield value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Malformed("a number where a message is expected")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()
