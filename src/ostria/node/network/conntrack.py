"""Connections that the kernel remembers: which of UDP's still lead to an endpoint that has gone.

Pure. UDP has no end that the kernel could see: a client that goes on asking would be led to the old endpoint for as
long as it asks. So after a change of a UDP port those entries are forgotten, and the next packet chooses anew. TCP
connections are left alone: they end by themselves.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from ostria.capture.netlink import Message, attribute, nest
from ostria.node.network.balancer import FAMILIES
from ostria.node.network.netlink import attributes
from ostria.node.network.services import Backend, Front, Version, VirtualPort

# linux/netfilter/nfnetlink_conntrack.h
_SUBSYSTEM, _GET, _DELETE = 1, 1, 2
_ORIGINAL, _REPLY = 1, 2
_ADDRESSES, _PROTOCOL = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
# Source and destination of each version.
_PLACES: dict[Version, tuple[int, int]] = {4: (1, 2), 6: (3, 4)}


def list_entries(version: Version) -> Message:
    """Ask for all remembered connections of a family (a dump)."""
    return Message(_SUBSYSTEM << 8 | _GET, 0, struct.pack(">BBH", FAMILIES[version].number, 0, 0), "list connections")


def forget_stale(
    version: Version, entries: Iterable[bytes], changed: Iterable[tuple[VirtualPort, VirtualPort | None]]
) -> list[Message]:
    """Messages that forget each UDP entry whose client called a changed port and was led to what is no backend now.

    Each must be sent alone: an entry may have ended meanwhile, which is an error that means nothing.
    """
    valid: dict[Front, frozenset[Backend]] = {}
    for before, after in changed:
        if before.protocol == "UDP":
            backends = frozenset(after.backends if after is not None else ())
            valid.update(dict.fromkeys(before.fronts, backends))
    if not valid:
        return []
    source, destination = _PLACES[version]
    found = []
    for entry in entries:
        parts = attributes(entry, 4)
        called, replied = attributes(parts[_ORIGINAL]), attributes(parts[_REPLY])
        protocol = attributes(called[_PROTOCOL])
        if protocol[_NUMBER][0] != socket.IPPROTO_UDP:
            continue
        front = Front(attributes(called[_ADDRESSES])[destination], _port(protocol[_DESTINATION_PORT]))
        led_to = attributes(replied[_ADDRESSES])[source]
        backend = Backend(led_to, _port(attributes(replied[_PROTOCOL])[_SOURCE_PORT]))
        if backend not in valid.get(front, frozenset((backend,))):
            header = struct.pack(">BBH", FAMILIES[version].number, 0, 0)
            tuple_ = nest(_ORIGINAL, *(attribute(kind | 0x8000, value) for kind, value in sorted(called.items())))
            found.append(Message(_SUBSYSTEM << 8 | _DELETE, 0, header + tuple_, "forget a connection"))
    return found


def _port(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")
