"""The engine that this project does without: every flush computes everything again.

It has the incremental engine's interface and gives the same values, so that it can stand in for it anywhere. It is
here to be caught: a test of the cost of a change that it passes measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostria.engine import Engine, Watch
from ostria.engine.core import CLEAN, DIRTY
from ostria.engine.tables import Query


class RebuildingEngine(Engine):
    """Forgets every derived value before it settles what is watched.

    `everything` computes what a control plane that builds its whole state on each change would build.
    """

    def __init__(self, everything: Callable[[Engine], object] = lambda db: None) -> None:
        super().__init__()
        self._everything = everything

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
        self._everything(self)
        return super().flush()
