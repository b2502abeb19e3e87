"""Whose fault a refusal is: from a refused response to the objects to blame.

Delta ADS refuses whole responses, and Envoy's words only hint at the resource. So the stream that refused is asked
again, in two searches that are written here as dialogues (each `yield` is a question, its value the answer):

    response --sift--> the fragments that are refused on their own --blame--> the objects without which they are not

Sifting offers the stream parts of what it refused: first all that its message does not name, so that the innocent
are served after one exchange. Blaming withholds objects from the model and offers what the fragment is then. An object
whose absence makes the fragment vanish proves little (nothing of it is left to be refused), so one whose absence leaves
an acceptable fragment is blamed before it; among equals, the one that changed last.

Nothing here knows a stream, a store or a clock; who asks these questions of whom stands in `delivery`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ostria.base import ObjectKey
from ostria.envoy.fragments import Fragment, ResourceType


class Quarantine(Protocol):
    """The model's door: objects that take no effect. Both calls write at once."""

    def withdraw(self, key: ObjectKey, message: str, /) -> object:
        """Let the object's present content have no effect; its last good one may stand in."""
        ...

    def restore(self, key: ObjectKey, /) -> object:
        """Let it take effect again."""
        ...


class Verdicts(Protocol):
    """Who is told how an inquiry ends."""

    def convict(self, key: ObjectKey, message: str) -> None:
        """The object, already withdrawn, is to blame; it stays withdrawn until its content changes."""
        ...

    def set_aside(self, type: ResourceType, name: str, message: str) -> None:
        """No object is to blame for this resource, or only this one client refuses what others have accepted.

        It is not sent again (to that client) until it is another.
        """
        ...


class Offer(NamedTuple):
    """Question: does the stream accept these resources? Answered by an Outcome."""

    names: tuple[str, ...]


class Outcome(NamedTuple):
    """Answer to an Offer; Envoy's message if it refused."""

    accepted: bool
    message: str = ""


class Withhold(NamedTuple):
    """Question: what is the resource while exactly these objects are withdrawn? Answered by Fragment | None."""

    name: str
    keys: frozenset[ObjectKey]
    message: str


class Verdict(NamedTuple):
    """How it ends: the objects to blame, and the resources for which none could be found, with Envoy's words."""

    convicted: dict[ObjectKey, str]
    set_aside: dict[str, str]


Dialogue = Generator[Offer | Withhold, Any, Verdict]

# The objects that may be to blame for a fragment that is refused with these words: those that changed since the client
# last accepted, then all of them; each the latest change first.
Suspects = Callable[[str, str], Iterable[Sequence[ObjectKey]]]

# Envoy's words for a file that is named and cannot be read (source/common/filesystem, source/common/config/datasource).
_FILE = re.compile(r"Invalid path: |unable to read file: |unable to add filesystem watch for file |does not exist")


def is_about_a_file(message: str) -> bool:
    """Whether a refusal is about a file of the client's own machine, which another client may well have."""
    return _FILE.search(message) is not None


def inquire(names: Sequence[str], message: str, suspects: Suspects, *, once: bool = False) -> Dialogue:
    """The whole inquiry into one refused response.

    With `once` what has been refused alone is not offered again: of some types Envoy takes the second time, unread,
    what it has refused the first.
    """
    convicted: dict[ObjectKey, str] = {}
    aside: dict[str, str] = {}
    once = once and len(names) == 1
    refused = {names[0]: message} if once else (yield from _sift(tuple(names), message))
    for name, words in refused.items():
        guilty: frozenset[ObjectKey] | None = None
        for keys in suspects(name, words):
            found = yield from _blame(name, words, tuple(keys), frozenset(convicted), once=once)
            if found is not None and (guilty is None or found.cured):
                guilty = found.keys
            if found is not None and found.cured:
                break
        if guilty is None:
            aside[name] = words
            continue
        convicted.update(dict.fromkeys(guilty, words))
    # The searches leave the model as their last question wanted it; it ends with the guilty withdrawn, and only them.
    yield Withhold(names[0], frozenset(convicted), message)
    return Verdict(convicted, aside)


