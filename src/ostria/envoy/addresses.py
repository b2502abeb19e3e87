"""Addresses of both families as Envoy writes them, and the places that every proxy knows by number."""

from __future__ import annotations

import ipaddress

from envoy.config.core.v3.address_pb2 import Address, BindConfig, CidrRange, ExtraSourceAddress, SocketAddress
from envoy.config.core.v3.socket_option_pb2 import SocketOption

ANY_V4, ANY_V6 = "0.0.0.0", "::"  # noqa: S104 - A proxy in a pod's own network namespace listens everywhere.

# The ports that Istio's users know (istio.io: Application Requirements).
ADMIN_PORT = 15000
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
XDS_PORT = 15012
AGENT_PORT = 15020
HEALTH_PORT = 15021
STATS_PORT = 15090

# Where the proxy speaks to its own workload from; capture lets packets from there through.
INBOUND_SOURCE_V4, INBOUND_SOURCE_V6 = "127.0.0.6", "::6"

_SOL_SOCKET, _SO_MARK = 1, 36  # Linux, asm-generic/socket.h.


def address(host: str, port: int) -> Address:
    """An IP address, or a host name where Envoy resolves one; a path ("/run/app.sock", "unix:…") is a Unix socket."""
    message = Address()
    if host.startswith(("/", "unix:", "@")):
        message.pipe.path = host.removeprefix("unix://").removeprefix("unix:")
    else:
        message.socket_address.address = host
        message.socket_address.port_value = port
    return message


def cidr_range(block: str) -> CidrRange:
    """An address or a block as a range: "10.0.0.0/8", "fd00::/8", "10.0.0.1"."""
    network = ipaddress.ip_network(block, strict=False)
    message = CidrRange(address_prefix=str(network.network_address))
    message.prefix_len.value = network.prefixlen
    return message


def mark_option(mark: int) -> SocketOption:
    """The mark by which capture tells the proxy's own packets from the workload's (SO_MARK, see socket(7))."""
    return SocketOption(
        description="mark", level=_SOL_SOCKET, name=_SO_MARK, int_value=mark, state=SocketOption.STATE_PREBIND
    )


def inbound_bind(mark: int | None) -> BindConfig:
    """What the proxy binds to before it connects to its own workload, in the family of the destination.

    A cluster's own bind configuration replaces the bootstrap's, so the mark has to stand here once more.
    """
    message = BindConfig(
        source_address=SocketAddress(address=INBOUND_SOURCE_V4, port_value=0),
        extra_source_addresses=[
            ExtraSourceAddress(address=SocketAddress(address=INBOUND_SOURCE_V6, port_value=0)),
        ],
    )
    if mark is not None:
        message.socket_options.append(mark_option(mark))
    return message
