"""Everything that the mesh writes for the Gateway API, as one query; its parts are in `gateway_api`."""

from __future__ import annotations

from ostria.controllers.gateway_api.classes import class_writes
from ostria.controllers.gateway_api.gateways import gateway_writes, listener_set_writes
from ostria.controllers.gateway_api.policies import policy_writes
from ostria.controllers.gateway_api.routes import route_writes
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query


@query
def gateway_status_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """Everything that is to be written for the Gateway API; empty when all is so."""
    return (*class_writes(db), *gateway_writes(db), *listener_set_writes(db), *route_writes(db), *policy_writes(db))


__all__ = ["gateway_status_writes"]
