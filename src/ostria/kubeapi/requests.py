"""The words that the room's parts share: what is served, who asks, what they ask for, and how objects are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

Document = dict[str, Any]
"""An object as JSON, in the version that it is stored in."""


class Column(NamedTuple):
    """A printer column: `path` is a JSONPath (`.spec.replicas`); `priority` above 0 shows with -o wide."""

    name: str
    type: str
    path: str
    priority: int = 0
    format: str = ""
    description: str = ""


class Resource(NamedTuple):
    """One resource that is served in one version.

    `not_acted_on` is what writers are warned of where objects are stored and nothing follows from them; "" if all is
    well. `crd` names the CustomResourceDefinition that brought it, "" for the built-in ones. Objects are stored once,
    whatever the version: under (group, plural), or `stored_as` where two groups share their objects, in the form of
    `storage_version`.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = (
        "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch",
    )  # fmt: skip
    storage_version: str = ""
    columns: tuple[Column, ...] = ()
    crd: str = ""
    not_acted_on: str = ""
    stored_as: ResourceKey | None = None

    @property
    def api_version(self) -> str:
        """As objects write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> ResourceKey:
        """Where its objects are stored."""
        return self.stored_as or ResourceKey(self.group, self.plural)


class ResourceKey(NamedTuple):
    """Where objects of one resource are stored, whatever their version."""

    group: str
    plural: str


class User(NamedTuple):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Attributes(NamedTuple):
    """What is asked for, in the words of authorization: `path` for what is no resource, else the rest."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Reader(Protocol):
    """Objects as they are now. What is returned is shared: it is not changed."""

    def get(self, key: ResourceKey, namespace: str, name: str) -> Document | None:
        """One object; namespace "" for those of the cluster."""

    def list(self, key: ResourceKey, namespace: str = "") -> Sequence[Document]:
        """All objects of a resource, or those of one namespace, in the order of their names."""
