"""Credentials of gateways that are not served: missing, not granted, or broken, said of the server that names them.

What a Secret holds is judged at the door; whether anybody serves it is known only here, so that a Secret which no
gateway names is no problem of the mesh's.
"""

from __future__ import annotations

from ostria.analysis.gateways import serving
from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.mesh.gateway_credentials import Lack, lacks
from ostria.mesh.gateways import selection_of, servers_of
from ostria.mesh.settings import settings
from ostria.resources import objects
from ostria.resources.gateway import Gateway

UNSERVED, STALE = "credential-not-served", "credential-not-renewed"


@query
def credential_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What the gateways that serve one Gateway lack of the credentials that it names."""
    wanted = selection_of(db, key) if isinstance(objects(db, key), Gateway) else None
    if wanted is None or wanted.services is not None:
        return ()
    clients = serving(db, wanted.labels, key.namespace if settings(db).scope_gateways else "")
    found = {
        _problem(key, server.position, lack)
        for namespace in {client.namespace for client in clients}
        for server in servers_of(db, key)
        if server.tls is not None
        for lack in lacks(db, server.tls, namespace)
    }
    return tuple(sorted(found, key=lambda each: (each.field, each.message)))


def _problem(key: ObjectKey, position: int, lack: Lack) -> Problem:
    field = f"spec.servers[{position}].tls.{lack.field}"
    if lack.broken:
        # Whoever has read the mesh just now cannot know what was good before.
        kept = "the last good one is served on" + ("" if lack.served else ", if istiod has seen one since it started")
        return Problem(
            STALE, Level.ERROR, f"{lack.why}: {kept}", key, field, hint="mend the Secret; it is taken at once"
        )
    message = f"{lack.why}: connections for this server's hosts are refused"
    return Problem(UNSERVED, Level.ERROR, message, key, field, hint="other servers of the port are not affected")
