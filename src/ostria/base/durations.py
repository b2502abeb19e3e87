"""Spans of time as configuration writes them, held exactly.

Two spellings exist and both are read everywhere: Go's ("1h2m3.5s", "250ms"), which Kubernetes' metav1.Duration uses
too, and protobuf's JSON ("3.5s"), which is the subset of it that knows only seconds. See
https://pkg.go.dev/time#ParseDuration and https://protobuf.dev/programming-guides/json/.
"""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign.
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
# Digits are bounded so that a hostile text costs nothing; 64 bits of nanoseconds need fewer.
_TERM = re.compile(r"(\d{1,19})?(?:\.(\d{0,30}))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LIMIT = 2**63


class Duration(int):
    """A span of time, positive or negative: a whole number of nanoseconds that knows how it is written."""

    __slots__ = ()

    @property
    def nanoseconds(self) -> int:
        """The span in nanoseconds."""
        return int(self)

    @property
    def seconds(self) -> float:
        """The span in seconds."""
        return self / 1_000_000_000

    @property
    def milliseconds(self) -> float:
        """The span in milliseconds."""
        return self / 1_000_000

    def __str__(self) -> str:
        return format_go(self)

    def __repr__(self) -> str:
        return f"Duration({format_go(self)})"


def of_seconds(seconds: float) -> Duration:
    """The span of that many seconds, to the nearest nanosecond."""
    return Duration(round(seconds * 1_000_000_000))


def of_milliseconds(milliseconds: float) -> Duration:
    """The span of that many milliseconds, to the nearest nanosecond."""
    return Duration(round(milliseconds * 1_000_000))


def parse(text: str) -> Duration:
    """The span that `text` spells; raises ValueError, with a message for people, if it spells none.

    Units are ns, us, ms, s, m and h; terms add up; one sign stands in front; only "0" needs no unit.
    """
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return Duration(0)
    total = 0
    at = 0
    while at < len(body):
        term = _TERM.match(body, at)
        if term is None or (not term[1] and not term[2]):
            break
        unit = _UNITS[term[3]]
        fraction = term[2] or ""
        total += int(term[1] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
        at = term.end()
    if not body or at < len(body) or total >= _LIMIT:
        raise ValueError(f'"{text[:40]}" is not a duration: write a number and a unit, such as "10s" or "1m30s"')
    return Duration(-total if text[0] == "-" else total)


def format_go(duration: Duration) -> str:
    """Go's spelling: "1h2m3.5s", "250ms", "0s". `parse` reads it back unchanged."""
    rest = abs(int(duration))
    sign = "-" if int(duration) < 0 else ""
    if rest < _UNITS["s"]:
        for unit in ("ms", "µs", "ns"):
            if rest >= _UNITS[unit]:
                return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
        return "0s"
    hours, rest = divmod(rest, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return f"{sign}{text}{_decimal(rest, _UNITS['s'])}s"


def format_proto(duration: Duration) -> str:
    """Protobuf's JSON spelling, seconds only: "3.5s", "0.25s", "3600s"."""
    sign = "-" if int(duration) < 0 else ""
    return f"{sign}{_decimal(abs(int(duration)), _UNITS['s'])}s"


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
