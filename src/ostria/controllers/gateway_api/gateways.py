"""The statuses of Gateways and ListenerSets: whether they are served, where, and what is wrong with each listener."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ostria.base import ObjectKey
from ostria.controllers.gateway_api.conditions import Condition, by_name, judged, merged, status_patch
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.mesh.gateway_api import (
    Assigned,
    Listener,
    Role,
    Verdict,
    assigned,
    attached,
    backend_certificate,
    gateway_spec,
    listener_sets,
    listeners_in,
    listeners_of,
    parameters_fault,
    parent_of_set,
    refusal_of_set,
    refused_addresses,
    role_of,
    services_behind,
)
from ostria.resources import by_kind, objects
from ostria.resources import gateway_api as api

_FINE = "No errors found"
NOT_VALID = "ListenersNotValid"


@query
def gateway_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs of the Gateways' statuses."""
    return tuple(write for key in by_kind(db, api.GATEWAY) for write in _gateway(db, key))


@query
def listener_set_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs of the ListenerSets' statuses."""
    return tuple(write for key in by_kind(db, "ListenerSet") for write in _listener_set(db, key))


# --- Gateways -----------------------------------------------------------------------------------------------------


@query
def _gateway(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value, role = objects(db, key), role_of(db, key)
    if not isinstance(value, api.Gateway) or role is None:
        return ()
    made = remote_status(db, key) if role is Role.REMOTE else gateway_status(db, key)
    wanted = _whole(value.status, made, value.metadata.generation)
    return tuple(status_patch(key, value.status, wanted))


def _whole(existing: Mapping[str, Any], made: Status, generation: int) -> dict[str, Any]:
    """A status with its conditions laid over those that are there."""
    wanted = dict(made.fields)
    wanted["conditions"] = merged(existing.get("conditions"), made.conditions, generation)
    if made.listeners is not None:
        wanted["listeners"] = [
            fields | {"conditions": _own(by_name(existing.get("listeners"), fields["name"]), conditions, generation)}
            for fields, conditions in made.listeners
        ]
    elif existing.get("listeners"):
        wanted["listeners"] = None
    return wanted


def _own(before: Mapping[str, Any], conditions: Sequence[Condition], generation: int) -> list[Any]:
    """A listener's conditions, which are all ours."""
    types = {condition.type for condition in conditions}
    kept = [each for each in before.get("conditions") or () if each.get("type") in types]
    return merged(kept, conditions, generation)


class Status:
    """A status as it should be: plain fields, conditions, and the listeners with theirs; None is no listeners."""

    def __init__(
        self,
        conditions: Sequence[Condition],
        listeners: Sequence[tuple[dict[str, Any], Sequence[Condition]]] | None = None,
        **fields: Any,
    ) -> None:
        self.conditions = conditions
        self.listeners = listeners
        self.fields = fields


def remote_status(db: Engine, key: ObjectKey) -> Status:
    """The status of another mesh's gateway: it is where it says to be."""
    spec = gateway_spec(db, key)
    conditions = [
        Condition("Accepted", "Accepted", "Resource accepted"),
        Condition("Programmed", "Programmed", "This Gateway is remote; this mesh will not program it"),
    ]
    asked = [each for each in (spec.addresses if spec else ()) if each.value]
    addresses = [{"type": each.type or "IPAddress", "value": each.value} for each in asked]
    return Status(conditions, addresses=addresses or None)


def gateway_status(db: Engine, key: ObjectKey) -> Status:
    """The status of a Gateway of this mesh."""
    resolved = judged("ResolvedRefs", backend_certificate(db, key), "All references resolved")
    refused = refused_addresses(db, key)
    if refused is not None:
        programmed = Verdict(refused.reason, "Failed to assign to any requested addresses")
        return Status([judged("Accepted", refused, ""), judged("Programmed", programmed, ""), resolved])
    own = listeners_in(db, key, key)
    sets = [each for each in listener_sets(db, key) if any(one.valid for one in listeners_in(db, key, each))]
    found = assigned(db, key, _ports(listeners_of(db, key)))
    return Status(
        [_accepted(db, key, own), _programmed(found), resolved],
        _listeners(db, own),
        addresses=[{"type": type_, "value": value} for type_, value in found.addresses] or None,
        attachedListenerSets=len(sets) or None,
    )


def _ports(found: Iterable[Listener]) -> tuple[int, ...]:
    return tuple(sorted({listener.port for listener in found}))


def _accepted(db: Engine, key: ObjectKey, own: Sequence[Listener]) -> Condition:
    verdict = parameters_fault(db, key) or services_behind(db, key).refused
    valid = [listener for listener in own if listener.valid]
    if verdict is None and own and not valid:
        verdict = Verdict(NOT_VALID, "None of the Gateway's listeners are valid")
    elif verdict is None and len(valid) < len(own):
        return Condition("Accepted", NOT_VALID, "One or more of the Gateway's listeners are invalid")
    return judged("Accepted", verdict, "Resource accepted")


def _programmed(found: Assigned) -> Condition:
    if not found.missing:
        where = f", assigned to service(s) {', '.join(found.places)}" if found.places else ""
        return Condition("Programmed", "Programmed", f"Resource programmed{where}")
    reason = "AddressNotUsable" if found.unusable else "AddressNotAssigned"
    why = "; ".join(found.missing)
    words = f"Failed to assign to any requested addresses: {why}"
    if found.places:
        places = ", ".join(found.places)
        words = f"Assigned to service(s) {places}, but failed to assign to all requested addresses: {why}"
    return Condition("Programmed", reason, words, true=False)


# --- ListenerSets -------------------------------------------------------------------------------------------------


@query
def _listener_set(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value, gateway = objects(db, key), parent_of_set(db, key)
    if not isinstance(value, api.ListenerSet) or gateway is None or role_of(db, gateway) is None:
        return ()
    wanted = _whole(value.status, listener_set_status(db, key, gateway), value.metadata.generation)
    return tuple(status_patch(key, value.status, wanted))


def listener_set_status(db: Engine, key: ObjectKey, gateway: ObjectKey) -> Status:
    """The status of a ListenerSet."""
    refused = refusal_of_set(db, key)
    if refused is not None:
        return Status([judged("Accepted", refused, ""), judged("Programmed", refused, "")])
    own = listeners_in(db, gateway, key)
    if not any(listener.valid for listener in own):
        verdict = Verdict(NOT_VALID, "None of the ListenerSet's listeners are valid")
        return Status([judged("Accepted", verdict, ""), judged("Programmed", verdict, "")], _listeners(db, own))
    found = assigned(db, gateway, _ports(own))
    return Status([judged("Accepted", None, "Resource accepted"), _programmed(found)], _listeners(db, own))


# --- listeners ----------------------------------------------------------------------------------------------------


def _listeners(db: Engine, found: Iterable[Listener]) -> list[tuple[dict[str, Any], Sequence[Condition]]]:
    return [
        (
            {
                "name": each.name,
                "supportedKinds": [{"group": group, "kind": kind} for group, kind in each.kinds],
                "attachedRoutes": attached_count(db, each.owner, each.name),
            },
            _conditions(each),
        )
        for each in found
    ]


@query
def attached_count(db: Engine, owner: ObjectKey, listener: str) -> int:
    """How many routes a listener has taken, whatever they refer to."""
    return len(attached(db, owner, listener))


def _conditions(listener: Listener) -> list[Condition]:
    clash = listener.conflict
    # What cannot be opened is not accepted either; the reason is the nearest that the API has (as Istio).
    unopened = listener.unresolved and Verdict("NoValidCACertificate", listener.unresolved.message)
    unprogrammed = listener.unresolved and Verdict("Invalid", "Bad TLS configuration")
    conflicted = Condition("Conflicted", "NoConflicts", _FINE, true=False)
    if clash is not None:
        conflicted = Condition("Conflicted", clash.reason, clash.message)
    found = [
        judged("Accepted", clash or listener.unsupported or unopened, _FINE),
        conflicted,
        judged("Programmed", clash or unprogrammed, _FINE),
    ]
    if clash is None:
        # Of what is another's, nothing is looked at any further.
        found.append(judged("ResolvedRefs", listener.unresolved or listener.unknown_kinds, _FINE))
    return found
