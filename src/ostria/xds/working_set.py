"""What a client on demand holds: the clusters that its own resources lead to, and the virtual hosts it has asked for.

Such a client subscribes to all clusters, as every Envoy does, and the server decides which ones these are: those that
its listeners, routes and virtual hosts refer to. A virtual host that is new, or leads elsewhere, brings its clusters
along; what nothing refers to any more lingers, because a request that is under way may be tried there again.

    fragments it holds --refer--> clusters in use --(nothing refers to it)--> lingering --(after a while)--> let go

Virtual hosts stay until they are many, or, where no object has shaped them (hosts that the mesh does not know), for a
while: the client asks again when it needs one again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ostria.envoy.fragments import ResourceType

Key = tuple[ResourceType, str]

REFERRING = frozenset({ResourceType.EXTENSION, ResourceType.LISTENER, ResourceType.ROUTES, ResourceType.VIRTUAL_HOST})
"""The types whose references to clusters count."""


class Bounds(NamedTuple):
    """How long (seconds) a cluster lingers, how many virtual hosts a client may have, of those how many that no object
    has shaped, and how long one of these stays.
    """

    lingering: float = 300.0
    hosts: int = 10_000
    passing: int = 1_000
    passing_age: float = 600.0


class WorkingSet:
    """One client's. `stale` are resources whose references may have changed; `names` the clusters to be had."""

    __slots__ = ("_bounds", "_hosts", "_lingering", "_passing", "_references", "_users", "stale")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._references: dict[Key, frozenset[str]] = {}
        self._users: dict[str, int] = {}
        self._lingering: dict[str, float] = {}
        # Both in the order of coming, so that the oldest goes first.
        self._hosts: dict[str, None] = {}
        self._passing: dict[str, float] = {}
        self.stale: dict[Key, None] = {}

    # --- clusters --------------------------------------------------------------------------------------------

    def refer(self, key: Key, clusters: frozenset[str], now: float) -> Iterator[str]:
        """A resource refers to these now (none: it is gone); yields those that nothing referred to before."""
        before = self._references.get(key, frozenset())
        if clusters:
            self._references[key] = clusters
        else:
            self._references.pop(key, None)
        for name in sorted(clusters - before):
            users = self._users[name] = self._users.get(name, 0) + 1
            if users == 1 and self._lingering.pop(name, None) is None:
                yield name
        for name in before - clusters:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self._lingering[name] = now

    def bring(self, names: Iterable[str], now: float) -> Iterator[str]:
        """The client has these from an earlier stream; yields the new ones. They linger until referred to."""
        for name in names:
            if name not in self._users and name not in self._lingering:
                self._lingering[name] = now
                yield name

    def let_go(self, now: float) -> list[str]:
        """The clusters that have lingered long enough."""
        return _take_until(self._lingering, now - self._bounds.lingering)

    # --- virtual hosts ---------------------------------------------------------------------------------------

    def asked(self, host: str) -> None:
        """The client has asked for a virtual host."""
        self._hosts.pop(host, None)
        self._hosts[host] = None

    def passes(self, host: str, now: float, *, shaped: bool) -> None:
        """Whether any object has shaped a virtual host that the client has."""
        if shaped:
            self._passing.pop(host, None)
        elif host in self._hosts:
            self._passing.setdefault(host, now)

    def forgotten(self, host: str) -> None:
        """The client has it no more."""
        self._hosts.pop(host, None)
        self._passing.pop(host, None)

    def outdated(self, now: float) -> list[str]:
        """The virtual hosts that the client is to forget: those that have passed, and the oldest of too many."""
        gone = _take_until(self._passing, now - self._bounds.passing_age)
        while len(self._passing) > self._bounds.passing:
            gone.append(_take_oldest(self._passing))
        for host in gone:
            self._hosts.pop(host, None)
        while len(self._hosts) > self._bounds.hosts:
            gone.append(_take_oldest(self._hosts))
            self._passing.pop(gone[-1], None)
        return gone

    def deadline(self) -> float | None:
        """When something is to be let go of or forgotten, if nothing happens before."""
        times = [next(iter(self._lingering.values())) + self._bounds.lingering] if self._lingering else []
        if self._passing:
            times.append(next(iter(self._passing.values())) + self._bounds.passing_age)
        return min(times, default=None)


def _take_oldest(table: dict[str, Any]) -> str:
    name = next(iter(table))
    del table[name]
    return name


def _take_until(table: dict[str, float], time: float) -> list[str]:
    """Take out what is no younger; the table is in the order of time."""
    gone = list(itertools.takewhile(lambda name: table[name] <= time, table))
    for name in gone:
        del table[name]
    return gone
