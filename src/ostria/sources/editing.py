"""Objects written, listed and deleted by name, as a person does it: `ostria apply`, `get`, `delete`, `logs`.

    documents -> (resource, namespace, name) -> server-side apply -> created | configured | unchanged

The field manager says who owns which field afterwards; see
https://kubernetes.io/docs/reference/using-api/server-side-apply/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from ostria.base.yaml import Document
from ostria.sources.api import Api, ApiError
from ostria.sources.served import Resource, Served, served

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class Wish(NamedTuple):
    """One object as somebody wrote it: its document, its resource, where it belongs."""

    document: Document
    resource: Resource
    namespace: str
    name: str

    def __str__(self) -> str:
        """As kubectl names it: `deployment.apps/reviews-v1`."""
        group = f".{self.resource.group}" if self.resource.group else ""
        return f"{self.resource.kind.lower()}{group}/{self.name}"


class WishError(ValueError):
    """A document that leads to no object; `document` is the one, `field` the place in it."""

    def __init__(self, message: str, document: Document, field: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.document = document
        self.field = field
        self.hint = hint


def wish(document: Document, known: Served, namespace: str = "default", *, forced: bool = False) -> Wish:
    """What a document asks for. `forced` says that `namespace` was named by the person and must not be contradicted.

    Raises WishError.
    """
    value = document.value
    if not isinstance(value, Mapping):
        raise WishError("this is no object: apiVersion, kind and metadata are missing", document)
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field), str):
            raise WishError(f"{field} is missing", document)
    metadata = value.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise WishError("metadata.name is missing", document, "metadata")
    resource = known.of(value["apiVersion"], value["kind"])
    if resource is None:
        raise WishError(
            f"the API serves no {value['kind']} in {value['apiVersion']}", document, "kind", "is the mesh installed?"
        )
    written = str(metadata.get("namespace") or "")
    if not resource.namespaced:
        return Wish(document, resource, "", metadata["name"])
    if forced and written and written != namespace:
        raise WishError(
            f"the namespace is {written} here, and {namespace} in the command", document, "metadata.namespace"
        )
    return Wish(document, resource, written or namespace, metadata["name"])


# What others need comes first.
_FIRST = ("Namespace", "CustomResourceDefinition")


def in_order(documents: Iterable[Document]) -> list[Document]:
    """As written, but with namespaces and definitions of kinds first."""

    def rank(document: Document) -> int:
        kind = document.value.get("kind") if isinstance(document.value, Mapping) else None
        return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)

    return sorted(documents, key=rank)


class Editor:
    """Changes objects of one API in the name of one field manager."""

    def __init__(self, api: Api, manager: str = "ostria") -> None:
        self._api = api
        self._manager = manager
        self._served: Served | None = None

    async def served(self, *, again: bool = False) -> Served:
        """What the API serves; asked once, and `again` after kinds were added."""
        if self._served is None or again:
            self._served = await served(self._api)
        return self._served

    async def wish(self, document: Document, namespace: str = "default", *, forced: bool = False) -> Wish:
        """What a document asks for; kinds that were defined a moment ago are known. Raises WishError."""
        try:
            return wish(document, await self.served(), namespace, forced=forced)
        except WishError as error:
            if error.field != "kind":
                raise
        return wish(document, await self.served(again=True), namespace, forced=forced)

    async def apply(self, wished: Wish, *, dry_run: bool = False) -> str:
        """Make it so; returns `created`, `configured` or `unchanged`. Raises ApiError and FAILURES."""
        before = await self._version(wished)
        metadata = {**wished.document.value["metadata"]}
        if wished.namespace:
            metadata["namespace"] = wished.namespace
        params = {"fieldManager": self._manager, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            params["dryRun"] = "All"
        answer = await self._api.send(
            "PATCH",
            wished.resource.path(wished.namespace, wished.name),
            msgspec.json.encode({**wished.document.value, "metadata": metadata}),
            content_type="application/apply-patch+yaml",
            params=params,
        )
        if before is None:
            return "created"
        return "unchanged" if _version(answer) == before else "configured"

    async def delete(self, resource: Resource, namespace: str, name: str) -> bool:
        """Delete one object; False if there was none. Raises ApiError and FAILURES."""
        try:
            await self._api.send("DELETE", resource.path(namespace, name), params={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def read(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """One object. Raises ApiError and FAILURES."""
        found: dict[str, Any] = msgspec.json.decode(await self._api.get(resource.path(namespace, name)))
        return found

    async def objects(self, resource: Resource, namespace: str = "", *, selector: str = "") -> list[dict[str, Any]]:
        """The objects of a namespace, or of all ("")."""
        params = {"labelSelector": selector} if selector else {}
        found = msgspec.json.decode(await self._api.get(resource.path(namespace), params))
        listed: list[dict[str, Any]] = found.get("items") or []
        for item in listed:
            # A list says once what its items are.
            item.setdefault("apiVersion", resource.api_version)
            item.setdefault("kind", resource.kind)
        return listed

    async def table(self, resource: Resource, namespace: str, name: str = "", *, selector: str = "") -> dict[str, Any]:
        """Objects as the API itself shows them: a `Table` of meta.k8s.io/v1."""
        params = {"labelSelector": selector} if selector else {}
        body = await self._api.send("GET", resource.path(namespace, name), accept=TABLE, params=params)
        found: dict[str, Any] = msgspec.json.decode(body)
        return found

    async def pods_of(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """The pods that `NAME`, `pod/NAME` or `KIND/NAME` (a Deployment, a Service, ...) stands for, ready ones first.

        Raises ApiError (404 if there is none of that name), FAILURES, and ValueError if the kind has no pods.
        """
        known = await self.served()
        kind, slash, rest = name.partition("/")
        pods = known.named("pods")
        resource = known.named(kind) if slash else pods
        if pods is None or resource is None:
            raise ValueError(f"the API serves nothing that is called {kind}")
        found = await self.read(resource, namespace, rest if slash else name)
        if resource.plural == "pods" and not resource.group:
            return [found]
        selector = (found.get("spec") or {}).get("selector") or {}
        labels = selector if resource.kind == "Service" else selector.get("matchLabels")
        if not labels:
            raise ValueError(f"{name} selects no pods")
        text = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return sorted(await self.objects(pods, namespace, selector=text), key=lambda pod: not _is_ready(pod))

    async def _version(self, wished: Wish) -> str | None:
        try:
            return _version(await self._api.get(wished.resource.path(wished.namespace, wished.name)))
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def _version(body: bytes) -> str:
    return str(msgspec.json.decode(body)["metadata"].get("resourceVersion", ""))


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
