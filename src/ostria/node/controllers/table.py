"""All controllers of a node, by what each needs to know."""

from __future__ import annotations

from typing import NamedTuple

from ostria.node.controllers import (
    api_service,
    deployments,
    endpoint_mirroring,
    endpoint_slices,
    jobs,
    load_balancers,
    nodes,
    replica_sets,
    scheduling,
    service_accounts,
)
from ostria.node.controllers.writes import Controller


class Surroundings(NamedTuple):
    """What controllers cannot read from the API. `roots` are the API's, as PEM."""

    facts: nodes.Facts
    roots: str
    api: api_service.Place
    ports: load_balancers.Ports


def controllers(around: Surroundings) -> tuple[Controller, ...]:
    """The controllers of a node."""
    return (
        nodes.controller(around.facts),
        scheduling.controller(around.facts.name),
        deployments.CONTROLLER,
        replica_sets.CONTROLLER,
        jobs.CONTROLLER,
        endpoint_slices.CONTROLLER,
        endpoint_mirroring.CONTROLLER,
        api_service.controller(around.api),
        load_balancers.controller(around.ports),
        service_accounts.controller(around.roots),
    )
