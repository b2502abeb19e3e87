"""Which listener and which filter chain take a connection, by Envoy's own rules.

Listeners go by exact address, then by any address of the family. Chains go, one after the other, by destination
port, destination address, server name, transport protocol, application protocol and source; at each step the most
specific rule that any chain still has wins, and what was decided is never taken back. See
https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ostria.analysis.simulation.model import Chain, ChainRule, Listener

ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - Compared, never bound.

TLS_INSPECTOR, HTTP_INSPECTOR = "tls_inspector", "http_inspector"

Prefixes = tuple[tuple[str, int], ...]


class Connection(NamedTuple):
    """What is known of a connection when its chain is chosen; "" and () where no inspector has looked.

    `source` is the caller's address; `local` says that it is on this machine.
    """

    address: str
    port: int
    server_name: str = ""
    transport: str = "raw_buffer"
    protocols: tuple[str, ...] = ()
    source: str = ""
    source_port: int = 0
    local: bool = False


def listener_at(listeners: Iterable[Listener], address: str, port: int) -> Listener | None:
    """The listener of an address and port: one of exactly this address, else one of every address of its family."""
    every = ANY[ipaddress.ip_address(address).version]
    fallback = None
    for listener in listeners:
        for host, number in listener.addresses:
            if number == port and _same(host, address):
                return listener
            if number == port and host == every:
                fallback = fallback or listener
    return fallback


def _same(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return False


def inspects(listener: Listener, name: str, port: int) -> bool:
    """Whether an inspector looks at connections to a port.

    The TLS inspector is there uncalled where a chain asks for what only it can find.
    """
    for inspector in listener.inspectors:
        if inspector.name == name:
            return inspector.disabled is None or not inspector.disabled.holds(port)
    return name == TLS_INSPECTOR and any(
        chain.rule.transport == "tls"
        or (not chain.rule.transport and bool(chain.rule.server_names or chain.rule.protocols))
        for chain in listener.chains
    )


def chosen(listener: Listener, connection: Connection) -> Chain | None:
    """The chain that takes a connection; None closes it."""
    found = _best(listener.chains, connection)
    return found[0] if found else listener.default


def duplicates(listener: Listener) -> tuple[str, ...]:
    """The names of chains that ask for the very same as another one: Envoy takes no such listener."""
    seen: dict[tuple[object, ...], str] = {}
    found: dict[str, None] = {}
    for chain in listener.chains:
        for key in _expanded(chain.rule):
            if key in seen:
                found |= {seen[key]: None, chain.name: None}
            seen.setdefault(key, chain.name)
    return tuple(found)


def _expanded(rule: ChainRule) -> Iterable[tuple[object, ...]]:
    for prefix in map(_network, rule.prefixes or (("", 0),)):
        for name in rule.server_names or ("",):
            for protocol in rule.protocols or ("",):
                for source in map(_network, rule.source_prefixes or (("", 0),)):
                    for port in rule.source_ports or (0,):
                        yield (
                            rule.port, prefix, name.lower().removeprefix("*"), rule.transport, protocol,
                            tuple(map(_network, rule.direct_source_prefixes)), rule.source_type, source, port,
                        )  # fmt: skip


# --- one step after the other -------------------------------------------------------------------------------------


def _best(chains: Sequence[Chain], connection: Connection) -> Sequence[Chain]:
    steps: tuple[Callable[[Sequence[Chain]], Sequence[Chain]], ...] = (
        lambda left: _exact(left, lambda rule: (rule.port,) if rule.port else (), (connection.port,)),
        lambda left: _nearest(left, lambda rule: rule.prefixes, connection.address),
        lambda left: _named(left, connection.server_name),
        lambda left: _exact(left, lambda rule: (rule.transport,) if rule.transport else (), (connection.transport,)),
        lambda left: _exact(left, lambda rule: rule.protocols, connection.protocols),
        lambda left: _nearest(left, lambda rule: rule.direct_source_prefixes, connection.source),
        lambda left: _by_source_type(left, local=connection.local),
        lambda left: _nearest(left, lambda rule: rule.source_prefixes, connection.source),
        lambda left: _exact(left, lambda rule: rule.source_ports, (connection.source_port,)),
    )
    for step in steps:
        chains = step(chains)
        if not chains:
            return ()
    return chains


def _exact(
    chains: Sequence[Chain], asked: Callable[[ChainRule], tuple[object, ...]], given: Sequence[object]
) -> Sequence[Chain]:
    """The chains that ask for the first of what is given that any chain asks for, else those that do not ask."""
    for value in given:
        if found := [chain for chain in chains if value in asked(chain.rule)]:
            return found
    return [chain for chain in chains if not asked(chain.rule)]


def _named(chains: Sequence[Chain], name: str) -> Sequence[Chain]:
    """Exactly this name, else the longest `*.` that covers it, else those that ask for none."""
    name = name.lower()
    wanted = [name]
    at = name.find(".", 1)
    while -1 < at < len(name) - 1:
        wanted.append(f"*{name[at:]}")
        at = name.find(".", at + 1)
    return _exact(chains, lambda rule: tuple(each.lower() for each in rule.server_names), wanted if name else ())


def _nearest(chains: Sequence[Chain], asked: Callable[[ChainRule], Prefixes], address: str) -> Sequence[Chain]:
    """The chains with the longest prefix that holds the address; a chain that asks for none has one of length 0."""
    best, found = -1, []
    for chain in chains:
        length = max((_length(prefix, address) for prefix in asked(chain.rule)), default=0)
        if length > best:
            best, found = length, [chain]
        elif length == best and length >= 0:
            found.append(chain)
    return found


def _length(prefix: tuple[str, int], address: str) -> int:
    """The prefix's length if the address is in it, else -1."""
    network = _network(prefix)
    if not address or network is None:
        return -1
    return network.prefixlen if ipaddress.ip_address(address) in network else -1


def _network(prefix: tuple[str, int]) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(f"{prefix[0]}/{prefix[1]}", strict=False)
    except ValueError:
        return None


def _by_source_type(chains: Sequence[Chain], *, local: bool) -> Sequence[Chain]:
    wanted = "SAME_IP_OR_LOOPBACK" if local else "EXTERNAL"
    found = [chain for chain in chains if chain.rule.source_type == wanted]
    return found or [chain for chain in chains if chain.rule.source_type == "ANY"]
