"""Bad input is data: one type says what is wrong, where, and what to do, for admission, status, CLI and NACKs alike."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base.names import ObjectKey


class Level(enum.StrEnum):
    """How bad it is. An error means that the object, or the named part of it, has no effect."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Origin(NamedTuple):
    """Where something was written: a file with a 1-based line and column, or an object of a cluster (line 0)."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class Problem(NamedTuple):
    """One thing that is wrong with one object.

    `code` is stable and documented in docs/problems.md; `field` is a path as kubectl writes them
    (`spec.http[0].route[1].weight`, "" for the whole object); `hint` says what to do about it.
    """

    code: str
    level: Level
    message: str
    object: ObjectKey | None = None
    field: str = ""
    origin: Origin | None = None
    hint: str = ""

    def __str__(self) -> str:
        what = f"{self.level}: {self.message}"
        subject = " ".join(part for part in (str(self.object) if self.object else "", self.field) if part)
        lines = [f"{what} [{self.code}]"]
        if subject or self.origin:
            lines.append("  at " + " ".join(str(part) for part in (subject, self.origin) if part))
        if self.hint:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)
