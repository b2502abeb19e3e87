"""What Envoy has refused, written onto the objects that led to it, so that it is not tried again after a restart.

    resources.refusals (in force) + resources.verdicts (on the objects) -> the annotations to set and to erase

The Store honours a verdict that it reads before the first generation, and drops it when the content or the Envoy
version differs; whatever it does not hold in force is erased here. Verdicts are decided elsewhere.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.controllers.writer import DesiredWrite, Pace, annotate
from ostria.engine import Engine, Index, query
from ostria.resources import refusals, verdicts
from ostria.resources.refusals import ANNOTATION, Refusal, annotation

PACE = Pace(settle=0.5)
"""While the guilty one is being looked for, suspects are set aside and restored: only what lasts is written down."""

_in_force: Index[ObjectKey, Refusal, str] = Index("controllers.refusals_in_force", refusals, lambda _, __: ("",))
_read: Index[ObjectKey, str, str] = Index("controllers.verdicts", verdicts, lambda _, __: ("",))


@query
def verdict_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """The annotations that differ from the verdicts in force; empty when all is written."""
    keys = sorted({*_in_force(db, ""), *_read(db, "")})
    return tuple(write for key in keys for write in _write(db, key))


@query
def _write(db: Engine, key: ObjectKey) -> tuple[DesiredWrite, ...]:
    refusal = refusals(db, key)
    wanted = annotation(refusal) if refusal is not None else None
    return () if wanted == verdicts(db, key) else (annotate(key, ANNOTATION, wanted),)
