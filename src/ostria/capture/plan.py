"""Which packets go where: the settings as chains of rules, one chain for each table and hook of each family.

    Capture -> plan() -> Plan -> nft.batch | nft.text | ipt.restore, and packets.verdict for who asks without a kernel

The order of the rules is that of Istio's iptables rules, because pods' owners rely on what follows from it. Chains are
flat: a rule's verdict ends its chain (a Zone alone goes on), and what no rule matches is let through. Nothing here
knows how rules are written for a kernel.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from ostria.capture.settings import Address, Capture, Mode, Network


class Family(enum.IntEnum):
    """An IP family, by its version."""

    IPV4 = 4
    IPV6 = 6


class Table(enum.StrEnum):
    """When a chain sees a packet: netfilter's tables in the order in which they look."""

    RAW = "raw"
    MANGLE = "mangle"
    NAT = "nat"


class Hook(enum.StrEnum):
    """Where a chain sees a packet: as it comes in, or as a process of the pod sends it."""

    PREROUTING = "prerouting"
    OUTPUT = "output"


class Field(enum.StrEnum):
    """What of a packet a test looks at. UID, GID and MARK are those of the socket that sends it."""

    PROTOCOL = "protocol"
    IN_INTERFACE = "in_interface"
    OUT_INTERFACE = "out_interface"
    SOURCE = "source"
    DESTINATION = "destination"
    SOURCE_PORT = "source_port"
    DESTINATION_PORT = "destination_port"
    UID = "uid"
    GID = "gid"
    MARK = "mark"
    STATE = "state"


class Match(NamedTuple):
    """One condition on a packet: the field is the value or lies in the network, or, negated, is or does not.

    Ports are tested only beside a protocol that has them, which stands before them.
    """

    field: Field
    value: int | str | Network
    negated: bool = False


class Return(msgspec.Struct, frozen=True):
    """Leave the packet alone."""


class Redirect(msgspec.Struct, frozen=True):
    """Send the connection to a port of the pod itself; its own destination stays readable (SO_ORIGINAL_DST)."""

    port: int


class Drop(msgspec.Struct, frozen=True):
    """Forget the packet."""


class Zone(msgspec.Struct, frozen=True):
    """Track the flow in a zone of its own, unless it is in one already, and go on."""

    id: int


Verdict = Return | Redirect | Drop | Zone


class Rule(NamedTuple):
    """What happens to a packet that matches in all ways."""

    matches: tuple[Match, ...]
    verdict: Verdict


class Chain(NamedTuple):
    """The rules that a packet of one family meets at one table's hook, in order."""

    family: Family
    table: Table
    hook: Hook
    rules: tuple[Rule, ...]


class Plan(NamedTuple):
    """The chains (none of them empty) and the addresses that the loopback interface must have beside its own."""

    chains: tuple[Chain, ...] = ()
    addresses: tuple[Address, ...] = ()


# Where the proxy speaks to its own workload from. IPv4's loopback owns all of 127.0.0.0/8; ::6 has to be added.
PASS: dict[Family, Address] = {
    Family.IPV4: ipaddress.IPv4Address("127.0.0.6"),
    Family.IPV6: ipaddress.IPv6Address("::6"),
}

_DNS = 53
# The zones of the two halves of a captured UDP query: their five-tuples may be equal.
_ZONE_UPSTREAM, _ZONE_CLIENT = 1, 2

_TCP, _UDP = Match(Field.PROTOCOL, "tcp"), Match(Field.PROTOCOL, "udp")
_ON_LOOPBACK = Match(Field.OUT_INTERFACE, "lo")
_RETURN = Return()


def plan(capture: Capture) -> Plan:
    """The rules for a pod, for both families unless IPv6 is off."""
    if capture.mode is Mode.NONE:
        return Plan()
    families = (Family.IPV4, Family.IPV6) if capture.ipv6 else (Family.IPV4,)
    chains = (chain for family in families for chain in _chains(capture, family))
    return Plan(
        chains=tuple(chain for chain in chains if chain.rules),
        addresses=(PASS[Family.IPV6],) if capture.ipv6 else (),
    )


