"""Packets, and settings as hypothesis draws them: few values, chosen so that rules meet them often."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator
from random import Random

from hypothesis import strategies as st

from ostria.capture import Capture, Family, Hook, Packet, Plan

ADDRESSES = {
    4: [
        ipaddress.ip_address(text)
        for text in (
            "10.1.0.5", "10.1.0.9", "127.0.0.1", "127.0.0.6", "127.0.0.53", "127.1.2.3", "10.96.0.9", "9.9.1.1",
            "1.1.2.2", "93.184.216.34",
        )
    ],
    6: [
        ipaddress.ip_address(text)
        for text in ("fd00::5", "fd00::9", "::1", "::6", "fd00::53", "fd96::9", "2001:db8::7", "2606:2800::1")
    ],
}  # fmt: skip
PORTS = [53, 80, 4000, 5000, 6000, 15001, 15006, 15008, 15020, 15021, 15053, 15090, 31000, 32000]
UIDS = [0, 3, 4, 1000, 1337]
GIDS = [0, 1, 2, 202, 888, 5001, 5002, 1337]
MARKS = [0, 1337]
NETWORKS = [
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8", "10.96.0.0/12", "9.9.0.0/16", "1.1.0.0/16", "127.1.2.3/32", "0.0.0.0/0", "2001:db8::/32",
        "fd96::/108", "fd00::9/128", "::/0",
    )
]  # fmt: skip
INTERFACES = ["eth0", "eth1", "eth2", "not-istio-nic"]


def _any(random: Random, family: Family, hook: Hook) -> Packet:
    interface = random.choice(["lo", *INTERFACES])
    inbound = hook is Hook.PREROUTING
    return Packet(
        hook,
        random.choice(ADDRESSES[family]),
        random.choice(ADDRESSES[family]),
        protocol=random.choice(["tcp", "udp"]),
        source_port=random.choice([40000, 53, 15053]),
        destination_port=random.choice(PORTS),
        in_interface=interface if inbound else "",
        out_interface="" if inbound else interface,
        uid=0 if inbound else random.choice(UIDS),
        gid=0 if inbound else random.choice(GIDS),
        mark=0 if inbound else random.choice(MARKS),
        state=random.choice(["new", "new", "new", "invalid"]),
    )


def strays(random: Random, count: int) -> Iterator[Packet]:
    """Packets that no rule was thought of for."""
    for _ in range(count):
        yield _any(random, random.choice(list(Family)), random.choice(list(Hook)))


def crossings(plan: Plan, random: Random) -> Iterator[Packet]:
    """For every two rules of a chain, packets that both are about, or only just not: what one must not be, it may be.

    Where two rules meet, their order and each of their matches shows.
    """
    for chain in plan.chains:
        for rules in itertools.product(chain.rules, repeat=2):
            packet = _any(random, chain.family, chain.hook)
            for match in itertools.chain.from_iterable(rule.matches for rule in rules):
                if match.negated and random.random() < 0.7:
                    continue
                value = match.value
                if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
                    value = value[min(9, value.num_addresses - 1)]
                packet = packet._replace(**{str(match.field): value})
            yield packet


def _some(values: list[int], *, least: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.sampled_from(values), max_size=3, min_size=least, unique=True).map(tuple)


_NETWORKS = st.lists(st.sampled_from(NETWORKS), max_size=3, unique=True).map(tuple)
_INTERFACES = st.lists(st.sampled_from(INTERFACES), max_size=1).map(tuple)
_SERVERS = st.lists(st.sampled_from([*ADDRESSES[4], *ADDRESSES[6]]), max_size=2, unique=True).map(tuple)


def captures() -> st.SearchStrategy[Capture]:
    """Settings of a pod; the proxy is known in at least one way."""
    return st.builds(
        Capture,
        proxy_uids=_some(UIDS[1:]),
        proxy_gids=_some(GIDS[1:]),
        mark=st.sampled_from([None, 1337]),
        inbound_ports=st.just("*") | _some(PORTS),
        inbound_ports_exclude=_some(PORTS),
        outbound_ports=_some(PORTS),
        outbound_ports_exclude=_some(PORTS),
        outbound_ranges=st.just("*") | _NETWORKS,
        outbound_ranges_exclude=_NETWORKS,
        interfaces_exclude=_INTERFACES,
        interfaces_reroute=_INTERFACES,
        groups=st.just("*") | _some(GIDS, least=1),
        groups_exclude=_some(GIDS),
        dns_servers=st.just("*") | _SERVERS,
        drop_invalid=st.booleans(),
        ipv6=st.booleans(),
    ).filter(lambda capture: bool(capture.proxy_uids or capture.proxy_gids or capture.mark))
