"""All that the mesh makes of what it was given, as one value that can be compared."""

from __future__ import annotations

from collections.abc import Hashable

from ostria.controllers.addresses import address_writes
from ostria.controllers.gateway_deployments import deployment_writes
from ostria.controllers.gateway_statuses import gateway_status_writes
from ostria.controllers.ingresses import ingress_writes
from ostria.engine import Engine
from ostria.envoy.catalogue import bootstrap_patches, fragment, names, scope
from ostria.envoy.fragments import ResourceType
from ostria.mesh.clients import traits_of
from ostria.mesh.extensions import wanted_modules
from ostria.mesh.proxy_configs import proxy_starts
from ostria.mesh.request_authentication import wanted_keys
from ostria.resources import by_kind


def follows(db: Engine) -> tuple[Hashable, ...]:
    """All that the mesh makes of what it was given: what each proxy is sent and started with, and what is written."""
    found: list[Hashable] = [
        proxy_starts(db),
        wanted_modules(db),
        wanted_keys(db),
        gateway_status_writes(db),
        deployment_writes(db),
        address_writes(db),
        ingress_writes(db),
    ]
    for pod in sorted(by_kind(db, "Pod")):
        client = traits_of(db, pod, "1.28.0", (("TEAM", "a"),))
        assert client is not None
        wanted = [
            (kind, name)
            for kind in (ResourceType.CLUSTER, ResourceType.LISTENER, ResourceType.NAMES)
            for name in names(db, kind, scope(db, kind, "*").project(client))
        ]
        held: dict[tuple[ResourceType, str], str | None] = {}
        while wanted:
            kind, name = place = wanted.pop()
            if place in held:
                continue
            made = fragment(db, kind, name, scope(db, kind, name).project(client))
            held[place] = made.version if made else None
            wanted += made.references if made else ()
        found.append((pod, frozenset(held.items()), repr(bootstrap_patches(db, client))))
    return tuple(found)
