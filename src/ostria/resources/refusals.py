"""What Envoy has refused: verdicts that outlive every restart, because they stand on the object itself.

A verdict binds a content, not a name: it names the hash of what the object means and the version of Envoy that
refused it. As soon as either differs it says nothing any more.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from ostria.base.durations import Duration, format_proto
from ostria.resources.shapes import Meta, Object

ANNOTATION = "ostria.dev/refused"
# What kubectl keeps for itself is a second copy of the content and would change it at every spelling.
_NOT_MEANT = (ANNOTATION, "kubectl.kubernetes.io/last-applied-configuration")


class Refusal(msgspec.Struct, frozen=True, rename="camel"):
    """One verdict: the content (`content_hash`), the Envoy version that refused it, and Envoy's words."""

    content: str
    envoy: str
    message: str


def encode_duration(value: object) -> str:
    """How the one type that msgspec does not know is written."""
    if isinstance(value, Duration):
        return format_proto(value)
    raise NotImplementedError(type(value).__name__)


_encoder = msgspec.json.Encoder(enc_hook=encode_duration, order="sorted")


def content_hash(obj: Object) -> str:
    """What the object means, as 16 hex digits: kind, name, labels, annotations and content, but not its life.

    The same in every process; a verdict on the object, its uid, its owners and its times do not enter.
    """
    meta = obj.metadata
    meant = Meta(meta.name, meta.namespace, meta.labels, _without(meta, _NOT_MEANT))
    body = _encoder.encode([type(obj).__name__, msgspec.structs.replace(obj, metadata=meant)])
    return blake2b(body, digest_size=8).hexdigest()


def verdict(obj: Object) -> Refusal | None:
    """The verdict written on the object, whatever it is about; one that cannot be read is none."""
    text = obj.metadata.annotations.get(ANNOTATION)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Refusal)
    except msgspec.DecodeError:
        return None


def without_verdict(obj: Object) -> Object:
    """The object as its author wrote it, so that passing a verdict changes nothing that the mesh reads."""
    meta = obj.metadata
    if ANNOTATION not in meta.annotations:
        return obj
    return msgspec.structs.replace(
        obj, metadata=msgspec.structs.replace(meta, annotations=_without(meta, (ANNOTATION,)))
    )


def annotation(refusal: Refusal) -> str:
    """The verdict as the annotation's value."""
    return _encoder.encode(refusal).decode()


def _without(meta: Meta, names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in meta.annotations.items() if name not in names}