def _chains(capture: Capture, family: Family) -> Iterator[Chain]:
    sides = (
        (Table.RAW, Hook.PREROUTING, _answers_of_dns(capture, family)),
        (Table.RAW, Hook.OUTPUT, _zones_of_dns(capture, family)),
        (Table.MANGLE, Hook.PREROUTING, _invalid(capture)),
        (Table.NAT, Hook.PREROUTING, _inbound(capture, family)),
        (Table.NAT, Hook.OUTPUT, _outbound(capture, family)),
    )
    return (Chain(family, table, hook, tuple(rules)) for table, hook, rules in sides)


def _inbound(capture: Capture, family: Family) -> Iterator[Rule]:
    yield from _rerouted(capture, family)
    for interface in capture.interfaces_exclude:
        yield _rule(_RETURN, Match(Field.IN_INTERFACE, interface))
    redirect = Redirect(capture.inbound_port)
    for port in (capture.tunnel_port, *capture.own_ports):
        yield _rule(_RETURN, _TCP, _to_port(port))
    if capture.inbound_ports != "*":
        yield from (_rule(redirect, _TCP, _to_port(port)) for port in capture.inbound_ports)
        return
    yield from (_rule(_RETURN, _TCP, _to_port(port)) for port in capture.inbound_ports_exclude)
    yield _rule(redirect, _TCP)


def _rerouted(capture: Capture, family: Family) -> Iterator[Rule]:
    """A virtual machine's traffic comes in by its interface, and is the pod's outbound traffic."""
    for interface in capture.interfaces_reroute:
        inside = Match(Field.IN_INTERFACE, interface)
        redirect = Redirect(capture.outbound_port)
        if capture.outbound_ranges == "*":
            yield _rule(redirect, inside, _TCP)
        else:
            for block in _of(family, capture.outbound_ranges):
                yield _rule(redirect, inside, _TCP, Match(Field.DESTINATION, block))
        yield _rule(_RETURN, inside)


def _outbound(capture: Capture, family: Family) -> Iterator[Rule]:
    loopback = Match(Field.DESTINATION, _loopback(capture, family))
    redirect = Redirect(capture.outbound_port)
    for interface in capture.interfaces_exclude:
        yield _rule(_RETURN, Match(Field.OUT_INTERFACE, interface))
    for port in capture.control_ports:
        yield _rule(_RETURN, _TCP, _to_port(port))
    for port in capture.outbound_ports_exclude:
        yield _rule(_RETURN, _TCP, _to_port(port))
        yield _rule(_RETURN, _UDP, _to_port(port))
    yield _rule(_RETURN, _ON_LOOPBACK, Match(Field.SOURCE, ipaddress.ip_network(PASS[family])))
    for owner in _owners(capture):
        yield from _by_owner(capture, owner, loopback)
    for group in capture.groups_exclude:
        yield _rule(_RETURN, Match(Field.GID, group))
    if capture.groups != "*":
        yield _rule(_RETURN, *(Match(Field.GID, group, negated=True) for group in capture.groups))
    for matches in _to_dns(capture, family, Field.DESTINATION):
        for protocol in (_TCP, _UDP):
            yield _rule(Redirect(capture.dns_port), protocol, _to_port(_DNS), *matches)
    # Who says "localhost" means it.
    yield _rule(_RETURN, loopback)
    for block in _of(family, capture.outbound_ranges_exclude):
        yield _rule(_RETURN, Match(Field.DESTINATION, block))
    for port in capture.outbound_ports:
        yield _rule(redirect, _TCP, _to_port(port))
    if capture.outbound_ranges == "*":
        yield _rule(redirect, _TCP)
    else:
        for block in _of(family, capture.outbound_ranges):
            yield _rule(redirect, _TCP, Match(Field.DESTINATION, block))


