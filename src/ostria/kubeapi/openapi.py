"""The OpenAPI v3 documents below /openapi/v3: what `kubectl apply` and `kubectl explain` learn of kinds.

An index names a document for each group and version; its address carries a hash of what it says, so that clients may
keep it for ever. See https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3. Of OpenAPI v2 there is
an empty document only: kubectl asks it about kinds that v3 does not know, before it says that there is no such kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ostria.kubeapi.requests import Document, Resource
from ostria.kubeapi.schemas import Schemas, complete

Definition = Callable[[Resource], Document | None]
"""The CustomResourceDefinition that brought a resource; None for the built-in ones."""

V2_PATH, V2_MEDIA = "/openapi/v2", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Where the document of version 2 is; the `@` with which kubectl asks for it may not stand in an answer."""
V2_EMPTY = b"\x0a\x032.0\x12\x13\x0a\x0aKubernetes\x12\x05empty"
"""`swagger: "2.0"` with the `info` that each document has, as gnostic's openapi.v2 Document; it defines nothing."""

_REF = "#/components/schemas/"
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
_STRATEGIC = "application/strategic-merge-patch+json"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_ALWAYS = (_META + "DeleteOptions", _META + "Status")
_GVK = "x-kubernetes-group-version-kind"
# What the address of the index calls an operation, and what it does to the resource.
_COLLECTION = (("get", "list"), ("post", "create"), ("delete", "deletecollection"))
_OBJECT = (("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete"))
_ACTIONS = {"create": "post", "update": "put"}


def index(resources: Iterable[Resource], schemas: Schemas, definition: Definition) -> Document:
    """What /openapi/v3 answers: where the document of each group and version is."""
    listed: dict[str, list[Resource]] = {}
    for each in resources:
        listed.setdefault(_base(each).removeprefix("/"), []).append(each)
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(rows, schemas, definition)}"}
            for path, rows in sorted(listed.items())
        }
    }


def group_version(
    group: str, version: str, resources: Iterable[Resource], schemas: Schemas, definition: Definition
) -> Document | None:
    """The document of one group ("" for the core) and version; None if nothing of it is served."""
    rows = [each for each in resources if (each.group, each.version) == (group, version)]
    if not rows:
        return None
    found: dict[str, Document] = {}
    paths: dict[str, Document] = {}
    wanted = list(_ALWAYS)
    for each in rows:
        name, node = _component(each, schemas, definition(each))
        if name:
            found[name] = _published(node)
            wanted += _references(node)
            paths |= _paths(each, name)
    while wanted:
        name = wanted.pop()
        if name not in found:
            node = schemas.written(name)
            found[name] = _published(node)
            wanted += _references(node)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{schemas.version}"},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": dict(sorted(found.items()))},
    }


def _component(resource: Resource, schemas: Schemas, crd: Document | None) -> tuple[str, Document]:
    """What a kind is called among the components, and its schema; "" if there is none."""
    if crd is None:
        name = schemas.name(resource.group, resource.version, resource.kind)
        return name, schemas.written(name) if name else {}
    group = ".".join(reversed(resource.group.split(".")))
    schema = _crd_schema(crd, resource.version)
    gvk = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    return f"{group}.{resource.version}.{resource.kind}", {**complete(schema), _GVK: [gvk]}


def _crd_schema(crd: Document, version: str) -> Document:
    for each in crd["spec"]["versions"]:
        if each["name"] == version:
            schema: Document = (each.get("schema") or {}).get("openAPIV3Schema") or {}
            return schema
    return {}


def _base(resource: Resource) -> str:
    return f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.api_version}"


def _paths(resource: Resource, name: str) -> dict[str, Document]:
    base = _base(resource)
    collection = f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else ""
    collection = collection or f"{base}/{resource.plural}"
    found = {
        collection: {method: _operation(resource, name, verb) for method, verb in _COLLECTION if verb in resource.verbs}
    }
    if "get" in resource.verbs:
        operations = {method: _operation(resource, name, verb) for method, verb in _OBJECT if verb in resource.verbs}
        found[f"{collection}/{{name}}"] = operations
        if "status" in resource.subresources:
            writes = ("get", "put", "patch")
            found[f"{collection}/{{name}}/status"] = {
                method: held for method, held in operations.items() if method in writes
            }
    if resource.namespaced and "list" in resource.verbs:
        found[f"{base}/{resource.plural}"] = {"get": _operation(resource, name, "list")}
    return found


def _operation(resource: Resource, name: str, verb: str) -> Document:
    schema = {"$ref": _REF + name}
    found: Document = {
        _GVK: {"group": resource.group, "kind": resource.kind, "version": resource.version},
        "x-kubernetes-action": _ACTIONS.get(verb, verb),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
    }
    if verb in ("create", "update", "patch"):
        names = ("dryRun", "fieldManager", "fieldValidation")
        found["parameters"] = [_parameter(each, "string") for each in names]
    elif verb in ("delete", "deletecollection"):
        found["parameters"] = [_parameter("dryRun", "string")]
    if verb in ("create", "update"):
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif verb == "patch":
        found["parameters"].append(_parameter("force", "boolean"))
        taken = _PATCHES if resource.crd else (*_PATCHES, _STRATEGIC)
        found["requestBody"] = {"required": True, "content": {each: {"schema": {"type": "object"}} for each in taken}}
    elif verb in ("delete", "deletecollection"):
        options = {"$ref": _REF + _META + "DeleteOptions"}
        found["requestBody"] = {"content": {"application/json": {"schema": options}}}
    return found


def _parameter(name: str, kind: str) -> Document:
    return {"in": "query", "name": name, "schema": {"type": kind, "uniqueItems": True}}


def _published(node: Any) -> Any:
    """A schema as OpenAPI v3 wants it: a reference that says more of its field stands in an allOf."""
    if isinstance(node, list):
        return [_published(each) for each in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str) and len(node) > 1:
        return {**{key: held for key, held in node.items() if key != "$ref"}, "allOf": [{"$ref": node["$ref"]}]}
    return {key: _published(held) for key, held in node.items()}


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for each in node for name in _references(each)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].removeprefix(_REF)] if isinstance(node.get("$ref"), str) else []
    return own + [name for held in node.values() for name in _references(held)]


def _hash(resources: list[Resource], schemas: Schemas, definition: Definition) -> str:
    """Of all that a document is made of; the built-in schemas differ only between versions."""
    said = [
        (each, _crd_schema(crd, each.version) if (crd := definition(each)) else schemas.version) for each in resources
    ]
    return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()[:32].upper()
