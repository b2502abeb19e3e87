"""What clients are told is served: the documents below /api and /apis, aggregated and of old.

See https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ostria.kubeapi.kinds import subresource
from ostria.kubeapi.requests import Document, Resource


def aggregated(resources: Iterable[Resource], *, core: bool, version: str = "v2") -> Document:
    """An APIGroupDiscoveryList: of /api if `core`, else of /apis; `version` is v2 or v2beta1."""
    items = [
        {
            "metadata": {"name": group},
            "versions": [
                {"version": name, "resources": [_aggregated(each) for each in rows], "freshness": "Current"}
                for name, rows in versions.items()
            ],
        }
        for group, versions in _groups(resources).items()
        if (group == "") == core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def core_versions(address: str) -> Document:
    """The APIVersions of /api; `address` is where clients reach the server, HOST:PORT."""
    reached = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": reached}


def group_list(resources: Iterable[Resource]) -> Document:
    """The APIGroupList of /apis."""
    found = [_group(name, tuple(versions)) for name, versions in _groups(resources).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(resources: Iterable[Resource], name: str) -> Document | None:
    """The APIGroup of /apis/NAME, None if nothing of it is served."""
    versions = _groups(resources).get(name) if name else None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, tuple(versions))} if versions else None


def resource_list(resources: Iterable[Resource], name: str, version: str) -> Document | None:
    """The APIResourceList of one group and version, None if nothing of it is served."""
    rows = _groups(resources).get(name, {}).get(version)
    if not rows:
        return None
    listed: list[Document] = []
    for each in rows:
        row: Document = {
            "name": each.plural,
            "singularName": each.singular or each.kind.lower(),
            "namespaced": each.namespaced,
            "kind": each.kind,
            "verbs": list(each.verbs),
        }
        if each.short_names:
            row["shortNames"] = list(each.short_names)
        if each.categories:
            row["categories"] = list(each.categories)
        listed.append(row)
        for part in each.subresources:
            spoken = subresource(each, part)
            row = {
                "name": f"{each.plural}/{part}",
                "singularName": "",
                "namespaced": each.namespaced,
                "kind": spoken.kind,
                "verbs": list(spoken.verbs),
            }
            if (spoken.group, spoken.version) != (each.group, each.version):
                row |= {"group": spoken.group, "version": spoken.version}
            listed.append(row)
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": rows[0].api_version, "resources": listed}


def _aggregated(resource: Resource) -> Document:
    row: Document = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular or resource.kind.lower(),
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        row["shortNames"] = list(resource.short_names)
    if resource.categories:
        row["categories"] = list(resource.categories)
    if resource.subresources:
        parts = []
        for name in resource.subresources:
            spoken = subresource(resource, name)
            kind = {"group": spoken.group, "version": spoken.version, "kind": spoken.kind}
            parts.append({"subresource": name, "responseKind": kind, "verbs": list(spoken.verbs)})
        row["subresources"] = parts
    return row


def _group(name: str, versions: Sequence[str]) -> Document:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _groups(resources: Iterable[Resource]) -> dict[str, dict[str, list[Resource]]]:
    found: dict[str, dict[str, list[Resource]]] = {}
    for each in resources:
        found.setdefault(each.group, {}).setdefault(each.version, []).append(each)
    return found
