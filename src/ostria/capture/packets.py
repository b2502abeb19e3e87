"""What a plan does to a packet, without a kernel: the answer that tests, analysis and people ask for.

A packet is the first of its flow, as netfilter's nat table sees it. Nothing here knows how rules are written down.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from ostria.capture.plan import (
    Chain,
    Drop,
    Field,
    Hook,
    Match,
    Plan,
    Redirect,
    Return,
    Rule,
    Table,
    Verdict,
    Zone,
)
from ostria.capture.settings import Address

_LOOPBACK: dict[int, Address] = {4: ipaddress.IPv4Address("127.0.0.1"), 6: ipaddress.IPv6Address("::1")}


class Packet(NamedTuple):
    """A packet at a hook. One that comes in has `in_interface` and no owner; one that goes out, `out_interface`."""

    hook: Hook
    source: Address
    destination: Address
    protocol: str = "tcp"
    source_port: int = 40000
    destination_port: int = 80
    in_interface: str = ""
    out_interface: str = ""
    uid: int = 0
    gid: int = 0
    mark: int = 0
    state: str = "new"


class Outcome(NamedTuple):
    """What becomes of a packet: let through (Return), redirected, dropped or reset; and its flow's zone, or 0."""

    verdict: Verdict
    zone: int = 0


def verdict(plan: Plan, packet: Packet) -> Outcome:
    """What becomes of the packet: every table's chain at its hook looks at it in turn."""
    outcome = Outcome(Return())
    for chain in _chains_met(plan, packet):
        if chain.table is Table.NAT and packet.state == "invalid":
            # No connection, no translation.
            continue
        for rule in chain.rules:
            if not _matches(rule, packet):
                continue
            if isinstance(rule.verdict, Zone):
                outcome = outcome._replace(zone=outcome.zone or rule.verdict.id)
                continue
            if isinstance(rule.verdict, Redirect):
                packet = _redirected(packet, rule.verdict.port)
            if not isinstance(rule.verdict, Return):
                outcome = outcome._replace(verdict=rule.verdict)
            break
        if isinstance(outcome.verdict, Drop):
            break
    return outcome


def _chains_met(plan: Plan, packet: Packet) -> Iterator[Chain]:
    order = list(Table)
    met = (chain for chain in plan.chains if chain.family == packet.source.version and chain.hook is packet.hook)
    return iter(sorted(met, key=lambda chain: order.index(chain.table)))


def _redirected(packet: Packet, port: int) -> Packet:
    # What the pod sends itself is moved to loopback; what comes in keeps the address that it came for.
    if packet.hook is Hook.PREROUTING:
        return packet._replace(destination_port=port)
    return packet._replace(destination=_LOOPBACK[packet.source.version], destination_port=port, out_interface="lo")


def _matches(rule: Rule, packet: Packet) -> bool:
    return all(_holds(match, packet) for match in rule.matches)


def _holds(match: Match, packet: Packet) -> bool:
    value: object = getattr(packet, match.field)
    if match.field in (Field.SOURCE, Field.DESTINATION):
        assert isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address)
        assert isinstance(match.value, ipaddress.IPv4Network | ipaddress.IPv6Network)
        return (value in match.value) is not match.negated
    return (value == match.value) is not match.negated
