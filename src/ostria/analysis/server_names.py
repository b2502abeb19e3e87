"""Rules for TLS that is passed on by its server name, where another rule has the name already."""

from __future__ import annotations

from ostria.analysis.gateways import serving
from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.mesh.gateway_chains import Shadowed, shadowed_names
from ostria.mesh.gateways import gateway_ports, selection_of
from ostria.mesh.traits import ClientTraits
from ostria.mesh.virtual_services import gateway_reference
from ostria.resources import objects
from ostria.resources.gateway import Gateway
from ostria.resources.virtual_service import VirtualService


@query
def server_name_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """The server names of one VirtualService that nothing comes to at the gateways it names."""
    value = objects(db, key)
    if not isinstance(value, VirtualService) or not (value.spec.tls or value.spec.tcp):
        return ()
    clients: dict[ClientTraits, None] = {}
    for name in value.spec.gateways:
        namespace, _, gateway = gateway_reference(name, key.namespace).partition("/")
        found = ObjectKey(key.cluster, "Gateway", namespace, gateway)
        wanted = selection_of(db, found) if isinstance(objects(db, found), Gateway) else None
        if wanted is not None and wanted.services is None:
            clients |= dict.fromkeys(serving(db, wanted.labels, ""))
    lost = {
        (shadowed, place.port)
        for client in clients
        for place in gateway_ports(db, client)
        for shadowed in shadowed_names(db, place.bind, place.port, client)
        if shadowed.origin == key
    }
    return tuple(_problem(key, *each) for each in sorted(lost))


def _problem(key: ObjectKey, lost: Shadowed, port: int) -> Problem:
    other = "an earlier rule of its own" if lost.taken_by == key else str(lost.taken_by)
    return Problem(
        "shadowed-server-name",
        Level.WARNING,
        f"{lost.name} is taken by {other} at the gateway's port {port}: nothing comes to this rule for it",
        key,
        lost.field,
        hint="the older of two rules stands; take the name out of one of them",
    )
