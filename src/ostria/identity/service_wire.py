"""Istio's certificate service on the wire: istio.v1.auth.IstioCertificateService/CreateCertificate.

The two messages are public API (istio.io/api, security/v1alpha1/ca.proto). They are declared here by their field
numbers, which is all that two messages of four fields need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, struct_pb2

_IMPERSONATED, _SIGNER = "ImpersonatedIdentity", "CertSigner"

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

_STRING, _INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED


JOIN_TOKEN = "ostria-join."  # noqa: S105 - What it begins with.
"""What a bearer token begins with by which a machine joins (`joining`)."""


class Request(NamedTuple):
    """A signing request in PEM, and the life that is asked for in seconds (0: what is usual).

    Of the request's metadata (field 4, a google.protobuf.Struct) two keys have a meaning: whose certificate a node's
    agent wants in a workload's place, and which of several external signers is to sign.
    """

    csr: bytes
    validity_seconds: int = 0
    impersonated: str = ""
    signer: str = ""


def _types() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="ostria/istio_ca.proto", package="istio.v1.auth", syntax="proto3")
    asked = file.message_type.add(name="IstioCertificateRequest")
    asked.field.add(name="csr", number=1, type=_STRING, label=_OPTIONAL)
    asked.field.add(name="validity_duration", number=3, type=_INT64, label=_OPTIONAL)
    asked.field.add(name="metadata", number=4, type=_MESSAGE, type_name=".google.protobuf.Struct", label=_OPTIONAL)
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    given = file.message_type.add(name="IstioCertificateResponse")
    given.field.add(name="cert_chain", number=1, type=_STRING, label=_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return (
        message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.v1.auth.IstioCertificateRequest")),
        message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.v1.auth.IstioCertificateResponse")),
    )


_Request, _Response = _types()


def encode_request(request: Request) -> bytes:
    """The bytes that a workload sends."""
    asked = _Request(csr=request.csr.decode(), validity_duration=request.validity_seconds)
    for key, value in ((_IMPERSONATED, request.impersonated), (_SIGNER, request.signer)):
        if value:
            asked.metadata.fields[key].string_value = value
    body: bytes = asked.SerializeToString()
    return body


def decode_request(body: bytes) -> Request:
    """What a workload asks for; raises ValueError."""
    asked = _decode(_Request, body)
    fields = asked.metadata.fields
    impersonated, signer = (fields[key].string_value if key in fields else "" for key in (_IMPERSONATED, _SIGNER))
    return Request(asked.csr.encode(), asked.validity_duration, impersonated, signer)


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
