"""What an API server asks a webhook, and how it reads the answer."""

from __future__ import annotations

import json
from typing import Any

from ostria.base.yaml import Document, read_documents

UID = "u-1"


def _object(value: Any) -> Any:
    if not isinstance(value, str) or "apiVersion" not in value:
        return value
    (document,) = read_documents(value, "object")
    assert isinstance(document, Document)
    return document.value


def review(obj: Any, *, old: Any = None, operation: str = "CREATE", namespace: str = "shop", **more: Any) -> bytes:
    """An AdmissionReview about an object, given as a value or as YAML."""
    obj = _object(obj)
    version, kind, name = "v1", "Pod", ""
    if isinstance(obj, dict) and isinstance(obj.get("apiVersion"), str) and isinstance(obj.get("kind"), str):
        version, kind = obj["apiVersion"], obj["kind"]
        found = obj["metadata"].get("name") if isinstance(obj.get("metadata"), dict) else ""
        name = found if isinstance(found, str) else ""
    group, _, version = version.rpartition("/")
    request = {
        "uid": UID,
        "kind": {"group": group, "version": version, "kind": kind},
        "name": name,
        "namespace": namespace,
        "operation": operation,
        "userInfo": {"username": "someone"},
        "object": obj,
        "oldObject": _object(old),
        **more,
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def reviewed(body: bytes) -> dict[str, Any]:
    """The response of an AdmissionReview that answers `review`."""
    value = json.loads(body)
    assert (value["apiVersion"], value["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response: dict[str, Any] = value["response"]
    assert response["uid"] == UID
    assert ("patch" in response) == ("patchType" in response)
    return response
