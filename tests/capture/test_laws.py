"""What holds for every pod's settings and every packet."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from doubles.netfilter import Iptables, Nftables
from doubles.packets import captures, crossings, strays
from ostria.capture import Capture, Family, Hook, Packet, ipt, nft, plan, verdict
from ostria.capture.plan import PASS, Redirect, Return

# A failure names its packet, which a smaller seed would not make smaller.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
OWN_PORTS = (15008, 15020, 15021, 15090)


def is_proxy(capture: Capture, packet: Packet) -> bool:
    return packet.hook is Hook.OUTPUT and (
        packet.uid in capture.proxy_uids or packet.gid in capture.proxy_gids or packet.mark == capture.mark
    )


@settings(max_examples=30, deadline=None, phases=UNSHRUNK)
@given(captures(), st.integers(0, 1 << 32).map(Random))
def test_a_plan_and_its_rules_for_iptables_and_nf_tables_do_the_same(capture: Capture, random: Random) -> None:
    rules = plan(capture)
    iptables = {int(family): Iptables(ipt.restore(rules, family)) for family in Family}
    fresh, anew = Nftables(nft.install(rules)), Nftables((*nft.install(plan(Capture())), *nft.replace(rules)))
    for packet in (*strays(random, 50), *crossings(rules, random)):
        outcome = verdict(rules, packet)
        assert iptables[packet.source.version].verdict(packet) == outcome, packet
        assert fresh.verdict(packet) == outcome, packet
        assert anew.verdict(packet) == outcome, packet


@settings(max_examples=60, deadline=None, phases=UNSHRUNK)
@given(captures(), st.integers(0, 1 << 32).map(Random))
def test_no_packet_goes_where_none_of_its_kind_may(capture: Capture, random: Random) -> None:
    rules = plan(capture)
    for packet in (*strays(random, 50), *crossings(rules, random)):
        outcome = verdict(rules, packet).verdict
        redirected = isinstance(outcome, Redirect)
        if is_proxy(capture, packet):
            # What the proxy sends has been through it.
            assert outcome not in (Redirect(capture.outbound_port), Redirect(capture.dns_port)), packet
            if packet.source == PASS[Family(packet.source.version)] and packet.out_interface == "lo":
                assert not redirected, f"the proxy's call of its own workload came back to it: {packet}"
        elif packet.hook is Hook.OUTPUT:
            # A workload's own packets are never taken for what comes in from outside.
            assert outcome != Redirect(capture.inbound_port), packet
        elif packet.in_interface not in capture.interfaces_reroute and packet.destination_port in OWN_PORTS:
            assert not redirected, f"the proxy's own port was captured: {packet}"
        if packet.protocol == "udp":
            assert outcome == Redirect(capture.dns_port) or not redirected, packet
        if packet.source.version == Family.IPV6 and not capture.ipv6:
            assert outcome == Return(), packet


@given(captures())
def test_every_plan_leaves_only_its_families_tables(capture: Capture) -> None:
    rules = plan(capture)
    families = {{Family.IPV4: 2, Family.IPV6: 10}[chain.family] for chain in rules.chains}
    before = nft.install(plan(Capture()))
    assert Nftables(nft.install(rules)).tables == families
    assert Nftables((*before, *nft.replace(rules))).tables == families
    assert Nftables((*before, *nft.remove())).tables == set()


@pytest.mark.parametrize("family", list(Family))
def test_iptables_rules_are_put_in_once_and_taken_out(family: Family) -> None:
    rules = plan(Capture(dns_servers="*", drop_invalid=True))
    first = ipt.restore(rules, family)
    installed = ipt.find_installed(first)
    assert len(installed) == 5
    again = ipt.restore(rules, family, installed=installed)
    assert "-A PREROUTING" not in again
    assert "-A OUTPUT" not in again
    smaller = ipt.restore(plan(Capture(inbound_ports=())), family, installed=installed)
    assert "*raw\n:ISTIO_INBOUND - [0:0]\n:ISTIO_OUTPUT - [0:0]\nCOMMIT\n" in smaller
    assert ipt.remove(installed).count("-D ") == 5
