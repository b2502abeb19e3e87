"""Why something of the Gateway API is not as its author wished: the reason of a condition, and a sentence."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """A reason as the API spells it in conditions, and what people are told. None stands for "all is well"."""

    reason: str
    message: str
