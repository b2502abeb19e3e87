"""The server's own documents beside discovery, OpenAPI and the keys of tokens: made when asked for."""

from __future__ import annotations

from collections.abc import Callable

from ostria.kubeapi.openapi import group_version, index
from ostria.kubeapi.registry import Registry
from ostria.kubeapi.requests import Document
from ostria.kubeapi.schemas import Schemas
from ostria.kubeapi.tokens import CONFIGURATION_PATH, KEYS_PATH, Issuer

_OPENAPI = "/openapi/v3"


def documents(registry: Registry, schemas: Schemas, issuer: Issuer, address: str) -> Callable[[str], Document | None]:
    """What answers a path with a document, or with None where there is nothing.

    `address` is where clients reach the server (HOST:PORT).
    """

    def answer(path: str) -> Document | None:
        if path == CONFIGURATION_PATH:
            return issuer.configuration(address)
        if path == KEYS_PATH:
            return issuer.keys()
        if path == _OPENAPI:
            return index(registry.resources, schemas, registry.definition)
        if not path.startswith(f"{_OPENAPI}/"):
            return None
        match path.removeprefix(f"{_OPENAPI}/").split("/"):
            case "api", version:
                return group_version("", version, registry.resources, schemas, registry.definition)
            case "apis", group, version:
                return group_version(group, version, registry.resources, schemas, registry.definition)
        return None

    return answer
