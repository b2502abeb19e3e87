"""Rules that lead nowhere: destinations, subsets, ports and gateways that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination
from ostria.mesh.services import canonical, concrete, service, service_namespaces
from ostria.mesh.services import hosts_in as hosts_of_namespace
from ostria.mesh.virtual_services import (
    MESH,
    delegations,
    gateway_reference,
    speakers,
    speaks_in_mesh,
    speaks_to,
)
from ostria.resources import by_kind, objects
from ostria.resources import virtual_service as api


@query
def routing_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What one VirtualService names that is not there, field by field."""
    value = objects(db, key)
    if not isinstance(value, api.VirtualService):
        return ()
    found = (_gateways(db, key, value), _destinations(db, key, value), _delegations(db, key), _shadowed(db, key, value))
    return tuple(problem for problems in found for problem in problems)


def _gateways(db: Engine, key: ObjectKey, value: api.VirtualService) -> Iterator[Problem]:
    known = {f"{each.namespace}/{each.name}": each for each in by_kind(db, "Gateway")} if value.spec.gateways else {}
    for position, name in enumerate(value.spec.gateways):
        reference = gateway_reference(name, key.namespace)
        if reference != MESH and reference not in known:
            yield Problem(
                "missing-gateway",
                Level.ERROR,
                f"there is no Gateway {reference}",
                key,
                f"spec.gateways[{position}]",
                hint=_nearest(reference, known),
            )


def _delegations(db: Engine, key: ObjectKey) -> Iterator[Problem]:
    for each in delegations(db, key):
        if each.delegate is None:
            yield Problem(
                "missing-delegate",
                Level.ERROR,
                f"there is no VirtualService {each.name} that can be delegated to: the rule has no effect",
                key,
                f"{each.field}.delegate",
                hint="it must exist, have no hosts, and be exported to this namespace",
            )
        for refused in each.refused:
            yield Problem(
                "delegate-conflict",
                Level.WARNING,
                f"{refused} of {each.name} asks for what this rule does not let through, and has no effect",
                key,
                each.field,
                hint="let the delegate match a part of what is matched here, without regular expressions in both",
            )


def _shadowed(db: Engine, key: ObjectKey, value: api.VirtualService) -> Iterator[Problem]:
    """Hosts for which an older VirtualService speaks in the mesh, to clients that this one would speak to."""
    if not value.spec.http or not speaks_in_mesh(value):
        return
    for position, host in enumerate(value.spec.hosts):
        full = canonical(db, host, key.namespace)
        older = next((each for each in speakers(db, full) if each == key or _both_speak(db, key, each)), key)
        if older != key:
            yield Problem(
                "shadowed-host",
                Level.WARNING,
                f"VirtualService {older.namespace}/{older.name} is older and speaks for {full} in the mesh already",
                key,
                f"spec.hosts[{position}]",
                hint="write the rules into one of the two, or say with exportTo to whom each of them speaks",
            )


def _both_speak(db: Engine, one: ObjectKey, other: ObjectKey) -> bool:
    seen, by = speaks_to(db, one), speaks_to(db, other)
    value = objects(db, other)
    both = "*" in seen or "*" in by or bool(seen & by)
    return both and isinstance(value, api.VirtualService) and bool(value.spec.http)


def _named(value: api.VirtualService) -> Iterator[tuple[str, api.Destination]]:
    for number, rule in enumerate(value.spec.http):
        for position, target in enumerate(rule.route):
            yield f"spec.http[{number}].route[{position}].destination", target.destination
        if rule.mirror:
            yield f"spec.http[{number}].mirror", rule.mirror
        for position, mirror in enumerate(rule.mirrors):
            yield f"spec.http[{number}].mirrors[{position}].destination", mirror.destination
    for number, tls in enumerate(value.spec.tls):
        for position, passed in enumerate(tls.route):
            yield f"spec.tls[{number}].route[{position}].destination", passed.destination
    for number, tcp in enumerate(value.spec.tcp):
        for position, passed in enumerate(tcp.route):
            yield f"spec.tcp[{number}].route[{position}].destination", passed.destination


def _destinations(db: Engine, key: ObjectKey, value: api.VirtualService) -> Iterator[Problem]:
    for field, to in _named(value):
        host = concrete(db, canonical(db, to.host, key.namespace))
        found = service(db, host, key.namespace)
        if found is None:
            near = _nearest(host, all_hosts(db))
            yield _missing("missing-host", f'no service has the host "{host}"', key, f"{field}.host", near)
            continue
        ports = {str(port.number) for port in found.ports}
        if to.port and str(to.port.number) not in ports:
            message = f"{host} has no port {to.port.number}"
            hint = f"it has {', '.join(sorted(ports, key=int))}"
            yield _missing("missing-port", message, key, f"{field}.port.number", hint)
        subsets = [subset.name for subset in destination(db, host, key.namespace).subsets]
        if to.subset and to.subset not in subsets:
            hint = _nearest(to.subset, subsets) or (
                f"its subsets are {', '.join(subsets)}" if subsets else "add a DestinationRule that defines it"
            )
            message = f'{host} has no subset "{to.subset}"'
            yield _missing("missing-subset", message, key, f"{field}.subset", hint)


def _missing(code: str, message: str, key: ObjectKey, field: str, hint: str) -> Problem:
    return Problem(code, Level.ERROR, f"{message}: calls are answered with 503", key, field, hint=hint)


@query
def all_hosts(db: Engine) -> tuple[str, ...]:
    """Every host, for suggestions."""
    return tuple(host for namespace in service_namespaces(db) for host in hosts_of_namespace(db, namespace))


def _nearest(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""
