"""What a proxy is sent, as the files of an Envoy that has no control plane."""

from __future__ import annotations

from ostria.engine import Engine
from ostria.envoy import catalogue
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits


def sent(db: Engine, client: ClientTraits, secrets: tuple[str, ...]) -> dict[str, list[bytes]]:
    """Everything that a proxy is sent: what is listed, and what that names."""

    def find(kind: ResourceType, name: str) -> Fragment | None:
        return catalogue.fragment(db, kind, name, catalogue.scope(db, kind, name).project(client))

    found: dict[tuple[ResourceType, str], Fragment] = {}
    wanted = [
        (kind, name)
        for kind in (ResourceType.CLUSTER, ResourceType.LISTENER)
        for name in catalogue.names(db, kind, client)
    ]
    wanted += [
        (ResourceType.SECRET, name if "://" in name or name.startswith("file-") else f"kubernetes://{name}")
        for name in secrets
    ]
    while wanted:
        place = wanted.pop()
        if place not in found and (value := find(*place)) is not None:
            found[place] = value
            wanted += value.references
    kinds = {
        "listeners": ResourceType.LISTENER,
        "clusters": ResourceType.CLUSTER,
        "routes": ResourceType.ROUTES,
        "endpoints": ResourceType.ENDPOINTS,
        "secrets": ResourceType.SECRET,
    }
    return {part: [value.body for place, value in found.items() if place[0] is kind] for part, kind in kinds.items()}
