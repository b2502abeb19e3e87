"""Who gets what, and in which order: from changed values to at most one unanswered response per type and stream.

What a client holds is its view's present state, less what it is still owed; so a stream keeps only its debts. A change
adds a name to the debts of the streams that see it, and a response takes names off; what changes while a response is
unanswered coalesces into the last value.

The order makes before it breaks (https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "Eventual
consistency considerations"):

    secrets, clusters, their endpoints, listeners, routes, virtual hosts - then removals, the users' first

* Endpoints go right behind a changed cluster, asked for or not: Envoy warms the cluster without asking again, and
  withholds its answer to CDS until it has them. So endpoints never wait for that answer.
* What names a cluster waits until the client has accepted that cluster, and for a short while for its endpoints.
* A removal waits until everything that changed no later, of the types that may use the removed, is accepted; and
  until a returning client has had the time to say what it brings.

A refused response is inquired into (see `refusal`) with the refusing stream as the judge. Meanwhile nobody else is sent
what is under suspicion, nor what withdrawing suspects changes for a moment; all other traffic goes on.

Sans-io: it takes requests, changed watches and the time (any steady clock, in seconds), and returns commands.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from ostria.base import ObjectKey
from ostria.engine import Engine, Query, Watch
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.xds import wire
from ostria.xds.clients import Client, ClientStatistics, Debts, Stamp, statistics
from ostria.xds.court import TRIAL_BOUND, Court
from ostria.xds.enforcement import Enforcement, Enforcements
from ostria.xds.on_demand import OnDemand, always_full, listed, visible
from ostria.xds.protocol import (
    Accepted,
    Limits,
    Refused,
    Request,
    Response,
    Subscribed,
    Unserved,
    Unsubscribed,
    Violated,
    WholeRequest,
)
from ostria.xds.refusal import Offer, Outcome, Quarantine, Verdict, Verdicts, is_about_a_file
from ostria.xds.shelf import WHOLE
from ostria.xds.views import Catalogue, Key, Variant, Views
from ostria.xds.working_set import REFERRING, Bounds, WorkingSet

T = TypeVar("T")

_CLUSTER = ResourceType.CLUSTER
_ENDPOINTS = ResourceType.ENDPOINTS
_LISTENER = ResourceType.LISTENER
_ROUTES = ResourceType.ROUTES
_VIRTUAL_HOST = ResourceType.VIRTUAL_HOST
_SECRET = ResourceType.SECRET
_EXTENSION = ResourceType.EXTENSION
_NAMES = ResourceType.NAMES

ORDER = (_SECRET, _CLUSTER, _ENDPOINTS, _EXTENSION, _LISTENER, _ROUTES, _VIRTUAL_HOST, _NAMES)
"""In which order types are sent when several are due."""

_USERS = {
    _SECRET: (_CLUSTER, _LISTENER),
    _EXTENSION: (_LISTENER,),
    _CLUSTER: (_EXTENSION, _LISTENER, _ROUTES, _VIRTUAL_HOST),
    _ENDPOINTS: (_CLUSTER,),
    _LISTENER: (),
    _ROUTES: (_LISTENER,),
    _VIRTUAL_HOST: (_ROUTES,),
    _NAMES: (),
}
"""Which types may use a type, and are to have settled before something of it is removed."""

_WAITING = frozenset({_EXTENSION, _LISTENER, _ROUTES, _VIRTUAL_HOST})
"""The types that wait for the clusters they name."""

ENDPOINTS_BOUND = 0.5
"""How long (seconds) a route waits for the endpoints of a cluster that the client has accepted."""

RETURN_BOUND = 1.0
"""How long (seconds) what a returning client brings is not removed, so that all its types can come first."""

_UNSERVED_KEPT = 16


class Send(NamedTuple):
    """Write `body + tail` to the client; the body is shared by all clients that get the same."""

    client: Client[Any]
    body: bytes
    tail: bytes


class Close(NamedTuple):
    """End the client's stream: it has asked for more than it may."""

    client: Client[Any]
    message: str


Command = Send | Close


