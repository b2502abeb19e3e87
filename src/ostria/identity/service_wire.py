"""Istio's certificate service on the wire: istio.v1.auth.IstioCertificateService/CreateCertificate.

The two messages are public API (istio.io/api, security/v1alpha1/ca.proto). They are declared here by their field
numbers, which is all that two messages of four fields need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

_STRING, _INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED


class Request(NamedTuple):
    """A signing request in PEM, and the life that is asked for in seconds (0: what is usual).

    The request's metadata (field 4) is left aside: it is the caller's word about itself.
    """

    csr: bytes
    validity_seconds: int = 0


def _types() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="ostria/istio_ca.proto", package="istio.v1.auth", syntax="proto3")
    asked = file.message_type.add(name="IstioCertificateRequest")
    asked.field.add(name="csr", number=1, type=_STRING, label=_OPTIONAL)
    asked.field.add(name="validity_duration", number=3, type=_INT64, label=_OPTIONAL)
    given = file.message_type.add(name="IstioCertificateResponse")
    given.field.add(name="cert_chain", number=1, type=_STRING, label=_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return (
        message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.v1.auth.IstioCertificateRequest")),
        message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.v1.auth.IstioCertificateResponse")),
    )


_Request, _Response = _types()


def encode_request(request: Request) -> bytes:
    """The bytes that a workload sends."""
    body: bytes = _Request(csr=request.csr.decode(), validity_duration=request.validity_seconds).SerializeToString()
    return body


def decode_request(body: bytes) -> Request:
    """What a workload asks for; raises ValueError."""
    asked = _decode(_Request, body)
    return Request(asked.csr.encode(), asked.validity_duration)


def encode_response(chain: list[bytes]) -> bytes:
    """The certificate, the authorities above it, and last the roots; each in PEM."""
    body: bytes = _Response(cert_chain=[part.decode() for part in chain]).SerializeToString()
    return body


def decode_response(body: bytes) -> list[bytes]:
    """The chain as it was sent; raises ValueError."""
    return [part.encode() for part in _decode(_Response, body).cert_chain]


def _decode(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except message.DecodeError as error:
        raise ValueError(f"not a {kind.DESCRIPTOR.full_name}: {error}") from None
