"""References between objects: what is meant where group and kind are left out, and what crosses namespaces rightly.

https://gateway-api.sigs.k8s.io/api-types/referencegrant/.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.engine import Engine, query
from ostria.mesh.gateway_api.declared import grant_spec
from ostria.resources import by_namespace
from ostria.resources import gateway_api as api

CORE = ""
SERVICE, SECRET, CONFIG_MAP = (CORE, "Service"), (CORE, "Secret"), (CORE, "ConfigMap")
SERVICE_ENTRY = ("networking.istio.io", "ServiceEntry")
HOSTNAME = ("networking.istio.io", "Hostname")
SERVICE_IMPORT = ("multicluster.x-k8s.io", "ServiceImport")
GATEWAY, LISTENER_SET = (api.GROUP, "Gateway"), (api.GROUP, "ListenerSet")

GroupKind = tuple[str, str]


def group_kind(group: str | None, kind: str | None, default: GroupKind) -> GroupKind:
    """The group and kind that a reference names; what it leaves out is that of the default."""
    return default[0] if group is None else group, kind or default[1]


class Referrer(NamedTuple):
    """Who refers."""

    kind: GroupKind
    namespace: str


@query
def permitted(db: Engine, referrer: Referrer, kind: GroupKind, namespace: str, name: str) -> bool:
    """Whether an object may be referred to from where the referrer is: in one namespace always, else by a grant."""
    if referrer.namespace == namespace:
        return True
    for key in by_namespace(db, ("ReferenceGrant", namespace)):
        grant = grant_spec(db, key)
        if grant is None:
            continue
        from_here = any(
            ((each.group, each.kind), each.namespace) == (referrer.kind, referrer.namespace) for each in grant.from_
        )
        if from_here and any(
            (each.group, each.kind) == kind and (each.name is None or each.name == name) for each in grant.to
        ):
            return True
    return False
