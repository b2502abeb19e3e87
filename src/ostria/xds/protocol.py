"""The state machine of one ADS stream: requests in, events out; what to send is decided elsewhere.

It knows, for each resource type, what the client subscribes to and which response it has yet to answer. The rules are
those of https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol:

* The first request of a type that names nothing subscribes to everything, for CDS and LDS ("legacy wildcard"); the name
  "*" does so at any time. A wildcard ends only by unsubscribing from "*".
* A name may be subscribed beside the wildcard. Subscribing, even again, asks for the resource to be sent.
* A response is answered by its nonce: without error it is accepted, with one refused. Any other nonce is stale and
  says nothing; the (un)subscriptions beside it count all the same.
* At most one response of a type waits for its answer; that is this house's own rule, and `respond` holds it.

    Request, WholeRequest --receive()--> Subscribed | Unsubscribed | Accepted | Refused | Unserved | Violated
    respond(names) --> Response (with its nonce)

Only the requests tell delta from state of the world: a `WholeRequest`, whose names replace the earlier ones, turns into
subscriptions by the difference of two sets. Two rules are its own: without names it stands for everything only until a
request of the type has named something, and one with a stale nonce says nothing at all, since the client repeats all
its names with its next answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ostria.envoy.fragments import ResourceType
from ostria.xds.callers import Node

WILDCARD = "*"
_LEGACY_WILDCARD = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})


class Limits(NamedTuple):
    """What one stream may ask of us.

    `names`: explicit subscriptions of all types together; `name_bytes`: the length of one name; `request_bytes`: one
    request; `response_bytes`: where a response is cut and the rest sent after its answer (gRPC's own clients, and so
    Envoy's google_grpc, take 4 MiB); `queue`: responses that wait for the transport.
    """

    names: int = 50_000
    name_bytes: int = 1_024
    request_bytes: int = 16 << 20
    response_bytes: int = 3 << 20
    queue: int = 16


class Request(NamedTuple):
    """One delta request. `known` are the versions a client brings from an earlier stream, by name."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    known: Mapping[str, str] = {}
    nonce: str = ""
    error: str | None = None
    node: Node | None = None


class WholeRequest(NamedTuple):
    """One state-of-the-world request: `names` are all that the client now wants of the type."""

    type_url: str
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str | None = None
    node: Node | None = None


class Response(NamedTuple):
    """One response that waits for its answer: what it brings, what it takes away.

    `since` is the oldest epoch, `epoch` the newest, whose changes it holds.
    """

    nonce: str
    type: ResourceType
    names: tuple[str, ...]
    removed: tuple[str, ...]
    since: int
    epoch: int


class Subscribed(NamedTuple):
    """The client wants these names (and everything, if `wildcard`); `first` for the type's first request.

    `known` holds versions in a first request only.
    """

    type: ResourceType
    names: tuple[str, ...]
    wildcard: bool
    first: bool
    known: Mapping[str, str]


class Unsubscribed(NamedTuple):
    """The client no longer wants these names (or everything, if `wildcard`)."""

    type: ResourceType
    names: tuple[str, ...]
    wildcard: bool


class Accepted(NamedTuple):
    """The client has applied a response."""

    response: Response


class Refused(NamedTuple):
    """The client has refused a response; which of its resources are to blame only the message may tell."""

    response: Response
    message: str


class Unserved(NamedTuple):
    """The client asks for a type that nobody here makes; it gets no answer."""

    type_url: str


class Violated(NamedTuple):
    """The client asks for more than it may: the stream is to end."""

    message: str


Event = Subscribed | Unsubscribed | Accepted | Refused | Unserved | Violated


class Channel:
    """One type on one stream. `nonce` is that of the last response, `named` whether a request has named something.

    `owned` are names that the server has subscribed the client to, which takes them for parts of its wildcard.
    """

    __slots__ = ("named", "names", "nonce", "outstanding", "owned", "wildcard")

    def __init__(self) -> None:
        self.wildcard = False
        self.named = False
        self.names: set[str] = set()
        self.owned: set[str] = set()
        self.nonce = ""
        self.outstanding: Response | None = None


class Stream:
    """The protocol's side of one stream."""

    __slots__ = ("_limits", "_nonce", "_subscriptions", "channels", "stale")

    def __init__(self, limits: Limits) -> None:
        self.channels: dict[ResourceType, Channel] = {}
        self.stale = 0
        self._limits = limits
        self._nonce = 0
        self._subscriptions = 0

    def receive(self, request: Request | WholeRequest) -> list[Event]:
        """Take one request; the events are in the order in which they are to be acted on."""
        try:
            type = ResourceType(request.type_url)
        except ValueError:
            return [Unserved(request.type_url)]
        channel = self.channels.get(type)
        if isinstance(request, WholeRequest):
            if channel is not None and request.nonce != channel.nonce:
                self.stale += 1
                return []
            request = _difference(channel, request)
        if violation := self._violation(channel, request):
            return [violation]
        first = channel is None
        if channel is None:
            channel = self.channels[type] = Channel()
        channel.named = channel.named or bool(request.subscribe)
        events = self._answer(channel, request) if request.nonce else []
        events += self._unsubscribe(type, channel, request)
        events += self._subscribe(type, channel, request, first=first)
        return events

    def respond(
        self, type: ResourceType, names: tuple[str, ...], removed: tuple[str, ...], since: int, epoch: int
    ) -> Response:
        """Open a response; until it is answered there is no other of its type."""
        channel = self.channels[type]
        assert channel.outstanding is None, f"a response of {type} is still unanswered"
        self._nonce += 1
        channel.nonce = str(self._nonce)
        channel.outstanding = Response(channel.nonce, type, names, removed, since, epoch)
        return channel.outstanding

    def release(self, type: ResourceType, name: str) -> None:
        """Forget that the client has subscribed to a name; it asks again when it needs it again."""
        self.channels[type].names.discard(name)
        self._subscriptions -= 1

    def _violation(self, channel: Channel | None, request: Request) -> Violated | None:
        limits = self._limits
        if any(len(name) > limits.name_bytes for name in request.subscribe):
            return Violated(f"a resource name longer than {limits.name_bytes} bytes")
        known = channel.names if channel is not None else set()
        if self._subscriptions + len(set(request.subscribe) - known) > limits.names:
            return Violated(f"more than {limits.names} subscriptions on one stream")
        if len(request.known) > limits.names:
            return Violated(f"more than {limits.names} initial resource versions")
        return None

    def _answer(self, channel: Channel, request: Request) -> list[Event]:
        response = channel.outstanding
        if response is None or response.nonce != request.nonce:
            self.stale += 1
            return []
        channel.outstanding = None
        return [Accepted(response) if request.error is None else Refused(response, request.error)]

    def _unsubscribe(self, type: ResourceType, channel: Channel, request: Request) -> list[Event]:
        gone = tuple(name for name in request.unsubscribe if name in channel.names)
        wildcard = WILDCARD in request.unsubscribe and channel.wildcard
        if not gone and not wildcard:
            return []
        channel.names.difference_update(gone)
        channel.wildcard = channel.wildcard and not wildcard
        self._subscriptions -= len(gone)
        return [Unsubscribed(type, gone, wildcard)]

    def _subscribe(self, type: ResourceType, channel: Channel, request: Request, *, first: bool) -> list[Event]:
        legacy = first and not request.subscribe and not request.unsubscribe and type in _LEGACY_WILDCARD
        wildcard = (legacy or WILDCARD in request.subscribe) and not channel.wildcard
        names = tuple(dict.fromkeys(name for name in request.subscribe if name != WILDCARD))
        if not names and not wildcard:
            return []
        before = len(channel.names)
        channel.names.update(names)
        channel.wildcard = channel.wildcard or wildcard
        self._subscriptions += len(channel.names) - before
        return [Subscribed(type, names, wildcard, first, request.known if first else {})]


def _difference(channel: Channel | None, request: WholeRequest) -> Request:
    """The delta request that a state-of-the-world request comes to."""
    url, names = request.type_url, dict.fromkeys(request.names)
    if channel is None:
        # A nonce is of the stream that it was sent on, so a first request answers nothing.
        return Request(url, tuple(names), node=request.node)
    held = channel.names | ({WILDCARD} if channel.wildcard else set())
    if not names and not channel.named:
        names = dict.fromkeys(held)
    return Request(
        url,
        tuple(name for name in names if name not in held),
        tuple(sorted(held - names.keys())),
        nonce=request.nonce if channel.outstanding is not None else "",
        error=request.error,
        node=request.node,
    )