class Delivery(Generic[T]):
    """All streams of one mesh.

    `traits` is a query from whatever `connect` is given to a client's traits, None for a client that may not be served;
    `flush` fetches the engine's changed watches (given where several rooms watch one engine: it returns all, and tells
    the others theirs); `changed` tells in which epoch an object last changed (0: unknown); `accepted(client, epoch)` is
    called when a client has accepted everything up to an epoch that concerned it; `on_demand` tells by the
    traits whether a client's clusters are just those that what it holds refers to (`bounds`: see `working_set`).
    """

    def __init__(
        self,
        db: Engine,
        catalogue: Catalogue[T],
        traits: Query[..., T | None],
        quarantine: Quarantine,
        verdicts: Verdicts,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen.
        flush: Callable[[], Iterable[Watch[Any]]] | None = None,
        changed: Callable[[ObjectKey], int] = lambda key: 0,
        accepted: Callable[[Client[T], int], None] = lambda client, epoch: None,
        on_demand: Callable[[T], bool] = always_full,
        bounds: Bounds = Bounds(),  # noqa: B008 - frozen.
    ) -> None:
        self._db = db
        self._traits = traits
        self._verdicts = verdicts
        self._limits = limits
        self._flush = flush or db.flush
        self._changed = changed
        self._views: Views[T] = Views(db, catalogue, self._owe)
        self._on_demand: OnDemand[T] = OnDemand(db, self._views)
        self._is_on_demand = on_demand
        self._bounds = bounds
        self._court: Court[T] = Court(quarantine, self._flush, self._apply, self._newest)
        self._clients: dict[Client[T], None] = {}
        self._by_traits: dict[Watch[T | None], set[Client[T]]] = {}
        self._enforcements: Enforcements[Client[T]] = Enforcements(accepted)
        # Clients that something may be sent to: looked at once, at the end of each event.
        self._ready: dict[Client[T], None] = {}
        # Clients that wait for nothing but time, and until when.
        self._timers: dict[Client[T], float] = {}
        self._commands: list[Command] = []
        self._bodies: dict[tuple[Any, ...], bytes] = {}
        self._aside: dict[Key, set[str]] = {}
        self._now = 0.0

    # --- events ----------------------------------------------------------------------------------------------

    def connect(self, name: str, *args: Any, whole: bool = False) -> Client[T] | None:
        """A stream begins, `whole` for state of the world; None if the traits query knows no such client."""
        watch = self._db.watch(self._traits, *args)
        if watch.value is None:
            self._db.unwatch(watch)
            return None
        client = Client(name, watch, watch.value, self._limits, whole=whole)
        if not whole and self._is_on_demand(watch.value):
            client.working = WorkingSet(self._bounds)
        self._clients[client] = None
        self._by_traits.setdefault(watch, set()).add(client)
        return client

    def disconnect(self, client: Client[T], now: float) -> list[Command]:
        """A stream has ended, whoever ended it."""
        self._now = now
        if client not in self._clients:
            return []
        self._on_demand.end(client)
        for type, channel in client.stream.channels.items():
            for name in channel.names:
                self._views.unsubscribe(client, type, name)
            if channel.wildcard:
                self._views.leave(client, type)
        watch = client.traits_watch
        self._by_traits[watch].discard(client)
        if not self._by_traits[watch]:
            del self._by_traits[watch]
        self._db.unwatch(watch)
        del self._clients[client]
        self._ready.pop(client, None)
        self._timers.pop(client, None)
        self._enforcements.forget(client)
        if self._court.judge is client:
            # Without a judge there is no verdict; if others refuse the same, one of them is the next.
            self._adjourn()
        return self._run()

    def receive(self, client: Client[T], request: Request | WholeRequest, now: float) -> list[Command]:
        """A stream has sent a request."""
        self._now = now
        if client not in self._clients:
            return []
        self._ready[client] = None
        for event in client.stream.receive(request):
            match event:
                case Accepted(response):
                    self._accept(client, response)
                case Refused(response, message):
                    self._refuse(client, response, message)
                case Subscribed():
                    self._subscribe(client, event)
                case Unsubscribed():
                    self._unsubscribe(client, event)
                case Unserved(type_url):
                    if len(client.unserved) < _UNSERVED_KEPT:
                        client.unserved.add(type_url[:256])
                case Violated(message):
                    self._commands.append(Close(client, message))
        return self._run()

    def flush(self, now: float) -> list[Command]:
        """The model has changed: to be called after every epoch, or after several."""
        self._now = now
        self._court.take(self._flush())
        return self._run()

    def tick(self, now: float) -> list[Command]:
        """Time has passed; to be called no later than `deadline()`."""
        self._now = now
        for client in [client for client, at in self._timers.items() if at <= now]:
            del self._timers[client]
            self._ready[client] = None
        court = self._court
        if court.judge is not None and court.until is not None and court.until <= now:
            channel = court.judge.stream.channels[court.type]
            response, channel.outstanding = channel.outstanding, None
            if response is not None:
                self._accept(court.judge, response)
        return self._run()

    def deadline(self) -> float | None:
        """When `tick` is due at the latest."""
        times = [*self._timers.values(), *([self._court.until] if self._court.until is not None else [])]
        return min(times, default=None)

    # --- asking ----------------------------------------------------------------------------------------------

    @property
    def clients(self) -> tuple[Client[T], ...]:
        """All streams, in the order in which they came."""
        return tuple(self._clients)

    def enforcement(self, epoch: int) -> Enforcement:
        """How far an epoch has come."""
        return self._enforcements.state(epoch)

    def statistics(self) -> list[ClientStatistics]:
        """A snapshot of all streams, in the order in which they came."""
        return [statistics(client) for client in self._clients]

    def held(self, client: Client[T]) -> dict[Key, Fragment]:
        """What a client holds once it has accepted what it is owed."""
        held: dict[Key, Fragment] = {}
        for type, channel in client.stream.channels.items():
            listed = self._listed(client, type)
            for name in listed | channel.names:
                fragment = self._fragment(client, type, name, listed)
                if fragment is not None:
                    held[type, name] = fragment
        return held

    def unresolved(self, client: Client[T]) -> list[tuple[ResourceType, str, ResourceType, str]]:
        """References from what the client is to hold to what does not exist for it: (type, name, to type, name)."""
        return sorted(
            (type, name, *reference)
            for (type, name), fragment in self.held(client).items()
            for reference in fragment.references
            if self._views.newest(*reference, client.traits, listed=False) is None
        )

    # --- what is owed ----------------------------------------------------------------------------------------

    def _apply(self, watches: Iterable[Watch[Any]]) -> None:
        watches = list(watches)
        for watch in watches:
            for client in tuple(self._by_traits.get(watch, ())):
                self._move(client, watch.value)
        self._views.apply(watches)

    def _move(self, client: Client[T], traits: T | None) -> None:
        # A client whose pod is gone keeps what it has until its stream ends: it may still have work to finish.
        if traits is None:
            return
        channels = client.stream.channels.items()
        names = [(type, name) for type, channel in channels for name in channel.names | channel.owned]
        wildcards = [type for type, channel in channels if channel.wildcard]
        self._views.move(client, traits, names, wildcards)
        on_demand = client.shelf is None and self._is_on_demand(traits)
        if client.working is not None and not on_demand:
            self._on_demand.end(client)
            client.working = None
        elif client.working is None and on_demand:
            client.working = WorkingSet(self._bounds)
            client.working.stale = {
                (type, name): None
                for type, channel in channels
                if type in REFERRING
                for name in sorted(self._listed(client, type) | channel.names)
            }
            self._ready[client] = None

    def _owe(self, client: Client[T], type: ResourceType, name: str, appeared: bool) -> None:  # noqa: FBT001
        debts = client.debts[type]
        epoch = self._db.epoch
        if name in debts.pending or name in debts.refused:
            # If it comes back here, its removal was never carried out: the client holds it still, or never did.
            debts.latest[name] = epoch
        elif appeared:
            debts.missing[name] = self._now
        debts.pending.setdefault(name, debts.refused.pop(name, epoch))
        self._enforcements.concern(epoch, client)
        self._ready[client] = None
        if client.working is not None and type in REFERRING:
            client.working.stale[type, name] = None

    def _subscribe(self, client: Client[T], event: Subscribed) -> None:
        type, known = event.type, event.known
        debts = client.debts.setdefault(type, Debts())
        epoch = self._db.epoch
        for name in event.names:
            # Subscribing once more to the same is allowed, and asks for it once more; a view counts it once.
            self._views.subscribe(client, type, name)
        names: Iterable[str] = event.names
        if event.wildcard:
            self._views.join(client, type)
            names = (*self._views.ordered(type, client.traits), *names)
            # A client waits for the answer to its first request, unless it brings what it has.
            debts.answer = not known
        if client.working is not None:
            names = (*names, *self._subscribe_on_demand(client, client.working, event, names))
        listed = self._listed(client, type)
        for name in names:
            version = known.get(name)
            if version is None:
                debts.missing.setdefault(name, self._now)
            elif not (type is _ENDPOINTS and name in client.renewed):
                fragment = self._fragment(client, type, name, listed)
                if fragment is not None and fragment.version == version:
                    continue
            debts.pending.setdefault(name, epoch)
        if type is _ENDPOINTS:
            for name in event.names:
                client.awaited.pop(name, None)
            client.renewed.difference_update(event.names)
        if known and client.returned is None:
            client.returned = self._now
        if event.wildcard:
            for name in known:
                if self._fragment(client, type, name, listed) is None:
                    debts.pending.setdefault(name, epoch)

    def _subscribe_on_demand(
        self, client: Client[T], working: WorkingSet, event: Subscribed, names: Iterable[str]
    ) -> tuple[str, ...]:
        """Note what a client on demand asks for; the names that it brings without having asked for them."""
        if event.type in REFERRING:
            working.stale.update(dict.fromkeys((event.type, name) for name in names))
        if event.type is _VIRTUAL_HOST:
            for name in event.names:
                working.asked(name)
        if event.type is _CLUSTER and event.wildcard:
            return self._on_demand.bring(client, working, event.known, self._now)
        return ()

    def _unsubscribe(self, client: Client[T], event: Unsubscribed) -> None:
        type = event.type
        debts = client.debts[type]
        channel = client.stream.channels[type]
        left = set(event.names)
        if event.wildcard:
            left |= self._views.listing(type, client.traits) - channel.names
            self._views.leave(client, type)
            if client.working is not None and type is _CLUSTER:
                self._on_demand.end(client)
                client.working = WorkingSet(self._bounds)
        for name in event.names:
            if name not in channel.owned:
                self._views.unsubscribe(client, type, name)
        if client.working is not None and type in REFERRING:
            client.working.stale.update(dict.fromkeys((type, name) for name in left))
        if client.working is not None and type is _VIRTUAL_HOST:
            for name in event.names:
                client.working.forgotten(name)
        for name in left:
            debts.pending.pop(name, None)
            debts.latest.pop(name, None)
            debts.refused.pop(name, None)
            debts.missing.pop(name, None)
        if channel.wildcard:
            # The client cannot know whether its wildcard holds what it no longer names: it is told.
            debts.pending.update(dict.fromkeys(event.names, self._db.epoch))
        elif client.shelf is not None:
            client.shelf.forget(type, left)
        self._settle(client)

    def _accept(self, client: Client[T], response: Response) -> None:
        debts = client.debts[response.type]
        debts.tally = debts.tally._replace(accepted=debts.tally.accepted + 1)
        debts.last_accepted = Stamp(response.nonce, response.epoch)
        if client.shelf is not None:
            client.shelf.accept(response.type)
        for name in response.names:
            debts.missing.pop(name, None)
            debts.refused.pop(name, None)
        for name in response.removed:
            # What has come back since its removal was sent is missing still.
            if name not in debts.pending:
                debts.missing.pop(name, None)
        if not debts.missing:
            debts.missing = {}
        if self._court.tries(client, response.type):
            self._proceed(self._court.answer(Outcome(accepted=True), response.names))
        self._settle(client)

    def _refuse(self, client: Client[T], response: Response, message: str) -> None:
        debts = client.debts[response.type]
        debts.tally = debts.tally._replace(refused=debts.tally.refused + 1)
        debts.last_refusal = message
        channel = client.stream.channels[response.type]
        # A refused removal is owed again as well, unless it is all that was refused: that client cannot be helped.
        for name in (*response.names, *response.removed) if response.names else ():
            if channel.wildcard or name in channel.names:
                debts.refused.setdefault(name, response.since)
        if self._court.tries(client, response.type):
            self._proceed(self._court.answer(Outcome(accepted=False, message=message), response.names))
        elif self._court.judge is None and response.names:
            epoch = debts.last_accepted.epoch

            def suspects(name: str, words: str) -> Iterator[Sequence[ObjectKey]]:
                return self._suspects(client, response.type, name, epoch, words)

            self._proceed(self._court.open(client, response.type, response.names, message, suspects))
        self._settle(client)

    def _settle(self, client: Client[T]) -> None:
        self._enforcements.settle(client, client.since())

    # --- what is refused -------------------------------------------------------------------------------------

    def _suspects(
        self, client: Client[T], type: ResourceType, name: str, epoch: int, words: str
    ) -> Iterator[Sequence[ObjectKey]]:
        # What was refused, not what a trial has made of it.
        fragment = self._fragment(client, type, name, self._listed(client, type))
        if fragment is not None and self._is_its_own(client, type, name, words):
            return
        origins = sorted(fragment.origins) if fragment is not None else []
        origins.sort(key=self._changed, reverse=True)
        if name not in client.debts[type].missing:
            # The client holds an earlier state of it, so what has not changed since is proven.
            recent = [key for key in origins if self._changed(key) > epoch]
            if recent and len(recent) < len(origins):
                yield recent
        if origins:
            yield origins

    def _proceed(self, next_: Offer | Verdict) -> None:
        court = self._court
        judge, type = court.judge, court.type
        assert judge is not None
        while isinstance(next_, Offer):
            fragments = [(name, self._newest(judge, type, name)) for name in next_.names]
            offered = [(name, fragment) for name, fragment in fragments if fragment is not None]
            if offered:
                self._try(judge, type, offered)
                court.until = self._now + TRIAL_BOUND
                self._wake(type)
                return
            next_ = court.answer(Outcome(accepted=True), next_.names)
        for key, message in next_.convicted.items():
            self._verdicts.convict(key, message)
        for name, message in next_.set_aside.items():
            fragment = self._newest(judge, type, name)
            if fragment is not None:
                own = fragment.local or self._is_its_own(judge, type, name, message)
                aside = judge.aside if own else self._aside
                aside.setdefault((type, name), set()).add(fragment.version)
            self._verdicts.set_aside(type, name, message)
        self._adjourn()

    def _try(self, judge: Client[T], type: ResourceType, offered: list[tuple[str, Fragment]]) -> None:
        debts = judge.debts[type]
        names = tuple(name for name, _ in offered)
        since = min((debts.pending.pop(name, self._db.epoch) for name in names), default=self._db.epoch)
        if judge.shelf is None:
            body = wire.response(type, [wire.resource(type, fragment) for _, fragment in offered], ())
        else:
            entries = [(name, wire.bare(type, fragment)) for name, fragment in offered]
            body = wire.response(type, judge.shelf.offer(type, entries, ()), ())
        self._send(judge, type, names, (), since, body)
        if type is _CLUSTER:
            self._follow_up(judge, [fragment for _, fragment in offered])

    def _adjourn(self) -> None:
        """End the inquiry, and owe again what was refused meanwhile: it is another now, or the next to be tried."""
        self._court.close()
        for client in self._clients:
            for debts in client.debts.values():
                for name, since in debts.refused.items():
                    debts.pending.setdefault(name, since)
                debts.refused = {}
                if debts.pending:
                    self._ready[client] = None

    def _wake(self, type: ResourceType) -> None:
        """Some names may be under suspicion no more."""
        for client in self._clients:
            if type in client.debts and client.debts[type].pending:
                self._ready[client] = None

    def _newest(self, client: Client[T], type: ResourceType, name: str) -> Fragment | None:
        channel = client.stream.channels[type]
        if name in channel.names or name in channel.owned:
            return self._views.newest(type, name, client.traits, listed=False)
        return self._views.newest(type, name, client.traits, listed=True) if channel.wildcard else None

    # --- what is sent ----------------------------------------------------------------------------------------

    def _run(self) -> list[Command]:
        while self._ready:
            ready, self._ready = self._ready, {}
            for client in ready:
                self._serve(client)
        self._bodies.clear()
        commands, self._commands = self._commands, []
        return commands

    def _serve(self, client: Client[T]) -> None:
        self._timers.pop(client, None)
        if client.working is not None:
            self._on_demand.follow(client, client.working, self._now)
            if (until := client.working.deadline()) is not None:
                self._timers[client] = until
        for type in ORDER:
            channel = client.stream.channels.get(type)
            if channel is None or channel.outstanding is not None or self._court.tries(client, type):
                continue
            debts = client.debts.get(type)
            if debts is not None and (debts.pending or debts.answer):
                self._serve_type(client, type, debts)

    def _serve_type(self, client: Client[T], type: ResourceType, debts: Debts) -> None:
        changed: list[Variant[T]] = []
        removed: list[str] = []
        aside: list[str] = []
        since = self._db.epoch
        size = 0
        bound = self._limits.response_bytes if client.shelf is None or type not in WHOLE else None
        if type is _EXTENSION:
            # One at a time: see `refusal.inquire`.
            bound = 0
        listed = self._listed(client, type)
        asked = client.stream.channels[type].names
        # Ten thousand names may be due to each of a thousand clients: what is rare is looked for once.
        inquiring, setting_aside = self._court.judge is not None, bool(self._aside or client.aside)
        find, traits = self._views.find, client.traits
        for name, epoch in debts.pending.items():
            if inquiring and self._court.suspects(type, name):
                continue
            variant = find(type, name, traits) if name in listed or name in asked else None
            fragment = None if variant is None else variant.fragment
            if variant is None or fragment is None:
                # Of what the client never had it is told at once; what it has goes last.
                if name not in debts.missing and not self._is_unused(client, type, debts.latest.get(name, epoch)):
                    continue
                removed.append(name)
            elif setting_aside and self._is_aside(client, type, fragment):
                if not fragment.guards:
                    aside.append(name)
                    continue
                # What the client had before does not protect what this would: it goes, rather than stays.
                removed.append(name)
            elif type in _WAITING and self._must_wait(client, fragment):
                if type is _LISTENER and debts.answer and client.working is not None:
                    # Envoy takes traffic when it has its first listeners. Those of a client in full find their clusters
                    # there; on demand it is they that bring them, and none is to be missing when the first is there.
                    return
                continue
            else:
                size += len(fragment.body)
                if bound is not None and changed and size > bound:
                    # The rest goes when this has been accepted.
                    break
                changed.append(variant)
            since = min(since, epoch)
        for name in aside:
            del debts.pending[name]
        if changed or removed or (debts.answer and not debts.pending):
            self._respond(client, type, changed, removed, since)
        elif aside:
            self._settle(client)

    def _respond(
        self, client: Client[T], type: ResourceType, changed: list[Variant[T]], removed: list[str], since: int
    ) -> None:
        debts = client.debts[type]
        names = tuple([variant.topic.name for variant in changed])
        for name in (*names, *removed):
            del debts.pending[name]
            debts.latest.pop(name, None)
        if not debts.pending:
            # A dict that has been large stays large, for every stream.
            debts.pending = {}
        if client.shelf is None:
            body = self._joined(type, changed, removed, debts.missing)
        else:
            if type not in WHOLE and not changed and not debts.answer and debts.missing.keys().isdisjoint(removed):
                # What is no more has no word of its own in state of the world.
                self._settle(client)
                return
            entries = zip(names, (variant.bare for variant in changed), strict=True)
            body = wire.response(type, client.shelf.offer(type, entries, removed), ())
        debts.answer = False
        self._send(client, type, names, tuple(removed), since, body)
        if type is _CLUSTER:
            self._follow_up(client, [variant.fragment for variant in changed])

    def _joined(
        self, type: ResourceType, changed: list[Variant[T]], removed: list[str], missing: Container[str]
    ) -> bytes:
        """A delta response; what many streams get alike is joined once a round."""
        entries = [variant.encoded for variant in changed]
        if type is _VIRTUAL_HOST:
            # Of these a client is told that they are not there.
            absent = [name for name in removed if name in missing]
            entries += map(wire.absent, absent)
            return wire.response(type, entries, [name for name in removed if name not in missing])
        key = (type, *map(id, changed), *removed)
        body = self._bodies.get(key)
        if body is None:
            body = self._bodies[key] = wire.response(type, entries, removed)
        return body

    def _send(
        self,
        client: Client[T],
        type: ResourceType,
        names: tuple[str, ...],
        removed: tuple[str, ...],
        since: int,
        body: bytes,
    ) -> None:
        debts = client.debts[type]
        response = client.stream.respond(type, names, removed, since, self._db.epoch)
        debts.tally = debts.tally._replace(sent=debts.tally.sent + 1)
        debts.last_sent = Stamp(response.nonce, response.epoch)
        version = b"" if client.shelf is None else wire.version(body)
        self._commands.append(Send(client, body, version + wire.nonce(response.nonce)))

    def _follow_up(self, client: Client[T], clusters: Iterable[Fragment | None]) -> None:
        """Owe the endpoints of the clusters that were just sent."""
        channel = client.stream.channels.get(_ENDPOINTS)
        asked: set[str] = channel.names if channel is not None else set()
        for name in _endpoints_of(clusters):
            if name in asked:
                client.debts[_ENDPOINTS].pending.setdefault(name, self._db.epoch)
                self._ready[client] = None
                continue
            client.awaited[name] = self._now
            if client.returned is not None:
                client.renewed.add(name)

    def _must_wait(self, client: Client[T], fragment: Fragment) -> bool:
        clusters = client.debts.get(_CLUSTER)
        if clusters is None:
            return False
        endpoints = client.debts.get(_ENDPOINTS)
        unready = endpoints.missing if endpoints is not None else {}
        if not clusters.missing and not unready and not client.awaited:
            return False
        listed = self._listed(client, _CLUSTER)
        for type, name in fragment.references:
            cluster = self._fragment(client, _CLUSTER, name, listed) if type is _CLUSTER else None
            if cluster is None or self._is_aside(client, _CLUSTER, cluster):
                continue
            if name in clusters.missing:
                return True
            for needed in _endpoints_of((cluster,)):
                since = unready.get(needed, client.awaited.get(needed))
                until = self._now if since is None else since + ENDPOINTS_BOUND
                if until > self._now:
                    self._timers[client] = min(until, self._timers.get(client, until))
                    return True
        return False

    def _is_unused(self, client: Client[T], type: ResourceType, epoch: int) -> bool:
        """Whether all that may use this type, and changed no later than `epoch`, has been accepted."""
        if self._court.judge is not None:
            # A change of what uses it may be put off by the inquiry, and would not be seen here.
            return False
        if _USERS[type] and client.returned is not None:
            # It has not said yet what else it brings, which may use what is gone and be about to change.
            until = client.returned + RETURN_BOUND
            if until > self._now:
                self._timers[client] = min(until, self._timers.get(client, until))
                return False
        for user in _USERS[type]:
            debts = client.debts.get(user)
            if debts is not None:
                since = debts.since(client.stream.channels[user].outstanding)
                if since is not None and since <= epoch:
                    return False
        return True

    def _is_aside(self, client: Client[T], type: ResourceType, fragment: Fragment) -> bool:
        key = (type, fragment.name)
        return any(fragment.version in aside.get(key, ()) for aside in (self._aside, client.aside) if aside)

    def _is_its_own(self, judge: Client[T], type: ResourceType, name: str, words: str) -> bool:
        """Whether a refusal is the judge's own affair: another client has taken the very same (the judge's port is
        taken, say), or it lacks a file that another client may have."""
        return self._is_proven(judge, type, name) or (is_about_a_file(words) and self._may_be_taken(judge, type, name))

    def _may_be_taken(self, judge: Client[T], type: ResourceType, name: str) -> bool:
        """Whether another client is to hold this as well, and has not refused it."""
        for client in self._clients:
            if client is not judge and type in client.stream.channels:
                fragment = self._fragment(client, type, name, self._listed(client, type))
                if fragment is not None and fragment.guards and not self._is_aside(client, type, fragment):
                    return True
        return False

    def _is_proven(self, judge: Client[T], type: ResourceType, name: str) -> bool:
        """Whether another client has accepted exactly what the judge is to be sent."""
        variant = self._visible(judge, type, name, self._listed(judge, type))
        for client in self._clients:
            channel = client.stream.channels.get(type)
            if client is judge or channel is None:
                continue
            debts = client.debts[type]
            asked = channel.outstanding is not None and name in channel.outstanding.names
            if asked or name in debts.pending or name in debts.missing or name in debts.refused:
                continue
            if variant is not None and self._visible(client, type, name, self._listed(client, type)) is variant:
                return True
        return False

    def _listed(self, client: Client[T], type: ResourceType) -> frozenset[str]:
        return listed(self._views, client, type)

    def _visible(self, client: Client[T], type: ResourceType, name: str, listed: frozenset[str]) -> Variant[T] | None:
        return visible(self._views, client, type, name, listed)

    def _fragment(self, client: Client[T], type: ResourceType, name: str, listed: frozenset[str]) -> Fragment | None:
        variant = self._visible(client, type, name, listed)
        return None if variant is None else variant.fragment


def _endpoints_of(clusters: Iterable[Fragment | None]) -> Iterator[str]:
    for cluster in clusters:
        for type, name in cluster.references if cluster is not None else ():
            if type is _ENDPOINTS:
                yield name
