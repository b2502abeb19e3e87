"""One small mesh of numbers, and what the tests ask of the execution log."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ostria.engine import Engine, Epoch, Execution, Input, Outcome


def put(db: Engine, table: Input[Any, Any], facts: dict[Any, Any]) -> Epoch:
    """One epoch that states these facts; None takes one back."""
    with db.write() as write:
        for key, value in facts.items():
            write.set(table, key, value)
    return write.epoch


class Ran:
    """The queries that ran since it was last asked; the oracle of incrementality."""

    def __init__(self, db: Engine) -> None:
        self._db = db
        self._seen = db.statistics().executions

    def _fresh(self) -> list[Execution]:
        # The log is bounded, so its length tells nothing: count from its end.
        seen, self._seen = self._seen, self._db.statistics().executions
        count = self._seen - seen
        assert count <= len(self._db.log), "more has run than the log holds"
        return [*self._db.log][len(self._db.log) - count :]

    def names(self) -> list[str]:
        """As `name(args)`, in the order in which they ran."""
        return [f"{run.query.rpartition('.')[2]}{_args(run.args)}" for run in self._fresh()]

    def outcomes(self) -> list[Outcome]:
        """What came of each."""
        return [run.outcome for run in self._fresh()]


def _args(args: tuple[Hashable, ...]) -> str:
    return f"({', '.join(map(str, args))})"


def after(db: Engine, act: Callable[[], object]) -> list[str]:
    """What runs when `act` is done and the watched values are settled."""
    ran = Ran(db)
    act()
    db.flush()
    return ran.names()
