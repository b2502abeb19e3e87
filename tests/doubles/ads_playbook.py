"""Playbooks: a conversation with delivery as text, replayed and written anew with the answers that really came.

++ alpha [GROUP]                a stream begins; its pod is of a group
+= alpha [GROUP]                a state-of-the-world stream begins; its requests say all names, without signs
-- alpha                        it ends
## alpha GROUP                  its traits change
** Kind/name: cds a 1 -> eds a; eds a 1     an object now brings these parts ("gone": none; "@g": for a group)
.. 0.5                          time passes
>> alpha cds +a -b has c=1      a request: subscribes, unsubscribes, versions it brings; none of them: bare
>> alpha cds ack 1              ... accepts a response; `nack 1: words` refuses it
<< alpha cds a=1 -b ~c #1       what is sent: names with their bodies, removed and absent names, nonce
!! alpha words                  the stream is closed
== alpha cds a=1                what it is to hold of a type
"""

from __future__ import annotations

import shlex

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse

from doubles.catalogue import CATALOGUE, FakeStore, Part, on_demand, traits_of
from ostria.engine import Engine
from ostria.envoy.fragments import ResourceType, fragment
from ostria.xds import Delivery, Identity, Limits, Node, Send
from ostria.xds.clients import Client
from ostria.xds.delivery import Command
from ostria.xds.protocol import Request, WholeRequest
from ostria.xds.shelf import WHOLE
from ostria.xds.working_set import Bounds

TYPES = {
    "cds": ResourceType.CLUSTER,
    "eds": ResourceType.ENDPOINTS,
    "lds": ResourceType.LISTENER,
    "rds": ResourceType.ROUTES,
    "vhds": ResourceType.VIRTUAL_HOST,
    "sds": ResourceType.SECRET,
}
BOUNDS = Bounds(lingering=60, hosts=4, passing=2, passing_age=100)
WORDS = {type.value: word for word, type in TYPES.items()}


def check(text: str, limits: Limits | None = None) -> Table:
    """Replay a playbook; it must read the same afterwards."""
    table = Table(limits or Limits())
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    written = [entry for line in lines for entry in table.step(line)]
    assert written == lines, "what really came:\n" + "\n".join(written)
    return table


