"""What exists, for whom, and who must hear when it changes: the streams' common view of the engine.

Streams with equal traits are one *party*. A resource that somebody subscribes to is a *topic*; it has as many
*variants* as its scope tells the topic's parties apart, mostly one. What a wildcard stands for is a *listing*, shared
by all parties whose traits the listing does not tell apart; listings that hold the same names share one *group*, so
that a thousand proxies that see the same ten thousand names are one link from each of these.

    party (traits) --listing: group of names, or a name--> topic --scope.project(traits)--> variant --> fragment

So the engine is watched once a variant and never once a stream, and a change costs the streams that receive it (and,
where a resource does tell clients apart, one projection for each of the topic's parties).

A view holds the values that were applied last, not the engine's newest: while a refusal is being inquired into, the
engine computes trial values that nobody but the judge may see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ostria.engine import Engine, Query, Watch
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.xds import wire
from ostria.xds.protocol import WILDCARD

T = TypeVar("T")


class Scope(Protocol[T]):
    """What tells clients apart for one resource."""

    def project(self, traits: T) -> T:
        """The traits with everything dropped that this resource does not tell apart."""
        ...


class Catalogue(NamedTuple, Generic[T]):
    """The queries that hold all generated resources; T is the clients' traits, frozen and opaque here.

    `names`: all names of a type that a client sees, for wildcards. `scope`: a `Scope[T]` for one resource, or with the
    name "*" for the listing of the type. `fragment`: one resource for projected traits, or None where there is none.
    """

    names: Query[[ResourceType, T], tuple[str, ...]]
    # A query's result type is invariant, and every mesh has its own Scope class: hence not Scope[T].
    scope: Query[[ResourceType, str], Any]
    fragment: Query[[ResourceType, str, T], Fragment | None]


class Subscriber(Generic[T]):
    """One who hears of changes. `traits` change by `Views.move` only."""

    __slots__ = ("traits",)

    def __init__(self, traits: T) -> None:
        self.traits = traits


# Ordered by arrival, so that the same conversation always gives the same answers in the same order.
Party = dict[Subscriber[T], None]
Parties = dict[Any, Party[T]]
Key = tuple[ResourceType, str]


class Variant(Generic[T]):
    """One resource as the parties see it whose traits project alike."""

    __slots__ = ("_bare", "_encoded", "fragment", "holders", "topic", "traits", "watch")

    def __init__(self, topic: Topic[T], traits: T, watch: Watch[Fragment | None]) -> None:
        self.topic = topic
        self.traits = traits
        self.watch = watch
        self.fragment = watch.value
        self.holders = 0
        self._encoded: bytes | None = None
        self._bare: bytes | None = None

    def apply(self) -> Fragment | None:
        """Take over the engine's value; returns the one before."""
        before, self.fragment = self.fragment, self.watch.value
        self._encoded = self._bare = None
        return before

    @property
    def encoded(self) -> bytes:
        """The fragment as an entry of a response; there must be one."""
        if self._encoded is None:
            assert self.fragment is not None
            self._encoded = wire.resource(self.topic.type, self.fragment)
        return self._encoded

    @property
    def bare(self) -> bytes:
        """The same as an entry of a state-of-the-world response."""
        if self._bare is None:
            assert self.fragment is not None
            self._bare = wire.bare(self.topic.type, self.fragment)
        return self._bare


class Topic(Generic[T]):
    """One resource that somebody wants, by name (`parties`) or within groups."""

    __slots__ = ("groups", "name", "parties", "scope", "sole", "type", "variants", "watch")

    def __init__(self, type: ResourceType, name: str, watch: Watch[Scope[T]]) -> None:
        self.type = type
        self.name = name
        self.watch = watch
        self.scope = watch.value
        self.variants: dict[Any, Variant[T]] = {}
        self.sole: Variant[T] | None = None
        self.groups: dict[Group[T], None] = {}
        self.parties: Parties[T] = {}

    def everyone(self) -> Iterator[tuple[T, Party[T]]]:
        """Each hold on a variant: its traits, and the streams behind it."""
        yield from self.parties.items()
        for group in self.groups:
            yield from group.parties.items()

    def variant(self, traits: T) -> Variant[T] | None:
        """What a party that holds this topic sees of it."""
        # Where there is but one, the party's own variant is among them, so this is it.
        return self.sole or self.variants.get(self.scope.project(traits))


class Group(Generic[T]):
    """A set of names, and the parties for whom a wildcard stands for just these."""

    __slots__ = ("names", "parties", "type")

    def __init__(self, type: ResourceType, names: frozenset[str]) -> None:
        self.type = type
        self.names = names
        self.parties: Parties[T] = {}


