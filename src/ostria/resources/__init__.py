"""Kinds and objects: one table of kinds, one type a kind, one door in, one store.

    a document or a Kubernetes API's bytes -> typed object + problems -> Store.apply(batch) = one epoch

A source turns what it reads into `Change`s and applies them; the mesh reads `objects` and the indexes, and never
sees a document. Nothing here knows where objects come from, or what they mean to traffic.
"""

from ostria.resources.kinds import KINDS, Kind, kind_of, kind_of_shape
from ostria.resources.parse import Reading, parse, read, read_text
from ostria.resources.shapes import Meta, Object
from ostria.resources.store import (
    Change,
    Store,
    by_kind,
    by_namespace,
    find,
    objects,
    origins,
    problems,
    refusals,
    verdicts,
    withdrawn,
)

__all__ = [
    "KINDS",
    "Change",
    "Kind",
    "Meta",
    "Object",
    "Reading",
    "Store",
    "by_kind",
    "by_namespace",
    "find",
    "kind_of",
    "kind_of_shape",
    "objects",
    "origins",
    "parse",
    "problems",
    "read",
    "read_text",
    "refusals",
    "verdicts",
    "withdrawn",
]
