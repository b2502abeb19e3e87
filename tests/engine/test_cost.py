"""The cost model: what one change runs does not grow with the mesh. The rebuilding engine must not pass."""

from __future__ import annotations

import pytest

from doubles.rebuilding_engine import RebuildingEngine
from engine.rigs import put
from ostria.engine import Engine, Index, Input, query

endpoints: Input[tuple[str, int], str] = Input("endpoints")
policies: Input[str, str] = Input("policies")
by_service: Index[tuple[str, int], str, str] = Index("by_service", endpoints, lambda key, _: (key[0],))


@query
def policy(db: Engine, service: str) -> str:
    return policies(db, service) or policies(db, "mesh") or ""


@query
def cluster(db: Engine, service: str) -> str:
    return f"{service} {policy(db, service)}"


@query
def load_assignment(db: Engine, service: str) -> tuple[str | None, ...]:
    return tuple(endpoints(db, key) for key in by_service(db, service))


@query
def names(db: Engine) -> int:
    """Reads every cluster, as a wildcard subscription does."""
    return sum(1 for service in range(policies_count(db)) if cluster(db, f"s{service}"))


@query
def policies_count(db: Engine) -> int:
    return int(policies(db, "count") or 0)


def queries_after_one_change(db: Engine, services: int) -> dict[str, int]:
    with db.write() as write:
        write.set(policies, "count", str(services))
        for at in range(services):
            for member in range(3):
                write.set(endpoints, (f"s{at}", member), f"10.0.{at % 256}.{member}")
    db.watch(names)
    for at in range(services):
        db.watch(load_assignment, f"s{at}")
    counts = {}
    for what, table, key, value in [
        ("an endpoint moves", endpoints, ("s7", 1), "10.9.9.9"),
        ("an endpoint comes", endpoints, ("s7", 3), "10.9.9.8"),
        ("a policy comes", policies, "s7", "strict"),
        ("nothing", policies, "s7", "strict"),
    ]:
        before = db.statistics().executions
        put(db, table, {key: value})  # type: ignore[arg-type]
        db.flush()
        counts[what] = db.statistics().executions - before
    return counts


def test_what_a_change_runs_does_not_grow_with_the_mesh() -> None:
    small, large = (queries_after_one_change(Engine(), size) for size in (10, 2_000))
    assert small == large == {"an endpoint moves": 1, "an endpoint comes": 1, "a policy comes": 3, "nothing": 0}


def test_an_engine_that_rebuilds_does_not_pass() -> None:
    with pytest.raises(AssertionError):
        assert queries_after_one_change(RebuildingEngine(), 10) == queries_after_one_change(RebuildingEngine(), 100)
