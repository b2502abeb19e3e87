"""What clients send: JSON, YAML or protobuf, read into documents; bad input is refused in words. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from ostria.base.problems import Problem
from ostria.base.yaml import read_documents
from ostria.kubeapi.errors import StatusError, bad_request, unsupported_media_type
from ostria.kubeapi.nesting import check_depth
from ostria.kubeapi.protobuf import decode as decode_protobuf
from ostria.kubeapi.requests import Document

MOST = 3 * 1024 * 1024
"""Bytes that a body may have, as with Kubernetes."""

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_PROTOBUF = "application/vnd.kubernetes.protobuf"


def too_large() -> StatusError:
    """The body has more bytes than are read."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {MOST}")


def _nested() -> StatusError:
    return bad_request("the body of the request nests too deeply")


def document(content_type: str, body: bytes) -> Document:
    """An object in a body. Raises StatusError."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("", "application/json"):
        read = from_json(body)
    elif media == "application/yaml":
        read = from_yaml(body)
    elif media == _PROTOBUF:
        try:
            read = decode_protobuf(body)
        except RecursionError:
            raise _nested() from None
        check_depth(read)
    else:
        words = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        raise unsupported_media_type(
            f"the body of the request was in an unknown format - accepted media types include: {words}"
        )
    if not isinstance(read, dict):
        raise bad_request("the object provided is unrecognized: it is not an object")
    return read


def from_json(body: bytes) -> Any:
    """Any JSON value. Raises StatusError (400)."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body of the request is no JSON: {error}") from None
    except RecursionError:
        raise _nested() from None
    check_depth(value)
    return value


def from_yaml(body: bytes) -> Any:
    """The one YAML document of a body, of which JSON is a kind. Raises StatusError (400)."""
    found = list(read_documents(body, "body"))
    if len(found) != 1:
        raise bad_request(f"the body of the request holds {len(found)} YAML documents, not one")
    if isinstance(found[0], Problem):
        where = found[0].origin
        at = f" at line {where.line}, column {where.column}" if where else ""
        raise bad_request(f"error parsing YAML{at}: {found[0].message}")
    return found[0].value
