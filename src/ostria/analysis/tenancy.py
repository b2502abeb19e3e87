"""What does not reach as far as it is exported, because tenants are kept apart."""

from __future__ import annotations

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.mesh.services import services_of, visibility
from ostria.mesh.settings import default_export_to, settings
from ostria.mesh.virtual_services import speaks_in_mesh, speaks_to, visible_in
from ostria.resources import objects
from ostria.resources.service_entry import ServiceEntry
from ostria.resources.virtual_service import VirtualService

_HINT = "write exportTo: [.], or have it written in {root}, which speaks to all"


@query
def tenancy_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What one VirtualService or ServiceEntry says to namespaces that do not hear it."""
    here = settings(db)
    if not here.strict_tenancy:
        return ()
    value = objects(db, key)
    if isinstance(value, VirtualService):
        if not speaks_in_mesh(value) or not value.spec.hosts or speaks_to(db, key) == visible_in(db, key):
            return ()
        why = f"its hosts are not all {key.namespace}'s own"
    elif isinstance(value, ServiceEntry):
        exported = visibility(value.spec.export_to or default_export_to(db, "ServiceEntry"), key.namespace)
        if all(found.visible_in == exported for found in services_of(db, key)):
            return ()
        why = f"hosts that {key.namespace} declares are its own"
    else:
        return ()
    message = f"heard in namespace {key.namespace} only: tenants are kept apart, and {why}"
    hint = _HINT.format(root=here.root_namespace)
    return (Problem("kept-at-home", Level.WARNING, message, key, "spec.exportTo", hint=hint),)