class Listing(Generic[T]):
    """What a wildcard of a type stands for, for all parties that it does not tell apart."""

    __slots__ = ("group", "ordered", "parties", "traits", "type", "watch")

    def __init__(self, type: ResourceType, traits: T, watch: Watch[tuple[str, ...]], group: Group[T]) -> None:
        self.type = type
        self.traits = traits
        self.watch = watch
        self.ordered = watch.value
        self.group = group
        self.parties: Parties[T] = {}


class _Root(Generic[T]):
    """All listings of a type, and what tells their parties apart."""

    __slots__ = ("listings", "scope", "type", "watch")

    def __init__(self, type: ResourceType, watch: Watch[Scope[T]]) -> None:
        self.type = type
        self.watch = watch
        self.scope = watch.value
        self.listings: dict[Any, Listing[T]] = {}


# Tells a subscriber that a resource it sees is another now; the last argument says that it has just come to be.
Tell = Callable[[Any, ResourceType, str, bool], None]

# A listing is settled before the scopes of what it lists, and those before the fragments; within, by type and name, so
# that what is sent does not depend on the order in which the engine found it.
_ORDER: tuple[type, ...] = (_Root, Listing, Topic, Variant)


class Views(Generic[T]):
    """All topics and listings that live; each lives as long as somebody wants it."""

    def __init__(self, db: Engine, catalogue: Catalogue[T], tell: Tell) -> None:
        self._db = db
        self._catalogue = catalogue
        self._tell = tell
        self._topics: dict[ResourceType, dict[str, Topic[T]]] = {type: {} for type in ResourceType}
        self._groups: dict[ResourceType, dict[frozenset[str], Group[T]]] = {type: {} for type in ResourceType}
        self._roots: dict[ResourceType, _Root[T]] = {}
        self._roles: dict[Watch[Any], _Root[T] | Listing[T] | Topic[T] | Variant[T]] = {}

    # --- asking ----------------------------------------------------------------------------------------------

    def listing(self, type: ResourceType, traits: T) -> frozenset[str]:
        """The names that the wildcard of a party that has joined stands for."""
        root = self._roots[type]
        return root.listings[root.scope.project(traits)].group.names

    def ordered(self, type: ResourceType, traits: T) -> tuple[str, ...]:
        """The same names, in the catalogue's order."""
        root = self._roots[type]
        return root.listings[root.scope.project(traits)].ordered

    def find(self, type: ResourceType, name: str, traits: T) -> Variant[T] | None:
        """The variant of a topic that the party wants, by name or by a listing that holds it."""
        topic = self._topics[type].get(name)
        return None if topic is None else topic.variant(traits)

    def newest(self, type: ResourceType, name: str, traits: T, *, listed: bool) -> Fragment | None:
        """The engine's newest value, applied or not; with `listed` only if the party's listing holds the name."""
        db, catalogue = self._db, self._catalogue
        if listed and name not in catalogue.names(db, type, catalogue.scope(db, type, WILDCARD).project(traits)):
            return None
        return catalogue.fragment(db, type, name, catalogue.scope(db, type, name).project(traits))

    # --- subscribing -----------------------------------------------------------------------------------------

    def subscribe(self, who: Subscriber[T], type: ResourceType, name: str) -> None:
        """Want one name, whether it exists or not."""
        self._subscribe(who, who.traits, type, name)

    def unsubscribe(self, who: Subscriber[T], type: ResourceType, name: str) -> None:
        """Want it no more."""
        self._unsubscribe(who, who.traits, type, name)

    def join(self, who: Subscriber[T], type: ResourceType) -> None:
        """Want everything of a type."""
        self._join(who, who.traits, type)

    def leave(self, who: Subscriber[T], type: ResourceType) -> None:
        """No longer want everything of a type."""
        self._leave(who, who.traits, type)

    def move(self, who: Subscriber[T], traits: T, names: Collection[Key], wildcards: Collection[ResourceType]) -> None:
        """Give a subscriber other traits; it hears of every resource that this makes another to it.

        `names` and `wildcards` are what it is subscribed to.
        """
        old = who.traits
        before = self._versions(old, names, wildcards)
        # The new place is taken before the old one is given up, so that what both share is not forgotten between.
        for type in wildcards:
            self._join(who, traits, type)
        for type, name in names:
            self._subscribe(who, traits, type, name)
        after = self._versions(traits, names, wildcards)
        for type in wildcards:
            self._leave(who, old, type)
        for type, name in names:
            self._unsubscribe(who, old, type, name)
        who.traits = traits
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                self._tell(who, *key, before.get(key) is None)

    def _subscribe(self, who: Subscriber[T], traits: T, type: ResourceType, name: str) -> None:
        topic = self._topic(type, name)
        party = topic.parties.get(traits)
        if party is None:
            party = topic.parties[traits] = {}
            self._hold(topic, traits)
        party[who] = None

    def _unsubscribe(self, who: Subscriber[T], traits: T, type: ResourceType, name: str) -> None:
        topic = self._topics[type][name]
        party = topic.parties[traits]
        del party[who]
        if not party:
            del topic.parties[traits]
            self._release(topic, traits)

    def _join(self, who: Subscriber[T], traits: T, type: ResourceType) -> None:
        root = self._roots.get(type)
        if root is None:
            watch: Watch[Scope[T]] = self._db.watch(self._catalogue.scope, type, WILDCARD)
            root = self._roots[type] = _Root(type, watch)
            self._roles[watch] = root
        self._enter(root, traits)[who] = None

    def _leave(self, who: Subscriber[T], traits: T, type: ResourceType) -> None:
        root = self._roots[type]
        listing = root.listings[root.scope.project(traits)]
        party = listing.parties[traits]
        del party[who]
        if not party:
            self._exit(root, listing, traits)
        if not root.listings:
            del self._roots[type], self._roles[root.watch]
            self._db.unwatch(root.watch)

    # --- changes ---------------------------------------------------------------------------------------------

    def apply(self, watches: Iterable[Watch[Any]]) -> None:
        """Take over the engine's values of these watches and tell whom it concerns; others' watches are passed over."""
        roles = [role for watch in watches if (role := self._roles.get(watch)) is not None]
        for role in sorted(roles, key=_rank):
            # An earlier one of this very round may have let go of it.
            if self._roles.get(role.watch) is not role:
                continue
            if isinstance(role, Variant):
                self._apply_variant(role)
            elif isinstance(role, Topic):
                self._apply_scope(role)
            elif isinstance(role, Listing):
                self._apply_listing(role)
            else:
                self._apply_root(role)

    def _apply_variant(self, variant: Variant[T]) -> None:
        before = variant.apply()
        after = variant.fragment
        if before is not None and after is not None and before.version == after.version:
            return
        topic = variant.topic
        for traits, streams in topic.everyone():
            if topic.variant(traits) is variant:
                self._tell_all(streams, topic, appeared=before is None)

    def _apply_scope(self, topic: Topic[T]) -> None:
        before, old = topic.scope, dict(topic.variants)
        moved: list[tuple[T, Party[T]]] = []
        topic.scope = topic.watch.value
        for traits, streams in topic.everyone():
            if before.project(traits) != topic.scope.project(traits):
                self._hold(topic, traits)
                moved.append((traits, streams))
        for traits, streams in moved:
            left = old[before.project(traits)]
            entered = topic.variants[topic.scope.project(traits)]
            if _version(left.fragment) != _version(entered.fragment):
                self._tell_all(streams, topic, appeared=left.fragment is None)
        for traits, _ in moved:
            self._let_go(topic, old[before.project(traits)])

    def _apply_listing(self, listing: Listing[T]) -> None:
        before = listing.group
        listing.ordered = listing.watch.value
        after = listing.group = self._group(listing.type, listing.ordered)
        if before is after:
            return
        topics = self._topics[listing.type]
        for traits, streams in listing.parties.items():
            after.parties[traits] = before.parties.pop(traits)
            for name in sorted(after.names - before.names):
                if self._hold(topics[name], traits).fragment is not None:
                    self._tell_all(streams, topics[name], appeared=True)
            for name in sorted(before.names - after.names):
                self._tell_all(streams, topics[name], appeared=False)
        self._dissolve(before)
        for traits in listing.parties:
            for name in before.names - after.names:
                self._release(topics[name], traits)

    def _apply_root(self, root: _Root[T]) -> None:
        before, root.scope = root.scope, root.watch.value
        homes = [(listing, traits) for listing in root.listings.values() for traits in listing.parties]
        moved = [home for home in homes if before.project(home[1]) != root.scope.project(home[1])]
        # All homes are left by the old rule before any is entered by the new one: both rules share one table. What is
        # entered is made anew from the engine's newest values, so it is compared with what was seen before.
        left = [
            (traits, listing.parties[traits], self._seen(root.type, listing.group.names, traits))
            for listing, traits in moved
        ]
        for listing, traits in moved:
            self._exit(root, listing, traits)
        for traits, streams, seen in left:
            self._enter(root, traits).update(streams)
            now = self._seen(root.type, root.listings[root.scope.project(traits)].group.names, traits)
            for name in sorted(seen.keys() | now.keys()):
                if seen.get(name) != now.get(name):
                    for stream in streams:
                        self._tell(stream, root.type, name, seen.get(name) is None)

    def _seen(self, type: ResourceType, names: Iterable[str], traits: T) -> dict[str, str | None]:
        variants = ((name, self.find(type, name, traits)) for name in names)
        return {name: _version(variant.fragment) for name, variant in variants if variant is not None}

    def _tell_all(self, streams: Iterable[Subscriber[T]], topic: Topic[T], *, appeared: bool) -> None:
        for stream in streams:
            self._tell(stream, topic.type, topic.name, appeared)

    # --- holding ---------------------------------------------------------------------------------------------

    def _enter(self, root: _Root[T], traits: T) -> Party[T]:
        projected = root.scope.project(traits)
        listing = root.listings.get(projected)
        if listing is None:
            watch = self._db.watch(self._catalogue.names, root.type, projected)
            listing = Listing(root.type, projected, watch, self._group(root.type, watch.value))
            root.listings[projected] = listing
            self._roles[watch] = listing
        party = listing.parties.get(traits)
        if party is None:
            party = listing.parties[traits] = listing.group.parties[traits] = {}
            topics = self._topics[root.type]
            for name in listing.group.names:
                self._hold(topics[name], traits)
        return party

    def _exit(self, root: _Root[T], listing: Listing[T], traits: T) -> None:
        group = listing.group
        del listing.parties[traits], group.parties[traits]
        self._dissolve(group)
        topics = self._topics[root.type]
        for name in group.names:
            self._release(topics[name], traits)
        if not listing.parties:
            del root.listings[listing.traits], self._roles[listing.watch]
            self._db.unwatch(listing.watch)

    def _group(self, type: ResourceType, ordered: tuple[str, ...]) -> Group[T]:
        """The group of these names; whoever asks puts a party into it."""
        names = frozenset(ordered)
        group = self._groups[type].get(names)
        if group is None:
            group = self._groups[type][names] = Group(type, names)
            for name in names:
                self._topic(type, name).groups[group] = None
        return group

    def _dissolve(self, group: Group[T]) -> None:
        """Let a group without parties go."""
        if not group.parties:
            del self._groups[group.type][group.names]
            topics = self._topics[group.type]
            for name in group.names:
                del topics[name].groups[group]

    def _topic(self, type: ResourceType, name: str) -> Topic[T]:
        topics = self._topics[type]
        topic = topics.get(name)
        if topic is None:
            watch: Watch[Scope[T]] = self._db.watch(self._catalogue.scope, type, name)
            topic = topics[name] = Topic(type, name, watch)
            self._roles[watch] = topic
        return topic

    def _hold(self, topic: Topic[T], traits: T) -> Variant[T]:
        projected = topic.scope.project(traits)
        variant = topic.variants.get(projected)
        if variant is None:
            watch = self._db.watch(self._catalogue.fragment, topic.type, topic.name, projected)
            variant = topic.variants[projected] = Variant(topic, projected, watch)
            self._roles[watch] = variant
            topic.sole = variant if len(topic.variants) == 1 else None
        variant.holders += 1
        return variant

    def _release(self, topic: Topic[T], traits: T) -> None:
        self._let_go(topic, topic.variants[topic.scope.project(traits)])

    def _let_go(self, topic: Topic[T], variant: Variant[T]) -> None:
        variant.holders -= 1
        if variant.holders == 0:
            del topic.variants[variant.traits], self._roles[variant.watch]
            topic.sole = next(iter(topic.variants.values())) if len(topic.variants) == 1 else None
            self._db.unwatch(variant.watch)
        if not topic.variants:
            del self._topics[topic.type][topic.name], self._roles[topic.watch]
            self._db.unwatch(topic.watch)

    def _versions(self, traits: T, names: Iterable[Key], wildcards: Iterable[ResourceType]) -> dict[Key, str | None]:
        wanted: dict[ResourceType, set[str]] = {type: set(self.listing(type, traits)) for type in wildcards}
        for type, name in names:
            wanted.setdefault(type, set()).add(name)
        return {
            (type, name): version
            for type, found in wanted.items()
            for name, version in self._seen(type, found, traits).items()
        }


def _rank(role: _Root[Any] | Listing[Any] | Topic[Any] | Variant[Any]) -> tuple[int, str, str]:
    topic = role.topic if isinstance(role, Variant) else role
    return _ORDER.index(type(role)), topic.type, topic.name if isinstance(topic, Topic) else ""


def _version(fragment: Fragment | None) -> str | None:
    return None if fragment is None else fragment.version
