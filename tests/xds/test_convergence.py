"""Laws: whatever happens in whatever order, every client ends with the catalogue, and nothing is sent before its time.

The client is a model of Envoy: it subscribes to clusters and listeners, to the endpoints of the clusters it is sent and
to the routes of its listeners; it answers when the test lets it, refuses what it cannot take, and returns with what it
has after a broken stream. It speaks delta or state of the world.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles.catalogue import CATALOGUE, FakeStore, Part, object_key, on_demand, traits_of
from doubles.catalogue import groups as groups_of
from ostria.engine import Engine
from ostria.envoy.fragments import ResourceType, fragment
from ostria.xds import Delivery, Identity, Node, Send
from ostria.xds.clients import Client
from ostria.xds.delivery import Command
from ostria.xds.protocol import Request, WholeRequest
from ostria.xds.shelf import WHOLE
from ostria.xds.working_set import Bounds

CDS, EDS, LDS, RDS = ResourceType.CLUSTER, ResourceType.ENDPOINTS, ResourceType.LISTENER, ResourceType.ROUTES
NAMES = ("a", "b", "c")
BAD = b"bad"


class Response(NamedTuple):
    """A response of either protocol. `complete` if what is not among the entries is removed."""

    type: ResourceType
    nonce: str
    entries: dict[str, bytes]
    removed: tuple[str, ...] = ()
    complete: bool = False


def read(command: Send) -> Response:
    data = command.body + command.tail
    if command.client.shelf is None:
        message = DeltaDiscoveryResponse.FromString(data)
        entries = {entry.name: entry.resource.value for entry in message.resources}
        return Response(ResourceType(message.type_url), message.nonce, entries, tuple(message.removed_resources))
    whole = DiscoveryResponse.FromString(data)
    type = ResourceType(whole.type_url)
    outstanding = command.client.stream.channels[type].outstanding
    assert outstanding is not None
    # The bodies of these tests do not hold their names.
    names = command.client.shelf.offered(type) if type in WHOLE else outstanding.names
    bodies = (entry.value for entry in whole.resources)
    return Response(type, whole.nonce, dict(zip(names, bodies, strict=True)), complete=type in WHOLE)


class FakeEnvoy:
    """One client over all its streams; `held` is what it has applied, as bodies."""

    def __init__(self, world: World, name: str, *, whole: bool) -> None:
        self.world = world
        self.name = name
        self.whole = whole
        self.nonces: dict[ResourceType, str] = {}
        self.accepted: set[ResourceType] = set()
        self.held: dict[ResourceType, dict[str, bytes]] = {type: {} for type in (CDS, EDS, LDS, RDS)}
        self.wanted: dict[ResourceType, set[str]] = {EDS: set(), RDS: set()}
        self.inbox: deque[Response] = deque()
        self.client: Client[str] | None = None

    def connect(self) -> None:
        identity = Identity("default", "sa", self.name)
        self.client = self.world.delivery.connect(self.name, identity, Node(self.name), whole=self.whole)
        self.inbox.clear()
        self.nonces.clear()
        self.accepted.clear()
        for type in (CDS, EDS, LDS, RDS):
            known = {name: fragment(name, body).version for name, body in self.held[type].items()}
            names = tuple(sorted(self.wanted.get(type, ())))
            if type in (CDS, LDS) or names:
                self.request(Request(type, names, (), known))

    def disconnect(self) -> None:
        if self.client is not None:
            client, self.client = self.client, None
            self.world.perform(self.world.delivery.disconnect(client, self.world.now))

    def request(self, request: Request) -> None:
        if self.client is None:
            return
        asked: Request | WholeRequest = request
        if self.whole:
            type = ResourceType(request.type_url)
            names = tuple(sorted(self.wanted.get(type, ())))
            asked = WholeRequest(type, names, self.nonces.get(type, ""), request.error)
        self.world.perform(self.world.delivery.receive(self.client, asked, self.world.now))

    def step(self) -> None:
        """Read and answer one response."""
        response = self.inbox.popleft()
        type, entries = response.type, response.entries
        self.nonces[type] = response.nonce
        if any(BAD in body for body in entries.values()):
            self.request(Request(type, nonce=response.nonce, error="something is bad"))
            return
        self.accepted.add(type)
        # What it no longer wants may still have been on its way.
        wanted = self.wanted.get(type, entries.keys())
        self.held[type].update((name, body) for name, body in entries.items() if name in wanted)
        for name in self.removed(response):
            self.held[type].pop(name, None)
        self.request(Request(type, nonce=response.nonce))
        self.follow(type)

    def removed(self, response: Response) -> tuple[str, ...]:
        """What the client no longer holds when it has applied a response."""
        gone = [name for name in self.held[response.type] if name not in response.entries] if response.complete else ()
        return (*response.removed, *gone)

    def follow(self, type: ResourceType) -> None:
        """Subscribe to what the newly applied names, and from what it no longer names."""
        target, wanted = {CDS: (EDS, set(self.held[CDS])), LDS: (RDS, set(self.held[LDS]))}.get(type, (None, set()))
        if target is None:
            return
        more, less = wanted - self.wanted[target], self.wanted[target] - wanted
        self.wanted[target] = wanted
        for name in less:
            self.held[target].pop(name, None)
        if more or less:
            self.request(Request(target, tuple(sorted(more)), tuple(sorted(less))))


class World:
    """A catalogue in which route `x` leads to clusters by their names' letters, and two clients of two groups."""

    def __init__(self, *, whole: str = "") -> None:
        self.db = Engine()
        self.store = FakeStore(self.db, stands_in=False)
        self.delivery: Delivery[str] = self.make()
        self.now = 0.0
        self.gone_since: dict[tuple[str, str], int] = {}
        self.envoys = {name: FakeEnvoy(self, name, whole=name == whole) for name in ("alpha", "beta")}
        for name, group in (("alpha", "red"), ("beta", "blue")):
            self.store.group(name, group)

    def make(self) -> Delivery[str]:
        return Delivery(
            self.db,
            CATALOGUE,
            traits_of,
            self.store,
            self.store,
            changed=self.store.changed,
            on_demand=on_demand,
            bounds=Bounds(lingering=3),
        )

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            assert isinstance(command, Send)
            envoy = next((envoy for envoy in self.envoys.values() if envoy.client is command.client), None)
            if envoy is not None:
                response = read(command)
                self.assert_in_order(envoy, response)
                envoy.inbox.append(response)

    def flush(self) -> None:
        for envoy in self.envoys:
            traits = self.db.fact(groups_of, envoy) or ""
            names = CATALOGUE.names(self.db, CDS, CATALOGUE.scope(self.db, CDS, "*").project(traits))
            for name in NAMES:
                if name in names:
                    self.gone_since.pop((envoy, name), None)
                else:
                    self.gone_since.setdefault((envoy, name), self.db.epoch)
        self.perform(self.delivery.flush(self.now))

    def restart(self) -> None:
        for envoy in self.envoys.values():
            envoy.client = None
        # What the old process watched goes with it.
        self.db.flush()
        self.delivery = self.make()
        for envoy in self.envoys.values():
            envoy.connect()

    def assert_in_order(self, envoy: FakeEnvoy, response: Response) -> None:
        """Judge a response by what its client has accepted when it is sent."""
        assert envoy.client is not None
        latest = self.delivery.held(envoy.client)
        if response.type == RDS:
            for body in response.entries.values():
                for name in body.decode():
                    if (CDS, name) in latest:
                        assert name in envoy.held[CDS], f"a route to {name} is sent before it was accepted"
        # A state-of-the-world client cannot say what it brings, so the first that it accepts holds only what there is.
        if response.type == CDS and not (envoy.whole and CDS not in envoy.accepted):
            for name in envoy.removed(response):
                for route, body in envoy.held[RDS].items():
                    newest = latest.get((RDS, route))
                    elsewhere = newest is not None and name not in newest.body.decode()
                    if name in envoy.held[CDS] and name in body.decode() and elsewhere:
                        # A route that moved on only after it had been left to lead nowhere is no reason to wait.
                        moved = self.store.changed(object_key(f"VS/{route}"))
                        assert moved > self.gone_since[envoy.name, name], f"{name} goes before {route}"

    def settle(self) -> None:
        """Let everybody answer everything, and time pass."""
        for _ in range(2000):
            busy = False
            for envoy in self.envoys.values():
                while envoy.inbox:
                    busy = True
                    envoy.step()
            if not busy:
                if self.delivery.deadline() is None:
                    return
                self.now += 1.0
                self.perform(self.delivery.tick(self.now))
        raise AssertionError("it does not settle")

    def assert_converged(self) -> None:
        for envoy in self.envoys.values():
            assert envoy.client is not None
            expected: dict[ResourceType, dict[str, bytes]] = {type: {} for type in envoy.held}
            for (type, name), found in self.delivery.held(envoy.client).items():
                expected[type][name] = found.body
            assert envoy.held == expected
            wanted = set(self.listed(envoy, CDS))
            if envoy.client.working is not None:
                # On demand it is what its routes lead to, as far as that is there.
                wanted |= {name for body in envoy.held[RDS].values() for name in body.decode()}
            catalogue = {name: body for name in wanted if (body := self.newest(envoy, CDS, name)) is not None}
            assert envoy.held[CDS] == catalogue
        assert all(client.synced for client in self.delivery.statistics())

    def listed(self, envoy: FakeEnvoy, type: ResourceType) -> tuple[str, ...]:
        assert envoy.client is not None
        return CATALOGUE.names(self.db, type, CATALOGUE.scope(self.db, type, "*").project(envoy.client.traits))

    def newest(self, envoy: FakeEnvoy, type: ResourceType, name: str) -> bytes | None:
        assert envoy.client is not None
        scope = CATALOGUE.scope(self.db, type, name)
        found = CATALOGUE.fragment(self.db, type, name, scope.project(envoy.client.traits))
        return None if found is None else found.body


