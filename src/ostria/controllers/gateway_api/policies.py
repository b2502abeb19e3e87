"""The statuses of BackendTLSPolicies: for each target, and each Gateway whose routes lead to it, whether it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostria.base import ObjectKey
from ostria.controllers.gateway_api.conditions import Condition, judged, merged, status_patch
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.mesh.backend_tls import Judged, verdicts
from ostria.mesh.gateway_api import CONTROLLER, MESH_CONTROLLER, gateways_calling
from ostria.resources import by_kind, objects
from ostria.resources import gateway_api as api

_FINE = "Configuration is valid"


@query
def policy_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs of the policies' statuses."""
    return tuple(write for key in by_kind(db, "BackendTLSPolicy") for write in _policy(db, key))


@query
def _policy(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value = objects(db, key)
    if not isinstance(value, api.BackendTLSPolicy):
        return ()
    existing = [each for each in value.status.get("ancestors") or () if isinstance(each, Mapping)]
    wanted: list[tuple[str, dict[str, Any], list[Condition]]] = []
    gateways: dict[ObjectKey, list[Condition]] = {}
    for target, judgement in zip(value.spec.target_refs, verdicts(db, key), strict=True):
        conditions = _conditions(judgement)
        reference = {"group": target.group, "kind": target.kind, "name": target.name}
        if target.section_name is not None:
            reference["sectionName"] = target.section_name
        wanted.append((MESH_CONTROLLER, reference, conditions))
        if judgement.unaccepted is None:
            for gateway in gateways_calling(db, key.namespace, target.name):
                gateways.setdefault(gateway, conditions)
    for gateway, conditions in sorted(gateways.items()):
        named = {"group": api.GROUP, "kind": "Gateway", "namespace": gateway.namespace, "name": gateway.name}
        wanted.append((CONTROLLER, named, conditions))
    # The API lets an object have sixteen ancestors.
    ancestors = [each for each in existing if each.get("controllerName") not in (CONTROLLER, MESH_CONTROLLER)]
    for controller, reference, conditions in wanted[:16]:
        same = (each for each in existing if _whose(each) == (controller, reference))
        before = next(same, {})
        made = merged(before.get("conditions"), conditions, value.metadata.generation)
        ancestors.append({"ancestorRef": reference, "controllerName": controller, "conditions": made})
    return tuple(status_patch(key, value.status, {"ancestors": ancestors}))


def _whose(entry: Mapping[str, Any]) -> tuple[Any, Any]:
    return entry.get("controllerName"), entry.get("ancestorRef")


def _conditions(judgement: Judged) -> list[Condition]:
    found = [judged("Accepted", judgement.unaccepted, _FINE)]
    if judgement.unaccepted is None or judgement.unaccepted.reason != "IgnoredByIstio":
        found.append(judged("ResolvedRefs", judgement.unresolved, _FINE))
    return found
