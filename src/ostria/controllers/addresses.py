"""The addresses that the mesh gives to ServiceEntries, written down in their status so that they are kept.

    ServiceEntry, address_of (mesh.allocation) -> status.addresses

What stands there already stays as it is; hosts that are gone go.
"""

from __future__ import annotations

import msgspec

from ostria.base import ObjectKey
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.mesh.allocation import allocated, wants_address
from ostria.mesh.settings import settings
from ostria.resources import by_kind, objects
from ostria.resources.service_entry import ServiceEntry


@query
def address_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What the statuses of ServiceEntries do not say yet."""
    keys = (key for key in by_kind(db, "ServiceEntry") if key.cluster == settings(db).cluster)
    return tuple(write for key in keys for write in _write(db, key))


@query
def _write(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    value = objects(db, key)
    if not isinstance(value, ServiceEntry):
        return ()
    hosts = [host for host in dict.fromkeys(value.spec.hosts) if wants_address(value, host)]
    if not hosts:
        return ()  # Addresses that do not count any more are left to whoever wrote them.
    desired = [{"value": address, "host": host} for host in hosts for address in allocated(db, key, host)]
    if desired == [{"value": each.value, "host": each.host} for each in value.status.addresses]:
        return ()
    return (DesiredWrite(key, msgspec.json.encode({"status": {"addresses": desired}}), subresource="status"),)
