"""Capture settings and Istio's own rules for them: every packet must meet the same fate under both."""

from __future__ import annotations

import ipaddress
from random import Random
from typing import Any

import pytest

from doubles import conformance
from doubles.netfilter import Iptables
from doubles.packets import crossings, strays
from ostria.capture import Capture, plan, verdict

# Groups by name, as a node's /etc/group would number them.
GROUPS = {"java": 5001, "ftp": 5002}


def items(options: dict[str, Any], name: str) -> list[str]:
    return [item for item in str(options.get(name, "")).split(",") if item]


def ids(options: dict[str, Any], name: str) -> tuple[int, ...]:
    return tuple(GROUPS[item] if item in GROUPS else int(item) for item in items(options, name))


def networks(options: dict[str, Any], name: str) -> Any:
    return tuple(ipaddress.ip_network(item) for item in items(options, name))


def capture(options: dict[str, Any]) -> Capture:
    """The suite's options as our settings; what a case leaves out is empty there, where a pod's default is all."""
    return Capture(
        proxy_uids=ids(options, "proxyUID") or (1337,),
        proxy_gids=ids(options, "proxyGID") or (1337,),
        own_ports=(),
        inbound_ports="*" if options.get("inboundPortsInclude") == "*" else ids(options, "inboundPortsInclude"),
        inbound_ports_exclude=ids(options, "inboundPortsExclude"),
        outbound_ports=ids(options, "outboundPortsInclude"),
        outbound_ranges="*"
        if options.get("outboundIPRangesInclude") == "*"
        else networks(options, "outboundIPRangesInclude"),
        outbound_ranges_exclude=networks(options, "outboundIPRangesExclude"),
        interfaces_exclude=tuple(items(options, "excludeInterfaces")),
        interfaces_reroute=tuple(items(options, "rerouteVirtualInterfaces")),
        groups=ids(options, "ownerGroupsInclude") or "*",
        groups_exclude=ids(options, "ownerGroupsExclude"),
        dns_servers=tuple(ipaddress.ip_address(server) for server in options.get("dnsServersV4", ()))
        if options.get("redirectDNS")
        else (),
        drop_invalid=options.get("dropInvalid", False),
        ipv6=options.get("enableIpv6", False),
        loopback=ipaddress.IPv4Network(options.get("hostIpv4LoopbackCidr", "127.0.0.1/32"), strict=False),
    )


def families(golden: str) -> dict[int, Iptables]:
    """The rules by IP version: where a table comes a second time, those of IPv6 begin."""
    rules: dict[int, list[str]] = {4: [], 6: []}
    version, seen = 4, set[str]()
    for line in golden.splitlines():
        if line.startswith("*"):
            if line in seen:
                version = 6
            seen.add(line)
        rules[version].append(line)
    return {version: Iptables("\n".join(lines), GROUPS) for version, lines in rules.items()}


@pytest.mark.parametrize("case", conformance.cases("iptables"))
def test_iptables(case: dict[str, Any]) -> None:
    options = case["options"]
    if options.get("inboundInterceptionMode") == "TPROXY":
        pytest.skip("TPROXY is not built yet")
    theirs = families(conformance.text("iptables", case["expected"]))
    ours = plan(capture(options))
    random = Random(case["name"])
    for packet in (*strays(random, 1000), *crossings(ours, random), *crossings(ours, random)):
        assert verdict(ours, packet) == theirs[packet.source.version].verdict(packet), packet