def _by_owner(capture: Capture, owner: Match, loopback: Match) -> Iterator[Rule]:
    """What the proxy sends, and what processes beside it say to each other."""
    dns = bool(capture.dns_servers)
    # The proxy calls its own pod by the pod's address: that call is inbound like any other. A tunnel's end is the
    # proxy itself. Istio: with DNS captured the agent's own questions are left out by uid, but not by gid.
    spared = (capture.tunnel_port, _DNS) if dns and owner.field is not Field.GID else (capture.tunnel_port,)
    called = (Match(Field.DESTINATION_PORT, port, negated=True) for port in spared)
    yield _rule(Redirect(capture.inbound_port), _ON_LOOPBACK, _negate(loopback), _TCP, *called, owner)
    # Processes of one pod talk past the proxy, unless a range asks for loopback by name, or a DNS server lives there.
    if not _asks_for_loopback(capture):
        questions = (_TCP, Match(Field.DESTINATION_PORT, _DNS, negated=True)) if dns else ()
        yield _rule(_RETURN, _ON_LOOPBACK, *questions, _negate(owner))
    # Whatever else the proxy sends has been through it: capturing it again would never end.
    yield _rule(_RETURN, owner)


def _zones_of_dns(capture: Capture, family: Family) -> Iterator[Rule]:
    """The agent's questions and answers are told from the workload's, whose addresses and ports may be the same."""
    if not capture.dns_servers:
        return
    for owner in _owners(capture):
        yield _rule(Zone(_ZONE_UPSTREAM), _UDP, _to_port(_DNS), owner)
        yield _rule(Zone(_ZONE_CLIENT), _UDP, Match(Field.SOURCE_PORT, capture.dns_port), owner)
    for matches in _to_dns(capture, family, Field.DESTINATION):
        yield _rule(Zone(_ZONE_CLIENT), _UDP, _to_port(_DNS), *matches)


def _answers_of_dns(capture: Capture, family: Family) -> Iterator[Rule]:
    for matches in _to_dns(capture, family, Field.SOURCE):
        yield _rule(Zone(_ZONE_UPSTREAM), _UDP, Match(Field.SOURCE_PORT, _DNS), *matches)


def _to_dns(capture: Capture, family: Family, field: Field) -> Iterator[tuple[Match, ...]]:
    """For each captured server the matches that say so; none stand for every server."""
    if capture.dns_servers == "*":
        yield ()
        return
    for server in capture.dns_servers:
        if server.version == family:
            yield (Match(field, ipaddress.ip_network(server)),)


def _invalid(capture: Capture) -> Iterator[Rule]:
    # A segment out of its window would make the kernel reset the connection that the proxy holds.
    if capture.drop_invalid:
        yield _rule(Drop(), Match(Field.STATE, "invalid"))


def _owners(capture: Capture) -> Iterator[Match]:
    yield from (Match(Field.UID, uid) for uid in capture.proxy_uids)
    yield from (Match(Field.GID, gid) for gid in capture.proxy_gids)
    if capture.mark is not None:
        yield Match(Field.MARK, capture.mark)


def _asks_for_loopback(capture: Capture) -> bool:
    # Istio: asked in one family, given in both.
    return capture.outbound_ranges != "*" and any(
        block.network_address.is_loopback for block in capture.outbound_ranges
    )


def _loopback(capture: Capture, family: Family) -> Network:
    return capture.loopback if family is Family.IPV4 else ipaddress.IPv6Network("::1/128")


def _of(family: Family, blocks: Iterable[Network]) -> Iterator[Network]:
    return (block for block in blocks if block.version == family)


def _to_port(port: int) -> Match:
    return Match(Field.DESTINATION_PORT, port)


def _negate(match: Match) -> Match:
    return match._replace(negated=not match.negated)


def _rule(verdict: Verdict, *matches: Match) -> Rule:
    return Rule(matches, verdict)
