"""When Envoy is started again after it died, and when that is given up. Pure."""

from __future__ import annotations

DELAYS = (0.0, 0.2, 1.0, 2.0, 5.0)
"""Seconds before each start after a death; after so many short lives in a row the agent ends too."""

LASTING = 10.0
"""A life of so many seconds makes up for the deaths before it."""


def delay(deaths: int) -> float | None:
    """How long to wait after so many short lives in a row (>= 1); None to give up."""
    return DELAYS[deaths - 1] if deaths <= len(DELAYS) else None


def deaths_after(deaths: int, lived: float) -> int:
    """The count of short lives in a row, after one more life of `lived` seconds."""
    return 1 if lived >= LASTING else deaths + 1