def _sift(names: tuple[str, ...], message: str) -> Generator[Offer | Withhold, Any, dict[str, str]]:
    """The names that are refused when offered alone, each with the words of that refusal."""
    hinted = tuple(name for name in names if _mentions(message, name))
    others = tuple(name for name in names if name not in set(hinted))
    refused: dict[str, str] = {}
    # Groups are taken from the end: the innocent-looking first.
    groups = [group for group in (hinted, others) if group]
    while groups:
        group = groups.pop()
        outcome = yield Offer(group)
        if outcome.accepted:
            continue
        if len(group) == 1:
            refused[group[0]] = outcome.message
            continue
        middle = len(group) // 2
        groups += [group[middle:], group[:middle]]
    return refused


def _mentions(message: str, name: str) -> bool:
    """Whether the message names it, and not just a longer name that contains it."""
    return re.search(rf"(?<![\w.|-]){re.escape(name)}(?![\w|-]|\.\w)", message) is not None


class _Trial(enum.Enum):
    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    VANISHED = enum.auto()


class _Blame(NamedTuple):
    """The objects to withhold; `cured` if something acceptable is left of the fragment then."""

    keys: frozenset[ObjectKey]
    cured: bool


class _Bench:
    """Trials for one fragment; what was judged once (by its version) is not offered again."""

    def __init__(self, name: str, message: str, base: frozenset[ObjectKey]) -> None:
        self._name = name
        self._message = message
        self._base = base
        self._judged: dict[str, bool] = {}

    def remember(self) -> Generator[Offer | Withhold, Any, None]:
        """Take the fragment as it is for refused."""
        fragment: Fragment | None = yield Withhold(self._name, self._base, self._message)
        if fragment is not None:
            self._judged[fragment.version] = False

    def trial(self, withheld: Iterable[ObjectKey]) -> Generator[Offer | Withhold, Any, _Trial]:
        fragment: Fragment | None = yield Withhold(self._name, self._base.union(withheld), self._message)
        if fragment is None:
            return _Trial.VANISHED
        if fragment.version not in self._judged:
            outcome: Outcome = yield Offer((self._name,))
            self._judged[fragment.version] = outcome.accepted
        return _Trial.ACCEPTED if self._judged[fragment.version] else _Trial.REFUSED

    def shrink(self, keys: list[ObjectKey], enough: _Trial) -> Generator[Offer | Withhold, Any, frozenset[ObjectKey]]:
        """Leave out what need not be withheld for this result."""
        while len(keys) > 1:
            middle = len(keys) // 2
            for half in (keys[:middle], keys[middle:]):
                if (yield from self.trial(half)) is enough:
                    keys = half
                    break
            else:
                break
        # The latest change stands first and is the last to be let off.
        for key in reversed(keys):
            rest = [other for other in keys if other != key]
            if rest and (yield from self.trial(rest)) is enough:
                keys = rest
        return frozenset(keys)


def _blame(
    name: str, message: str, keys: tuple[ObjectKey, ...], base: frozenset[ObjectKey], *, once: bool = False
) -> Generator[Offer | Withhold, Any, _Blame | None]:
    """The objects to withhold so that the fragment is acceptable or gone; None if no choice of them makes it so."""
    bench = _Bench(name, message, base)
    if once:
        yield from bench.remember()
    if (yield from bench.trial(())) is not _Trial.REFUSED:
        # What was withheld for an earlier fragment has cured this one too.
        return _Blame(frozenset(), cured=True)
    vanished: list[ObjectKey] | None = None
    for choice in _choices(keys):
        result = yield from bench.trial(choice)
        if result is _Trial.ACCEPTED:
            return _Blame((yield from bench.shrink(choice, _Trial.ACCEPTED)), cured=True)
        if result is _Trial.VANISHED and (vanished is None or len(choice) < len(vanished)):
            vanished = choice
    if vanished is None:
        return None
    return _Blame((yield from bench.shrink(vanished, _Trial.VANISHED)), cured=False)


def _choices(keys: Sequence[ObjectKey]) -> Iterator[list[ObjectKey]]:
    """What to withhold, in the order of trying: halves, quarters, ... single ones, all but those, all."""
    size = len(keys)
    chunks: list[list[ObjectKey]] = []
    while size > 1:
        size = (size + 1) // 2
        chunks += [list(keys[at : at + size]) for at in range(0, len(keys), size)]
    yield from chunks
    for chunk in chunks:
        rest = [key for key in keys if key not in set(chunk)]
        if rest:
            yield rest
    if keys:
        yield list(keys)