class Table:
    """All parties of one conversation."""

    def __init__(self, limits: Limits) -> None:
        self.db = Engine()
        self.store = FakeStore(self.db)
        self.accepted: list[tuple[str, int]] = []
        self.delivery: Delivery[str] = Delivery(
            self.db,
            CATALOGUE,
            traits_of,
            self.store,
            self.store,
            limits=limits,
            changed=self.store.changed,
            accepted=lambda client, epoch: self.accepted.append((client.name, epoch)),
            on_demand=on_demand,
            bounds=BOUNDS,
        )
        self.clients: dict[str, Client[str]] = {}
        self.now = 0.0

    def step(self, line: str) -> list[str]:
        """What to write in place of the line: itself and its answers, or nothing for an answer."""
        if line[:2] in ("<<", "!!"):
            return []
        if line.startswith("#") and not line.startswith("##"):
            return [line]
        mark, _, rest = line.partition(" ")
        if mark == "==":
            who, type, *_ = [*rest.split(), ""]
            return [f"== {who} {type} {self.held(who, type)}".strip()]
        commands = {
            "++": self.connect,
            "+=": self.connect_whole,
            "--": self.disconnect,
            "##": self.group,
            "**": self.change,
            "..": self.wait,
            ">>": self.request,
        }[mark](rest)
        return [line, *map(show, commands)]

    def connect_whole(self, rest: str) -> list[Command]:
        return self.connect(rest, whole=True)

    def connect(self, rest: str, *, whole: bool = False) -> list[Command]:
        name, _, group = rest.partition(" ")
        self.store.group(name, group)
        client = self.delivery.connect(name, Identity("default", "sa", name), Node(name), whole=whole)
        assert client is not None
        self.clients[name] = client
        return self.delivery.flush(self.now)

    def disconnect(self, rest: str) -> list[Command]:
        return self.delivery.disconnect(self.clients.pop(rest), self.now)

    def group(self, rest: str) -> list[Command]:
        self.store.group(*rest.split())
        return self.delivery.flush(self.now)

    def change(self, rest: str) -> list[Command]:
        changes: dict[str, tuple[Part, ...] | None] = {}
        for change in rest.split(" | "):
            path, _, parts = change.partition(":")
            changes[path] = None if parts.strip() == "gone" else tuple(map(parse_part, parts.split(";")))
        self.store.put(changes)
        return self.delivery.flush(self.now)

    def wait(self, rest: str) -> list[Command]:
        self.now += float(rest)
        deadline = self.delivery.deadline()
        return self.delivery.tick(self.now) if deadline is not None and deadline <= self.now else []

    def request(self, rest: str) -> list[Command]:
        head, colon, words = rest.partition(":")
        who, type, *args = shlex.split(head)
        known: dict[str, str] = {}
        nonce = ""
        if "has" in args:
            at = args.index("has")
            pairs = [pair.split("=") for pair in args[at + 1 :]]
            known = {name: fragment(name, body.encode()).version for name, body in pairs}
            args = args[:at]
        for word in ("ack", "nack"):
            if word in args:
                at = args.index(word)
                nonce = args[at + 1]
                args = args[:at] + args[at + 2 :]
        client, url, error = self.clients[who], TYPES.get(type, type), words.strip() if colon else None
        if client.shelf is not None:
            return self.delivery.receive(client, WholeRequest(url, tuple(args), nonce, error), self.now)
        request = Request(
            url,
            tuple(arg[1:] for arg in args if arg[0] == "+"),
            tuple(arg[1:] for arg in args if arg[0] == "-"),
            known,
            nonce,
            error,
        )
        return self.delivery.receive(client, request, self.now)

    def held(self, who: str, type: str) -> str:
        held = self.delivery.held(self.clients[who])
        return " ".join(f"{name}={held[t, name].body.decode()}" for t, name in sorted(held) if t is TYPES[type])


def parse_part(text: str) -> Part:
    head, _, tail = text.partition("->")
    type, name, body, *more = head.split()
    references = tail.split()
    pairs = zip(references[::2], references[1::2], strict=True)
    group = next((word[1:] for word in more if word.startswith("@")), "")
    return Part(
        TYPES[type], name, body.encode(), frozenset((TYPES[t], n) for t, n in pairs), group, base="addition" not in more
    )


def show(command: Command) -> str:
    if not isinstance(command, Send):
        return f"!! {command.client.name} {command.message}"
    if command.client.shelf is not None:
        return show_whole(command)
    message = DeltaDiscoveryResponse.FromString(command.body + command.tail)
    entries = []
    for entry in message.resources:
        if not entry.HasField("resource"):
            assert list(entry.aliases) == [entry.name]
            entries.append(f"~{entry.name}")
            continue
        assert entry.resource.type_url == message.type_url
        assert entry.version == fragment(entry.name, entry.resource.value).version
        entries.append(f"{entry.name}={entry.resource.value.decode()}")
    removed = [f"-{name}" for name in message.removed_resources]
    return " ".join(["<<", command.client.name, WORDS[message.type_url], *entries, *removed, f"#{message.nonce}"])


def show_whole(command: Send) -> str:
    """A letter says no name, so names are those that delivery says it has sent."""
    message = DiscoveryResponse.FromString(command.body + command.tail)
    type = ResourceType(message.type_url)
    response = command.client.stream.channels[type].outstanding
    assert response is not None
    assert message.version_info
    assert command.client.shelf is not None
    names = command.client.shelf.offered(type) if type in WHOLE else response.names
    entries = [f"{name}={entry.value.decode()}" for name, entry in zip(names, message.resources, strict=True)]
    return " ".join(["<<", command.client.name, WORDS[message.type_url], *entries, f"#{message.nonce}"])
