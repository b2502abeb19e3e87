"""Which addresses the control plane may connect to when somebody's object tells it where to fetch something.

Whoever may write such an object could otherwise ask the control plane for what only it reaches: its own ports, its
node's, and the services that hand out a cloud's credentials.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_EMBEDDED = IPv6Network("::/96")

FORBIDDEN: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128"),  # This machine.
            *("169.254.0.0/16", "fe80::/10"),  # Its link, where most clouds' metadata are.
            *("224.0.0.0/4", "240.0.0.0/4", "ff00::/8"),  # Nobody in particular.
            # The metadata services of clouds that stand elsewhere: Alibaba, Azure, Oracle, Amazon, Google.
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128"),
        ),
    )
)


class AddressRules(NamedTuple):
    """`allowed` lifts what is forbidden by itself; `blocked` is forbidden whatever is allowed."""

    allowed: tuple[Network, ...] = ()
    blocked: tuple[Network, ...] = ()

    def permit(self, address: str) -> bool:
        """Whether this IP address may be connected to, in whatever form it is written."""
        try:
            return all(self._permits(form) for form in _forms(address))
        except ValueError:
            return False

    def _permits(self, address: IPv4Address | IPv6Address) -> bool:
        if _within(address, self.blocked):
            return False
        return _within(address, self.allowed) or not _within(address, FORBIDDEN)


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a list with commas, as in `10.0.0.0/8, fd00::/8`. Raises ValueError, with words for people."""
    return tuple(ip_network(each.strip(), strict=False) for each in text.split(",") if each.strip())


def _within(address: IPv4Address | IPv6Address, known: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in known)


def _forms(address: str) -> Iterator[IPv4Address | IPv6Address]:
    """An address, and the IPv4 addresses that a network may take it for (RFC 4291, 6052, 3056, 4380)."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv4Address):
        yield found
        return
    inner = found.ipv4_mapped
    if inner is not None:
        yield inner
        return
    yield found
    if found.sixtofour is not None:
        yield found.sixtofour
    if found.teredo is not None:
        yield from found.teredo
    if found in _NAT64 or (found in _EMBEDDED and int(found) > 0xFFFF):
        yield IPv4Address(int(found) & 0xFFFFFFFF)
