"""The node's packet rules: virtual addresses become endpoints, the way out is bent to the forwarder, the rest refused.

Pure: it builds nf_tables messages; `network` sends them as one batch, which the kernel takes wholly or not at all.

    prerouting, output (nat)   address . protocol . port -> map `services` -> the port's chain -> an endpoint
    prerouting (nat)           TCP that leaves the pods' and services' ranges -> the forwarder
    postrouting (nat)          a pod that reached itself through a virtual address -> from the gateway's address
    guard_* (filter)           what is still addressed to a virtual or forbidden address -> refused at once

One table a family. A port's chain is replaced alone, so that a change costs what it changes. Two tables of different
names may stand at once, the older deciding: so a new node replaces an older one's rules without a gap.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple

from ostria.capture.netlink import APPEND, CREATE, Message, attribute, nest, text
from ostria.node.network.addresses import Address, Plan, Range
from ostria.node.network.netlink import attributes, be32, u32
from ostria.node.network.services import (
    AFFINITY_SLOTS,
    Backend,
    Front,
    Protocol,
    Version,
    VirtualPort,
    affinity_slots,
)

TABLE = "ostria"
SERVICES = "services"
ITSELF = "itself"

# linux/netfilter/nfnetlink.h and nf_tables.h
_SUBSYSTEM = 10
_NEW_TABLE, _GET_TABLE, _DEL_TABLE, _NEW_CHAIN, _DEL_CHAIN, _NEW_RULE, _DEL_RULE = 0, 1, 2, 3, 5, 6, 8
_NEW_SET, _NEW_ELEMENT, _DEL_ELEMENT = 9, 12, 14
_ANONYMOUS, _CONSTANT, _MAP = 1, 2, 8
_DATA_VERDICT = 0xFFFFFF00
_ACCEPT, _RETURN, _GOTO = 1, -5, -4
_PREROUTING, _OUTPUT, _POSTROUTING = 0, 3, 4
_NETWORK, _TRANSPORT = 1, 2
_EQUAL, _UNEQUAL = 0, 1
_META_IIF, _META_PROTOCOL = 4, 16
_VERDICT, _R0 = 0, 8
_PROTOCOLS: dict[Protocol, int] = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}


class Family(NamedTuple):
    """What differs between the two families: the kernel's number, and where a header has its addresses."""

    version: Version
    number: int
    size: int
    source: int
    destination: int
    unreachable: int
    """The ICMP code for a port that is not there."""


FAMILIES: dict[Version, Family] = {4: Family(4, 2, 4, 12, 16, 3), 6: Family(6, 10, 16, 8, 24, 4)}

FORBIDDEN: dict[Version, tuple[str, ...]] = {
    4: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
    6: ("::/127", "::ffff:0:0/96", "64:ff9b::/96", "fe80::/10", "ff00::/8"),
}
"""Nobody is let out to these: loopback, link-local (a cloud's metadata), multicast, and IPv4 in another dress."""


def list_tables() -> Message:
    """Ask for the tables of all families (a dump); `table_name` reads an answer."""
    return Message(_SUBSYSTEM << 8 | _GET_TABLE, 0, struct.pack(">BBH", 0, 0, 0), "list tables")


def table_name(body: bytes) -> tuple[int, str]:
    """The family's number and the name of a table in an answer."""
    return body[0], attributes(body, 4)[1].rstrip(b"\0").decode()


