"""What an API serves: kinds by the names that people type, and where their objects are.

    aggregated discovery (two requests) -> Served -> Resource -> paths

See https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery: Kubernetes 1.27 or
newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from ostria.sources.api import Api

_ACCEPT = ",".join(f"application/json;g=apidiscovery.k8s.io;v={v};as=APIGroupDiscoveryList" for v in ("v2", "v2beta1"))


class Resource(NamedTuple):
    """One kind in one version, as the API serves it. `preferred` says that it is its group's first version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = ()
    preferred: bool = True

    @property
    def api_version(self) -> str:
        """As objects have it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Where its objects are: all of them, those of a namespace, one."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, subresource))]
        return "/" + "/".join(quote(part, safe="") for part in parts)


class Served(NamedTuple):
    """All that an API serves."""

    resources: tuple[Resource, ...]

    def of(self, api_version: str, kind: str) -> Resource | None:
        """The resource that objects of this apiVersion and kind belong to."""
        found = (each for each in self.resources if each.kind == kind and each.api_version == api_version)
        return next(found, None)

    def named(self, name: str) -> Resource | None:
        """The resource that a person means: `pods`, `pod`, `po`, `Pod`, `deployments.apps`, `deployments.v1.apps`.

        If several groups have one of this name, the API's own order decides, as with kubectl.
        """
        plural, _, group = name.lower().partition(".")
        return next(self._named(plural, group), None) or next(self._named(name.lower(), ""), None)

    def _named(self, word: str, group: str) -> Iterator[Resource]:
        for each in self.resources:
            known = (each.plural, each.singular or each.kind.lower(), each.kind.lower(), *each.short_names)
            if word in known and (
                (not group and each.preferred)
                or (group == each.group and each.preferred)
                or group == f"{each.version}.{each.group}"
            ):
                yield each

    def category(self, name: str) -> tuple[Resource, ...]:
        """The resources of a category, such as `all`."""
        return tuple(each for each in self.resources if name in each.categories and each.preferred)


class _Kind(msgspec.Struct):
    kind: str = ""


class _Discovered(msgspec.Struct, rename="camel"):
    resource: str
    response_kind: _Kind | None = None
    scope: str = "Namespaced"
    singular_resource: str = ""
    verbs: tuple[str, ...] = ()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class _Version(msgspec.Struct):
    version: str
    resources: tuple[_Discovered, ...] = ()


class _Meta(msgspec.Struct, frozen=True):
    name: str = ""


class _Group(msgspec.Struct):
    metadata: _Meta = _Meta()
    versions: tuple[_Version, ...] = ()


class _Groups(msgspec.Struct):
    kind: str
    items: tuple[_Group, ...] = ()


_decode = msgspec.json.Decoder(_Groups).decode


async def served(api: Api) -> Served:
    """Ask an API what it serves. Raises ApiError, FAILURES, and ValueError if it is too old to tell."""
    resources: list[Resource] = []
    for path in ("/api", "/apis"):
        groups = _decode(await api.send("GET", path, accept=_ACCEPT))
        if groups.kind != "APIGroupDiscoveryList":
            raise ValueError("this API does not tell what it serves in one answer: Kubernetes 1.27 or newer is needed")
        resources += _resources(groups)
    return Served(tuple(resources))


def _resources(groups: _Groups) -> Iterator[Resource]:
    for group in groups.items:
        known: set[str] = set()
        for version in group.versions:
            for each in version.resources:
                yield Resource(
                    group.metadata.name,
                    version.version,
                    each.response_kind.kind if each.response_kind else "",
                    each.resource,
                    each.singular_resource,
                    each.short_names,
                    each.categories,
                    each.scope == "Namespaced",
                    each.verbs,
                    # A kind that the group's first version lacks is preferred in the next one that has it.
                    each.resource not in known,
                )
                known.add(each.resource)
