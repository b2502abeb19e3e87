"""What is served at this moment: the built-in resources, and those that CustomResourceDefinitions bring."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ostria.kubeapi.crds import is_established
from ostria.kubeapi.kinds import BUILT_IN, from_crd
from ostria.kubeapi.requests import Document, Resource, ResourceKey

NOT_ACTED_ON = "ostria.dev/not-acted-on"
"""An annotation of a CustomResourceDefinition: the words that writers of its kind are warned with."""


class Registry:
    """Resources by what requests call them. `generation` rises with every change, for those who keep what they made."""

    def __init__(self, built_in: Sequence[Resource] = BUILT_IN) -> None:
        self._built_in = tuple(built_in)
        self._custom: dict[str, tuple[Resource, ...]] = {}
        self._named: dict[tuple[str, str, str], Resource] = {}
        self._definitions: dict[str, Document] = {}
        self.generation = 0
        self._index()

    @property
    def resources(self) -> tuple[Resource, ...]:
        """All of them; versions of one group in the order in which clients should prefer them."""
        custom = [each for found in self._custom.values() for each in found]
        custom.sort(key=lambda each: (each.group, _precedence(each.version), each.plural))
        return (*self._built_in, *custom)

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource that a path names."""
        return self._named.get((group, version, plural))

    def stored(self, key: ResourceKey) -> Resource | None:
        """The resource in the version that its objects are stored in."""
        return self._stored.get(key)

    def of_kind(self, group: str, kind: str) -> Resource | None:
        """The resource of a kind, whatever the version: as an owner reference means it."""
        return self._kinds.get((group, kind))

    def definition(self, resource: Resource) -> Document | None:
        """The CustomResourceDefinition that brought a resource."""
        return self._definitions.get(resource.crd)

    def define(self, crd: Document) -> None:
        """Serve what a definition says, instead of what it said before; nothing as long as it is not established."""
        if not is_established(crd):
            return
        words = (crd["metadata"].get("annotations") or {}).get(NOT_ACTED_ON, "")
        name = crd["metadata"]["name"]
        self._custom[name] = tuple(each._replace(not_acted_on=words) for each in from_crd(crd))
        self._definitions[name] = crd
        self._index()

    def undefine(self, name: str) -> tuple[Resource, ...]:
        """Serve it no longer. Returns what went."""
        gone = self._custom.pop(name, ())
        self._definitions.pop(name, None)
        self._index()
        return gone

    def _index(self) -> None:
        self.generation += 1
        self._named = {(each.group, each.version, each.plural): each for each in self.resources}
        self._stored: dict[ResourceKey, Resource] = {}
        self._kinds: dict[tuple[str, str], Resource] = {}
        for each in self.resources:
            if each.version == (each.storage_version or each.version) and each.stored_as is None:
                self._stored[each.key] = each
            self._kinds.setdefault((each.group, each.kind), each)


_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


def _precedence(version: str) -> tuple[int, int, int, str]:
    """Released before beta before alpha, newer before older, other names last, as Kubernetes orders versions."""
    read = _VERSION.fullmatch(version)
    if read is None:
        return 3, 0, 0, version
    stage = {None: 0, "beta": 1, "alpha": 2}[read[2]]
    return stage, -int(read[1]), -int(read[3] or 0), version