def service(name: str, body: str, group: str) -> tuple[Part, ...]:
    references = frozenset({(EDS, name)})
    return (Part(CDS, name, body.encode(), references, group), Part(EDS, name, body.encode(), group=group))


def route(name: str, to: str) -> tuple[Part, ...]:
    references = frozenset((CDS, target) for target in to)
    listener = Part(LDS, name, b"l", frozenset({(RDS, name)}))
    return (listener, Part(RDS, name, to.encode(), references))


names = st.sampled_from(NAMES)
groups = st.sampled_from(["", "", "red", "blue"])
clients = st.sampled_from(["alpha", "beta"])
one_change = st.one_of(
    st.builds(lambda n, b, g: (f"Svc/{n}", service(n, b, g)), names, st.sampled_from("123"), groups),
    st.builds(lambda n: (f"Svc/{n}", None), names),
    st.builds(
        lambda n, b, g: (f"DR/{n}", (Part(CDS, n, b, group=g, base=False),)),
        names,
        st.sampled_from([b"+", b"-", BAD]),
        groups,
    ),
    st.builds(lambda n: (f"DR/{n}", None), names),
    st.builds(lambda n, to: (f"VS/{n}", route(n, to)), st.sampled_from("xy"), st.sampled_from(["a", "b", "ab", "abc"])),
    st.builds(lambda n: (f"VS/{n}", None), st.sampled_from("xy")),
)
# What a make-before-break is about: a route moves on, and what it leads to before goes with the same write.
moves = st.builds(
    lambda old, new: {f"Svc/{old}": None, "VS/x": route("x", new), f"Svc/{new}": service(new, "1", "")},
    *(st.sampled_from("aab"), st.just("c")),
)
changes = st.one_of(st.lists(one_change, min_size=1, max_size=4).map(dict), moves)
events = st.one_of(
    st.tuples(st.just("change"), changes),
    st.tuples(st.just("change"), changes),
    st.tuples(st.just("step"), clients),
    st.tuples(st.just("step"), clients),
    st.tuples(st.just("step"), clients),
    st.tuples(st.just("settle"), st.none()),
    st.tuples(st.just("reconnect"), clients),
    st.tuples(st.just("leave"), clients),
    st.tuples(st.just("group"), st.tuples(clients, st.sampled_from(["red", "blue", "lazy"]))),
    st.tuples(st.just("time"), st.floats(0, 1)),
    st.tuples(st.just("restart"), st.none()),
)


