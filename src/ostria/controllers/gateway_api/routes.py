"""The statuses of routes: whether each parent that is this mesh's took the route, and whether all refers rightly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostria.base import ObjectKey
from ostria.controllers.gateway_api.conditions import Condition, judged, merged, status_patch
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.mesh.gateway_api import CONTROLLER, ROUTE_KINDS, ROUTES, Parent, parents_of, route_fault
from ostria.mesh.virtual_services import MESH
from ostria.resources import by_kind, objects
from ostria.resources import gateway_api as api

_PARENT = {"group": api.GROUP, "kind": "Gateway"}


@query
def route_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs of the routes' statuses."""
    return tuple(write for kind in ROUTE_KINDS for write in _of_kind(db, kind))


@query
def _of_kind(db: Engine, kind: str) -> tuple[DesiredWrite, ...]:
    return tuple(write for key in by_kind(db, kind) for write in _route(db, key))


@query
def _route(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value = objects(db, key)
    if not isinstance(value, ROUTES):
        return ()
    existing = [each for each in value.status.get("parents") or () if isinstance(each, Mapping)]
    ours: list[tuple[dict[str, Any], list[Condition]]] = []
    for parent in parents_of(db, key):
        reference = value.spec.parent_refs[parent.position]
        ours.append((_written(reference), _conditions(db, key, parent)))
    merged_parents = _merged(existing, ours, key.namespace, value.metadata.generation)
    if not merged_parents and not value.status:
        return ()
    return tuple(status_patch(key, value.status, {"parents": merged_parents}))


def _conditions(db: Engine, key: ObjectKey, parent: Parent) -> list[Condition]:
    bound = len(parent.attachments)
    fine = f"Route was valid, bound to {bound} parents" if bound > 1 else "Route was valid"
    gateway = MESH if parent.service is not None else ""
    return [
        judged("Accepted", parent.refused, fine),
        judged("ResolvedRefs", route_fault(db, key, gateway), "All references resolved"),
    ]


def _written(reference: api.ParentReference) -> dict[str, Any]:
    """A parentRef as its author wrote it."""
    fields = {
        "group": reference.group,
        "kind": reference.kind,
        "namespace": reference.namespace,
        "name": reference.name,
        "sectionName": reference.section_name,
        "port": reference.port,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _merged(
    existing: list[Mapping[str, Any]],
    ours: list[tuple[dict[str, Any], list[Condition]]],
    namespace: str,
    generation: int,
) -> list[Any]:
    """The parents of a status: what others have written stays in its place, what is ours and no more asked for goes."""
    wanted = {_identity(reference, namespace): (reference, conditions) for reference, conditions in ours}
    found: list[Any] = []
    for entry in existing:
        if entry.get("controllerName") != CONTROLLER:
            found.append(entry)
            continue
        asked = wanted.pop(_identity(entry.get("parentRef") or {}, namespace), None)
        if asked is not None:
            found.append(_entry(asked[0], merged(entry.get("conditions"), asked[1], generation)))
    found += [_entry(reference, merged((), conditions, generation)) for reference, conditions in wanted.values()]
    return found


def _entry(reference: dict[str, Any], conditions: list[Any]) -> dict[str, Any]:
    return {"parentRef": reference, "controllerName": CONTROLLER, "conditions": conditions}


def _identity(reference: Mapping[str, Any], namespace: str) -> tuple[Any, ...]:
    """What a reference names, whether or not it says what goes without saying."""
    full = {**_PARENT, "namespace": namespace, **reference}
    return tuple(full.get(name) for name in ("group", "kind", "namespace", "name", "sectionName", "port"))
