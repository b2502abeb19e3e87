"""Kubernetes' quantities: amounts of cpu and memory as text, read as numbers and written as the API writes them.

See https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

# Digits are bounded so that a hostile text costs nothing.
_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40}))(?:([KMGTPE]i|[numkMGTPE]?)|[eE]([+-]?\d{1,3}))", re.ASCII
)
_DECIMAL = {"E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "": 0, "m": -3, "u": -6, "n": -9}
_BINARY = {"Ei": 6, "Pi": 5, "Ti": 4, "Gi": 3, "Mi": 2, "Ki": 1, "": 0}
_SMALLEST = Decimal("1e-9")


def parse(text: str | int | float) -> Decimal:
    """How much `100m`, `1Gi` or `2e3` is. Raises ValueError if that is no quantity."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a quantity")
    number, suffix, exponent = Decimal(found[1]), found[2] or "", found[3]
    if exponent is not None:
        return number.scaleb(int(exponent))
    if suffix.endswith("i"):
        return number * Decimal(1024) ** _BINARY[suffix]
    return number.scaleb(_DECIMAL[suffix])


def canonical(text: str | int | float) -> str:
    """The same quantity with the largest suffix of its kind that leaves a whole number: `0.5` is `500m`.

    Raises ValueError if that is no quantity. What is finer than a billionth is rounded up to it.
    """
    amount = parse(text)
    if not amount:
        return "0"
    if str(text).endswith("i") and amount == amount.to_integral_value():
        suffix = next(each for each, power in _BINARY.items() if not int(amount) % 1024**power)
        return f"{int(amount) // 1024 ** _BINARY[suffix]}{suffix}"
    billionths = int((amount / _SMALLEST).to_integral_value(ROUND_CEILING))
    suffix = next(each for each, power in _DECIMAL.items() if not billionths % 10 ** (power + 9))
    number = billionths // 10 ** (_DECIMAL[suffix] + 9)
    if suffix and re.search(r"[eE][+-]?\d+$", str(text)):
        return f"{number}e{_DECIMAL[suffix]}"
    return f"{number}{suffix}"
