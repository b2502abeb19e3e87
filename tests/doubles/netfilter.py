"""Netfilter as told by others: what iptables-save prints, and nf_tables messages, as code that packets run through.

Both answer like `ostria.capture.verdict` and share nothing with what they check: a plan, its rules for iptables and
its messages for nf_tables must do the same to every packet.
"""

from __future__ import annotations

import ipaddress
import shlex
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ostria.capture import Hook, Outcome, Packet
from ostria.capture.netlink import Message
from ostria.capture.plan import Drop, Redirect, Return

_TABLES = ("raw", "mangle", "nat", "filter")


class _Flow:
    """What has become of a packet so far."""

    def __init__(self, packet: Packet) -> None:
        self.packet = packet
        self.outcome = Outcome(Return())

    @property
    def over(self) -> bool:
        return isinstance(self.outcome.verdict, Drop)

    def zone(self, number: int) -> None:
        self.outcome = Outcome(self.outcome.verdict, self.outcome.zone or number)

    def end(self, verdict: Drop | Redirect) -> None:
        self.outcome = Outcome(verdict, self.outcome.zone)
        if isinstance(verdict, Redirect):
            self.packet = self.packet._replace(destination_port=verdict.port)
            if self.packet.hook is Hook.OUTPUT:
                local = "127.0.0.1" if self.packet.source.version == 4 else "::1"
                self.packet = self.packet._replace(destination=ipaddress.ip_address(local), out_interface="lo")


# iptables.


class Iptables:
    """Chains by table, from restore input or from a list of iptables commands; groups by the number of their name."""

    def __init__(self, text: str, groups: dict[str, int] | None = None) -> None:
        self._groups = groups or {}
        self._chains: dict[tuple[str, str], list[list[str]]] = {}
        table = ""
        for line in text.splitlines():
            words = shlex.split(line)
            if line.startswith("*"):
                table = line[1:].strip()
            elif words and words[0] in ("-A", "-I"):
                chain = self._chains.setdefault((table, words[1]), [])
                if words[0] == "-I":
                    chain.insert(int(words[2]) - 1, words[3:])
                else:
                    chain.append(words[2:])

    def verdict(self, packet: Packet) -> Outcome:
        flow = _Flow(packet)
        for table in _TABLES:
            if not flow.over and not (table == "nat" and packet.state == "invalid"):
                self._run(table, packet.hook.upper(), flow)
        return flow.outcome

    def _run(self, table: str, chain: str, flow: _Flow) -> bool:
        """Whether the packet's way through the table is over."""
        for rule in self._chains.get((table, chain), []):
            target = self._target(rule, flow.packet)
            if target is None:
                continue
            name, *options = target
            match name:
                case "RETURN":
                    return False
                case "REDIRECT":
                    flow.end(Redirect(int(options[1])))
                    return True
                case "DROP":
                    flow.end(Drop())
                    return True
                case "CT":
                    flow.zone(int(options[1]))
                case _:
                    if self._run(table, name, flow):
                        return True
        return False

    def _target(self, rule: list[str], packet: Packet) -> list[str] | None:
        words = iter(rule)
        negated = False
        for word in words:
            if word == "!":
                negated = True
                continue
            if word == "-j":
                return list(words)
            value = next(words)
            if word == "-m":
                continue
            if self._holds(word, value, packet) is negated:
                return None
            negated = False
        raise AssertionError(f"no target in {rule}")

    def _holds(self, option: str, value: str, packet: Packet) -> bool:
        match option:
            case "-p":
                return packet.protocol == value
            case "-i":
                return packet.in_interface == value
            case "-o":
                return packet.out_interface == value
            case "-s":
                return packet.source in ipaddress.ip_network(value, strict=False)
            case "-d":
                return packet.destination in ipaddress.ip_network(value, strict=False)
            case "--sport":
                return packet.source_port == int(value)
            case "--dport":
                return packet.destination_port == int(value)
            case "--dports":
                return str(packet.destination_port) in value.split(",")
            case "--uid-owner":
                return packet.uid == int(value)
            case "--gid-owner":
                return packet.gid == (self._groups[value] if value in self._groups else int(value))
            case "--mark":
                return packet.mark == int(value)
            case "--ctstate":
                return packet.state == value.lower()
        raise AssertionError(f"unknown option {option}")