class Rules:
    """Builds the messages for one family's table. It keeps nothing but the numbers of the sets it names."""

    def __init__(self, version: Version, table: str = TABLE) -> None:
        self.family = FAMILIES[version]
        self.table = table
        self._set_id = 0

    def make(self, plan: Plan, forwarder_port: int, *, allow_host: bool) -> list[Message]:
        """The table, its chains and fixed rules."""
        family = self.family
        key = _padded(family.size) + 8
        refuse = _goto("refuse")
        place = 0 if family.version == 4 else 1
        gateway, host, dns = plan.gateway[place], plan.host[place], plan.dns[place]
        pods, services = plan.pods[place], plan.services[place]
        out = self._to(Backend(gateway.packed, forwarder_port))
        forbidden = [ipaddress.ip_network(text_) for text_ in FORBIDDEN[family.version]]
        messages = [
            self._message(_NEW_TABLE, text(1, self.table), "table"),
            self._set(SERVICES, _MAP, key, data_type=_DATA_VERDICT),
            self._set(ITSELF, 0, 2 * family.size),
            self._chain("prerouting", "nat", _PREROUTING, -100),
            self._chain("output", "nat", _OUTPUT, -100),
            self._chain("postrouting", "nat", _POSTROUTING, 100),
            self._chain("guard_prerouting", "filter", _PREROUTING, 0),
            self._chain("guard_output", "filter", _OUTPUT, 0),
            self._chain("refuse"),
        ]
        look_up = self._front() + _lookup(SERVICES, _R0, _VERDICT)
        messages += [
            self._rule("prerouting", look_up),
            self._rule("output", look_up),
            self._rule("prerouting", _protocol("TCP", _UNEQUAL) + _verdict(_RETURN)),
        ]
        if allow_host:
            messages.append(self._rule("prerouting", self._is(host) + out))
        messages += [
            self._rule("prerouting", self._within(range_) + _verdict(_RETURN))
            for range_ in (pods, services, *forbidden)
        ]
        messages.append(self._rule("prerouting", out))
        itself = self._load(family.source, _R0) + self._load(family.destination, _R0 + family.size // 4)
        messages.append(self._rule("postrouting", itself + _lookup(ITSELF, _R0) + _expression("masq", b"")))
        unreachable = attribute(1, be32(0)) + attribute(2, bytes([family.unreachable]))
        messages += [
            self._rule("refuse", _protocol("TCP") + _expression("reject", attribute(1, be32(1)) + attribute(2, b"\0"))),
            self._rule("refuse", _expression("reject", unreachable)),
            # What stays on the loopback has been judged where it was sent.
            self._rule("guard_prerouting", _meta(_META_IIF) + _compare(u32(1)) + _verdict(_ACCEPT)),
        ]
        for chain in ("guard_prerouting", "guard_output"):
            messages += [
                self._rule(chain, self._is(dns) + _verdict(_ACCEPT)),
                self._rule(chain, self._within(services) + refuse),
                self._rule(chain, self._is(host) + refuse),
            ]
        # What is not for a pod or for the node itself has no way, for UDP has none and TCP would have been bent by now.
        # An application hears of a refusal; of a network that is unreachable UDP would not tell it.
        messages.append(self._rule("guard_prerouting", self._within(pods) + _verdict(_ACCEPT)))
        messages += [self._rule("guard_prerouting", _protocol(protocol) + refuse) for protocol in _PROTOCOLS]
        return messages

    def remove(self) -> list[Message]:
        """Remove the table."""
        return [self._message(_DEL_TABLE, text(1, self.table), "remove the table", flags=0)]

    def add_pod(self, address: bytes) -> list[Message]:
        """Let a pod reach itself through a virtual address."""
        return [self._elements(_NEW_ELEMENT, ITSELF, [_value(1, address + address)])]

    def remove_pod(self, address: bytes) -> list[Message]:
        """Forget a pod that `add_pod` has added."""
        return [self._elements(_DEL_ELEMENT, ITSELF, [_value(1, address + address)])]

    def replace(self, before: VirtualPort | None, after: VirtualPort | None) -> list[Message]:
        """Go from one state of a virtual port to another; None is its absence. Both have the same chain."""
        if before == after:
            return []
        known = before or after
        assert known is not None
        chain, protocol = known.chain, known.protocol
        messages = []
        old = set(before.fronts) if before else set()
        new = set(after.fronts) if after else set()
        if gone := sorted(old - new):
            elements = [self._front_key(protocol, front) for front in gone]
            messages.append(self._elements(_DEL_ELEMENT, SERVICES, elements))
        if before is None:
            messages.append(self._chain(chain))
        elif after is None or before.backends != after.backends or before.affinity != after.affinity:
            messages.append(self._message(_DEL_RULE, self._named(chain), f"empty {chain}", flags=0))
        if after is None:
            body = text(1, self.table) + text(3, chain)
            messages.append(self._message(_DEL_CHAIN, body, f"remove {chain}", flags=0))
            return messages
        if before is None or before.backends != after.backends or before.affinity != after.affinity:
            messages += self._choice(after)
        if come := sorted(new - old):
            verdict = nest(2, nest(2, attribute(1, be32(_GOTO)), text(2, chain)))
            elements = [self._front_key(protocol, front) + verdict for front in come]
            messages.append(self._elements(_NEW_ELEMENT, SERVICES, elements))
        return messages

    def _choice(self, port: VirtualPort) -> list[Message]:
        """Choose among the backends: at random, or by the client's address."""
        size = self.family.size
        if len(port.backends) == 1:
            return [self._rule(port.chain, self._to(port.backends[0]))]
        chosen = affinity_slots(port.backends) if port.affinity else port.backends
        self._set_id += 1
        number = self._set_id
        choices = self._set("__map%d", _ANONYMOUS | _CONSTANT | _MAP, 4, data_length=size + 4, number=number)
        elements = [
            _value(1, u32(place)) + _value(2, backend.address + struct.pack(">HH", backend.port, 0))
            for place, backend in enumerate(chosen)
        ]
        # An attribute has room for 64 kB, and an element takes up to 60 bytes.
        fill = [
            self._elements(_NEW_ELEMENT, "__map%d", elements[start : start + 512], number=number)
            for start in range(0, len(elements), 512)
        ]
        if port.affinity:
            source = self._load(self.family.source, _R0 + 1)
            pick = source + _expression(
                "hash",
                attribute(1, be32(_R0 + 1))
                + attribute(2, be32(_R0))
                + attribute(3, be32(size))
                + attribute(4, be32(AFFINITY_SLOTS))
                + attribute(5, be32(1)),
            )
        else:
            modulus = attribute(2, be32(len(chosen)))
            pick = _expression("numgen", attribute(1, be32(_R0)) + modulus + attribute(3, be32(1)))
        translate = pick + _lookup("__map%d", _R0, _R0 + 1, number=number) + self._translation(_R0 + 1)
        return [choices, *fill, self._rule(port.chain, translate)]

    def _to(self, backend: Backend) -> bytes:
        address = _immediate(_R0 + 1, backend.address)
        port = _immediate(_R0 + 1 + self.family.size // 4, struct.pack(">H", backend.port))
        return address + port + self._translation(_R0 + 1)

    def _translation(self, register: int) -> bytes:
        return _expression(
            "nat",
            attribute(1, be32(1))
            + attribute(2, be32(self.family.number))
            + attribute(3, be32(register))
            + attribute(5, be32(register + self.family.size // 4)),
        )

    def _front(self) -> bytes:
        words = self.family.size // 4
        return (
            self._load(self.family.destination, _R0)
            + _meta(_META_PROTOCOL, _R0 + words)
            + _payload(_TRANSPORT, 2, 2, _R0 + words + 1)
        )

    def _front_key(self, protocol: Protocol, front: Front) -> bytes:
        return _value(1, front.address + struct.pack(">BxxxHxx", _PROTOCOLS[protocol], front.port))

    def _load(self, offset: int, register: int) -> bytes:
        return _payload(_NETWORK, offset, self.family.size, register)

    def _is(self, address: Address) -> bytes:
        return self._load(self.family.destination, _R0) + _compare(address.packed)

    def _within(self, range_: Range) -> bytes:
        mask = nest(4, attribute(1, range_.netmask.packed))
        zero = nest(5, attribute(1, bytes(self.family.size)))
        size = attribute(3, be32(self.family.size))
        masked = _expression("bitwise", attribute(1, be32(_R0)) + attribute(2, be32(_R0)) + size + mask + zero)
        return self._load(self.family.destination, _R0) + masked + _compare(range_.network_address.packed)

    def _chain(self, name: str, kind: str = "", hook: int = 0, priority: int = 0) -> Message:
        body = text(1, self.table) + text(3, name)
        if kind:
            body += nest(4, attribute(1, be32(hook)), attribute(2, be32(priority)))
            body += attribute(5, be32(_ACCEPT)) + text(7, kind)
        return self._message(_NEW_CHAIN, body, f"chain {name}")

    def _rule(self, chain: str, expressions: bytes) -> Message:
        body = self._named(chain) + nest(4, expressions)
        return self._message(_NEW_RULE, body, f"rule in {chain}", flags=CREATE | APPEND)

    def _named(self, chain: str) -> bytes:
        return text(1, self.table) + text(2, chain)

    def _set(
        self, name: str, flags: int, key: int, *, data_type: int = 0, data_length: int = 0, number: int = 0
    ) -> Message:
        if not number:
            self._set_id += 1
            number = self._set_id
        body = self._named(name) + attribute(3, be32(flags)) + attribute(4, be32(0)) + attribute(5, be32(key))
        if flags & _MAP:
            body += attribute(6, be32(data_type)) + attribute(7, be32(data_length))
        return self._message(_NEW_SET, body + attribute(10, be32(number)), f"set {name}")

    def _elements(self, kind: int, name: str, elements: list[bytes], *, number: int = 0) -> Message:
        body = self._named(name) + nest(3, *(nest(1, element) for element in elements))
        if number:
            body += attribute(4, be32(number))
        flags = CREATE if kind == _NEW_ELEMENT else 0
        return self._message(kind, body, f"elements of {name}", flags=flags)

    def _message(self, kind: int, body: bytes, about: str, *, flags: int = CREATE) -> Message:
        header = struct.pack(">BBH", self.family.number, 0, 0)
        return Message(_SUBSYSTEM << 8 | kind, flags, header + body, f"{about} (IPv{self.family.version})")


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _expression(name: str, data: bytes) -> bytes:
    return nest(1, text(1, name), nest(2, data))


def _value(kind: int, data: bytes) -> bytes:
    return nest(kind, attribute(1, data))


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    where = attribute(2, be32(base)) + attribute(3, be32(offset)) + attribute(4, be32(length))
    return _expression("payload", attribute(1, be32(register)) + where)


def _meta(key: int, register: int = _R0) -> bytes:
    return _expression("meta", attribute(1, be32(register)) + attribute(2, be32(key)))


def _compare(value: bytes, operator: int = _EQUAL) -> bytes:
    return _expression("cmp", attribute(1, be32(_R0)) + attribute(2, be32(operator)) + _value(3, value))


def _protocol(protocol: Protocol, operator: int = _EQUAL) -> bytes:
    return _meta(_META_PROTOCOL) + _compare(bytes([_PROTOCOLS[protocol]]), operator)


def _lookup(name: str, source: int, destination: int | None = None, *, number: int = 0) -> bytes:
    data = text(1, name) + attribute(2, be32(source))
    if destination is not None:
        data += attribute(3, be32(destination))
    if number:
        data += attribute(4, be32(number))
    return _expression("lookup", data)


def _immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", attribute(1, be32(register)) + _value(2, value))


def _verdict(code: int) -> bytes:
    return _expression("immediate", attribute(1, be32(_VERDICT)) + nest(2, nest(2, attribute(1, be32(code)))))


def _goto(chain: str) -> bytes:
    verdict = nest(2, attribute(1, be32(_GOTO)), text(2, chain))
    return _expression("immediate", attribute(1, be32(_VERDICT)) + nest(2, verdict))
