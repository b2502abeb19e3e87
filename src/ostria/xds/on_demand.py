"""Serving clients on demand: from what they have asked for to the clusters that they are to have with it.

What such a client holds is followed (`working_set`), and where it leads the client is subscribed by the server. All
else is delivery's, as for every client: a virtual host waits for the clusters that it names, and for their endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from ostria.engine import Engine
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.xds.clients import Client
from ostria.xds.views import Variant, Views
from ostria.xds.working_set import WorkingSet

T = TypeVar("T")

_CLUSTER = ResourceType.CLUSTER
_VIRTUAL_HOST = ResourceType.VIRTUAL_HOST
_NONE: frozenset[str] = frozenset()


def listed(views: Views[T], client: Client[T], type: ResourceType) -> frozenset[str]:
    """What a client's wildcard stands for, with what the server has subscribed it to."""
    channel = client.stream.channels[type]
    if not channel.wildcard:
        return _NONE
    names = views.listing(type, client.traits)
    return names | channel.owned if channel.owned else names


def visible(
    views: Views[T], client: Client[T], type: ResourceType, name: str, listed: frozenset[str]
) -> Variant[T] | None:
    """What a client sees of a resource, if it wants it."""
    if name in listed or name in client.stream.channels[type].names:
        return views.find(type, name, client.traits)
    return None


class OnDemand(Generic[T]):
    """The upkeep of all working sets."""

    def __init__(self, db: Engine, views: Views[T]) -> None:
        self._db = db
        self._views = views

    def follow(self, client: Client[T], working: WorkingSet, now: float) -> None:
        """Give a client the clusters that what it holds leads to, and take those that have lingered."""
        channels = client.stream.channels
        for host in working.outdated(now):
            self._forget(client, working, host)
        if _CLUSTER not in channels or not channels[_CLUSTER].wildcard:
            return
        stale, working.stale = working.stale, {}
        own = self._views.listing(_CLUSTER, client.traits)
        for key in stale:
            fragment = self._fragment(client, *key)
            if key[0] is _VIRTUAL_HOST and fragment is not None:
                working.passes(key[1], now, shaped=bool(fragment.origins))
            names = frozenset(name for type, name in fragment.references if type is _CLUSTER) if fragment else _NONE
            for name in working.refer(key, names - own, now):
                self._take(client, name, now)
        for name in working.let_go(now):
            self._drop(client, name)

    def bring(self, client: Client[T], working: WorkingSet, names: Iterable[str], now: float) -> tuple[str, ...]:
        """A returning client has these clusters: they are its working set, until it has said what leads to them."""
        own = self._views.listing(_CLUSTER, client.traits)
        known = (name for name in names if name not in own and self._exists(client, name))
        brought = tuple(working.bring(known, now))
        for name in brought:
            self._own(client, name)
        return brought

    def end(self, client: Client[T]) -> None:
        """The client is to be served in full, or no more: what it was subscribed to is given up."""
        channel = client.stream.channels.get(_CLUSTER)
        if channel is None:
            return
        names = self._views.listing(_CLUSTER, client.traits) if channel.wildcard else _NONE
        for name in sorted(channel.owned):
            if name not in channel.names:
                self._views.unsubscribe(client, _CLUSTER, name)
                if name not in names:
                    client.debts[_CLUSTER].pending.setdefault(name, self._db.epoch)
        channel.owned.clear()

    def _fragment(self, client: Client[T], type: ResourceType, name: str) -> Fragment | None:
        if type not in client.stream.channels:
            return None
        variant = visible(self._views, client, type, name, listed(self._views, client, type))
        return None if variant is None else variant.fragment

    def _exists(self, client: Client[T], name: str) -> bool:
        return self._views.newest(_CLUSTER, name, client.traits, listed=False) is not None

    def _own(self, client: Client[T], name: str) -> None:
        client.stream.channels[_CLUSTER].owned.add(name)
        self._views.subscribe(client, _CLUSTER, name)

    def _take(self, client: Client[T], name: str, now: float) -> None:
        self._own(client, name)
        debts = client.debts[_CLUSTER]
        if name not in debts.pending:
            debts.missing.setdefault(name, now)
        # If it was to be removed, the client has it still.
        variant = self._views.find(_CLUSTER, name, client.traits)
        if variant is not None and variant.fragment is not None:
            debts.pending.setdefault(name, self._db.epoch)

    def _drop(self, client: Client[T], name: str) -> None:
        channel, debts = client.stream.channels[_CLUSTER], client.debts[_CLUSTER]
        if name not in channel.owned:
            return
        channel.owned.discard(name)
        if name in channel.names:
            return
        self._views.unsubscribe(client, _CLUSTER, name)
        if debts.missing.pop(name, None) is None:
            debts.pending[name] = self._db.epoch
        else:
            debts.pending.pop(name, None)

    def _forget(self, client: Client[T], working: WorkingSet, host: str) -> None:
        """Take a virtual host from the client; it asks again if it needs it again."""
        channel, debts = client.stream.channels[_VIRTUAL_HOST], client.debts[_VIRTUAL_HOST]
        if host not in channel.names:
            return
        if host in debts.missing:
            # Somebody is waiting for it just now.
            working.asked(host)
            return
        client.stream.release(_VIRTUAL_HOST, host)
        self._views.unsubscribe(client, _VIRTUAL_HOST, host)
        working.stale[_VIRTUAL_HOST, host] = None
        debts.pending[host] = self._db.epoch


def always_full(traits: Any) -> bool:
    """Nobody is served on demand."""
    del traits
    return False
