"""Why something is not as its author wished."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """A reason as an API spells it in conditions, and what people are told. None stands for "all is well"."""

    reason: str
    message: str
