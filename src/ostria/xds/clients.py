"""What delivery remembers of one stream: its traits, its protocol state, and what it is owed."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from ostria.engine import Watch
from ostria.envoy.fragments import ResourceType
from ostria.xds.protocol import Limits, Response, Stream
from ostria.xds.shelf import Shelf
from ostria.xds.views import Key, Subscriber
from ostria.xds.working_set import WorkingSet

T = TypeVar("T")


class Debts:
    """What one client is owed of one type.

    `pending`: names to be sent or removed, with the epoch since when; `latest`: the last epoch that touched one of
    them, if that is another. `missing`: names that the client does not hold, with the time since when. `refused`: what
    it has refused, until that is resolved, with the epoch since when.
    `answer`: the client waits for an answer, if with nothing in it.
    """

    __slots__ = (
        "answer",
        "last_accepted",
        "last_refusal",
        "last_sent",
        "latest",
        "missing",
        "pending",
        "refused",
        "tally",
    )

    def __init__(self) -> None:
        self.pending: dict[str, int] = {}
        self.latest: dict[str, int] = {}
        self.missing: dict[str, float] = {}
        self.refused: dict[str, int] = {}
        self.answer = False
        self.last_sent = self.last_accepted = Stamp("", 0)
        self.last_refusal = ""
        self.tally = Tally(0, 0, 0)

    def since(self, outstanding: Response | None) -> int | None:
        """The oldest epoch that the client has not accepted all of, if any."""
        ages = [*self.pending.values(), *self.refused.values()]
        if outstanding is not None:
            ages.append(outstanding.since)
        return min(ages, default=None)


class Client(Subscriber[T]):
    """One stream. `name` is for people (the node's id), `returned` when the client began to say what it
    brings from an earlier stream, if it does.

    `renewed` are endpoints whose cluster was sent on this stream before they were asked for: they are sent even if the
    client brings their present version, since a changed cluster does not take them over. `aside` are versions that this
    client alone refuses. `awaited` are endpoints of clusters that were sent, which the client will ask for at once,
    with the time since when. `shelf` is there for state-of-the-world clients, `working` for clients on demand.
    """

    __slots__ = (
        "aside",
        "awaited",
        "debts",
        "name",
        "renewed",
        "returned",
        "shelf",
        "stream",
        "traits_watch",
        "unserved",
        "working",
    )

    def __init__(
        self, name: str, traits_watch: Watch[T | None], traits: T, limits: Limits, *, whole: bool = False
    ) -> None:
        super().__init__(traits)
        self.name = name
        self.traits_watch = traits_watch
        self.stream = Stream(limits)
        self.debts: dict[ResourceType, Debts] = {}
        self.returned: float | None = None
        self.renewed: set[str] = set()
        self.awaited: dict[str, float] = {}
        self.aside: dict[Key, set[str]] = {}
        self.working: WorkingSet | None = None
        self.shelf = Shelf() if whole else None
        self.unserved: set[str] = set()

    def since(self) -> int | None:
        """The oldest epoch of which the client has not accepted everything."""
        channels = self.stream.channels
        ages = (debts.since(channels[type].outstanding) for type, debts in self.debts.items())
        return min((age for age in ages if age is not None), default=None)


class Stamp(NamedTuple):
    """One response, by its nonce, and the epoch it was made in."""

    nonce: str
    epoch: int


class Tally(NamedTuple):
    """Responses so far."""

    sent: int
    accepted: int
    refused: int


class ChannelStatistics(NamedTuple):
    """One type on one stream. `outstanding` is the nonce that waits for its answer, or ""."""

    wildcard: bool
    subscribed: int
    pending: int
    outstanding: str
    last_sent: Stamp
    last_accepted: Stamp
    last_refusal: str
    tally: Tally


class ClientStatistics(NamedTuple):
    """One stream; `synced` if it owes no answer and is owed nothing, `whole` if it speaks state of the world."""

    name: str
    traits: Any
    synced: bool
    stale_nonces: int
    unserved: tuple[str, ...]
    channels: dict[ResourceType, ChannelStatistics]
    whole: bool = False


def statistics(client: Client[Any]) -> ClientStatistics:
    """A snapshot."""
    channels = {}
    for type, channel in client.stream.channels.items():
        debts = client.debts.get(type) or Debts()
        channels[type] = ChannelStatistics(
            channel.wildcard,
            len(channel.names),
            len(debts.pending) + len(debts.refused),
            channel.outstanding.nonce if channel.outstanding else "",
            debts.last_sent,
            debts.last_accepted,
            debts.last_refusal,
            debts.tally,
        )
    return ClientStatistics(
        client.name,
        client.traits,
        client.since() is None,
        client.stream.stale,
        tuple(sorted(client.unserved)),
        channels,
        client.shelf is not None,
    )
