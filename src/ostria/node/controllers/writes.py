"""What a controller wants done: writes to the API, words for people, and when to be asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ostria.node.controllers.objects import Document, Key, View
from ostria.resources import Kind


class Say(NamedTuple):
    """An event about an object. `type` is Normal or Warning."""

    about: Document
    reason: str
    message: str
    type: str = "Normal"


class Create(NamedTuple):
    """Make an object. With an owner, what comes of it is told as an event of the owner's."""

    kind: Kind
    document: Mapping[str, Any]
    owner: Document | None = None


class Update(NamedTuple):
    """Put this document, or its subresource, in the place of the version that it was made from."""

    kind: Kind
    document: Mapping[str, Any]
    subresource: str = ""


class Delete(NamedTuple):
    """Take away this very object (by its uid). With an owner it is told as an event of the owner's."""

    kind: Kind
    document: Document
    owner: Document | None = None
    propagation: str = "Background"


class Bind(NamedTuple):
    """Give a pod to a node."""

    pod: Document
    node: str


Write = Create | Update | Delete | Bind | Say


class Outcome(NamedTuple):
    """What to do, in this order. `again` is when to look again though nothing has changed (seconds since 1970)."""

    writes: tuple[Write, ...] = ()
    again: float | None = None


NOTHING = Outcome()


class Changed(NamedTuple):
    """One object, before and after a change; None where it was not or is not."""

    kind: Kind
    before: Document | None
    after: Document | None


class Controller(NamedTuple):
    """One controller: which keys a change concerns, and what is to be done about one.

    `always` are the keys of what must be there, whether or not anything has been read of it.
    """

    name: str
    concerned: Callable[[View, Changed], Iterable[Key]]
    reconcile: Callable[[View, Key, float], Outcome]
    always: tuple[Key, ...] = ()


def earliest(*moments: float | None) -> float | None:
    """The first of some moments, None if there is none."""
    return min((each for each in moments if each is not None), default=None)
