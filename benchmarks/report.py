"""How a figure is shown: the median of many runs with its spread, in a table with a sentence on the method."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Runs of one thing, in the unit that they are shown in."""

    runs: Sequence[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.runs)

    def at(self, share: float) -> float:
        """The run that this share of all runs does not exceed."""
        ordered = sorted(self.runs)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.at(0.05):.2f}-{self.at(0.95):.2f})"


class Section(NamedTuple):
    """One benchmark's part of the page."""

    title: str
    method: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """As Markdown."""
        lines = [f"## {self.title}", "", self.method, "", _row(self.header), _row(["---"] * len(self.header))]
        return "\n".join([*lines, *(_row(row) for row in self.rows), ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def page(sections: Sequence[Section]) -> str:
    """The whole of docs/benchmarks.md."""
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    head = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on a shared machine with {machine}. Figures are medians with the 5th and 95th",
        "percentile in brackets; ratios carry over to other machines, absolute times do not. The machine's load (1, 5",
        f"and 15 minutes) was {load} at the end: where others work too, times are longer.",
        "",
    ]
    return "\n".join(head) + "\n" + "\n".join(section.text() for section in sections)