# nf_tables.


class _Chain(NamedTuple):
    family: int
    hook: int
    priority: int
    rules: list[list[tuple[str, dict[int, bytes]]]]


class Nftables:
    """The table that a batch of messages leaves behind, run expression by expression as the kernel does."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.tables: set[int] = set()
        self._chains: dict[tuple[int, bytes], _Chain] = {}
        for message in messages:
            if message.type >> 8 != 10:
                continue
            family, attributes = message.body[0], _attributes(message.body[4:])
            match message.type & 0xFF:
                case 0:
                    self.tables.add(family)
                case 2:
                    self.tables.discard(family)
                    self._chains = {key: chain for key, chain in self._chains.items() if chain.family != family}
                case 3:
                    place = _attributes(attributes[4])
                    hook, priority = struct.unpack(">I", place[1])[0], struct.unpack(">i", place[2])[0]
                    self._chains[family, attributes[3]] = _Chain(family, hook, priority, [])
                case 6:
                    rule = [_expression(value) for _, value in _list(attributes[4])]
                    self._chains[family, attributes[2]].rules.append(rule)

    def verdict(self, packet: Packet) -> Outcome:
        flow = _Flow(packet)
        family, hook = (2 if packet.source.version == 4 else 10), (0 if packet.hook is Hook.PREROUTING else 3)
        met = [chain for chain in self._chains.values() if (chain.family, chain.hook) == (family, hook)]
        for chain in sorted(met, key=lambda chain: chain.priority):
            if flow.over:
                break
            if chain.priority == -100 and packet.state == "invalid":
                continue
            for rule in chain.rules:
                if _run(rule, flow):
                    break
        return flow.outcome


def _run(rule: list[tuple[str, dict[int, bytes]]], flow: _Flow) -> bool:
    """Whether the packet's way through the chain is over."""
    register = b""
    for name, attributes in rule:
        match name:
            case "meta":
                register = _meta(_number(attributes[2]), flow.packet)
            case "payload":
                offset, length = _number(attributes[3]), _number(attributes[4])
                header = _header(_number(attributes[2]), flow.packet)
                register = header[offset : offset + length]
                assert len(register) == length
            case "bitwise":
                mask, xor = _attributes(attributes[4])[1], _attributes(attributes[5])[1]
                register = bytes(a & b ^ c for a, b, c in zip(register, mask, xor, strict=True))
            case "cmp":
                wanted = _attributes(attributes[3])[1]
                assert len(wanted) == len(register)
                if (register == wanted) is (_number(attributes[2]) == 1):
                    return False
            case "ct" if 1 in attributes:
                assert _number(attributes[2]) == 0
                register = struct.pack("=I", 1 if flow.packet.state == "invalid" else 8)
            case "ct":
                assert _number(attributes[2]) == 17
                flow.zone(struct.unpack("=H", register)[0])
            case "immediate" if _number(attributes[1]) == 0:
                code = struct.unpack(">i", _attributes(_attributes(attributes[2])[2])[1])[0]
                if code == 0:
                    flow.end(Drop())
                return True
            case "immediate":
                register = _attributes(attributes[2])[1]
            case "redir":
                flow.end(Redirect(struct.unpack(">H", register)[0]))
                return True
            case _:
                raise AssertionError(f"unknown expression {name}")
    return False


def _meta(key: int, packet: Packet) -> bytes:
    values: dict[int, Any] = {3: packet.mark, 10: packet.uid, 11: packet.gid}
    if key in values:
        return struct.pack("=I", values[key])
    if key == 16:
        return bytes(({"tcp": 6, "udp": 17}[packet.protocol],))
    return {6: packet.in_interface, 7: packet.out_interface}[key].encode().ljust(16, b"\0")


def _header(base: int, packet: Packet) -> bytes:
    if base == 2:
        return struct.pack(">HH", packet.source_port, packet.destination_port)
    return bytes(12 if packet.source.version == 4 else 8) + packet.source.packed + packet.destination.packed


def _list(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    return dict(_list(data))


def _expression(data: bytes) -> tuple[str, dict[int, bytes]]:
    attributes = _attributes(data)
    return attributes[1].rstrip(b"\0").decode(), _attributes(attributes[2])


def _number(data: bytes) -> int:
    number: int = struct.unpack(">I", data)[0]
    return number