def play(world: World, event: str, argument: Any) -> None:
    if event == "change":
        world.store.put(argument)
        world.flush()
    elif event == "step":
        envoy = world.envoys[argument]
        if envoy.inbox:
            envoy.step()
    elif event == "settle":
        world.settle()
    elif event == "reconnect":
        world.envoys[argument].disconnect()
        world.envoys[argument].connect()
    elif event == "leave":
        world.envoys[argument].disconnect()
        world.envoys[argument].inbox.clear()
    elif event == "group":
        name, group = argument
        # State of the world is never on demand.
        world.store.group(name, "red" if world.envoys[name].whole else group)
        world.flush()
    elif event == "time":
        world.now += argument
        world.perform(world.delivery.tick(world.now))
    else:
        world.restart()


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=40), st.sampled_from(["", "beta"]))
def test_every_client_converges_to_the_catalogue(script: list[tuple[str, Any]], whole: str) -> None:
    world = World(whole=whole)
    for envoy in world.envoys.values():
        envoy.connect()
    world.store.put({"Svc/a": service("a", "1", ""), "VS/x": route("x", "a")})
    world.flush()
    world.settle()
    for event, argument in script:
        play(world, event, argument)
    for envoy in world.envoys.values():
        if envoy.client is None:
            envoy.connect()
    world.settle()
    world.assert_converged()
    for key in world.store.convicted:
        parts = dict(script_parts(script)).get(key, ())
        assert any(BAD in part.body for part in parts or ()), f"{key} is not to blame"


def script_parts(script: list[tuple[str, Any]]) -> list[tuple[Any, Any]]:
    return [
        (object_key(path), parts) for event, argument in script if event == "change" for path, parts in argument.items()
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=30), st.sampled_from(["", "beta"]))
def test_nothing_is_left_behind(script: list[tuple[str, Any]], whole: str) -> None:
    world = World(whole=whole)
    for event, argument in script:
        if event != "restart":
            play(world, event, argument)
    for envoy in world.envoys.values():
        envoy.disconnect()
    world.db.collect()
    assert world.db.statistics().watched == 0
    assert world.delivery.deadline() is None
