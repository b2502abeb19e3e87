"""The engine that this project does without: every flush computes everything again.

It has the incremental engine's interface and gives the same values, so that it can stand in for it anywhere. It is
here to be caught: a test of the cost of a change that it passes measures nothing.
"""

from __future__ import annotations

from typing import Any

from ostria.engine import Engine, Watch
from ostria.engine.core import CLEAN, DIRTY
from ostria.engine.tables import Query


class RebuildingEngine(Engine):
    """Forgets every derived value before it settles what is watched."""

    def flush(self) -> list[Watch[Any]]:
        """As `Engine.flush`, at the price of the whole mesh."""
        watched = [node for node in self.nodes() if node.watch is not None]
        for node in self.nodes():
            if isinstance(node.table, Query):
                node.state = DIRTY
                node.suspects = None
        for node in watched:
            if node.state != CLEAN:
                self._moved[node] = None
        return super().flush()
