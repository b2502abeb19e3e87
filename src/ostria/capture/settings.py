"""What to capture: the settings of one pod, and how the annotations on it are read.

The words and their defaults are those of Istio's resource annotations (istio.io: Resource Annotations,
`traffic.sidecar.istio.io/*`). Nothing here knows how packets are matched.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from ostria.base import Level, ObjectKey, Problem

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Everything = Literal["*"]
Ports = tuple[int, ...]

# The user, the group and the mark by which Istio's users know the proxy.
PROXY_ID = 1337

_AGENT_PORT = 15020
_CONTROL_PORT = 15012

_PREFIX = "traffic.sidecar.istio.io/"
_STATUS_PORT = "status.sidecar.istio.io/port"
_INTERCEPTION = "sidecar.istio.io/interceptionMode"
# Linux takes 15 bytes of nearly anything (IFNAMSIZ). What people call an interface needs no quotes in a rule, and
# a "+" at the end would be iptables' wildcard.
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}")


class Mode(enum.StrEnum):
    """How inbound traffic reaches the proxy. NONE captures nothing at all."""

    REDIRECT = "REDIRECT"
    NONE = "NONE"


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides which of a pod's packets go through its proxy.

    The proxy's own packets are told apart by the owner of the socket or by a mark on it (SO_MARK): in a cluster by
    uid and gid, on one machine, where an ordinary user has one uid only, by the mark.
    """

    mode: Mode = Mode.REDIRECT
    proxy_uids: tuple[int, ...] = (PROXY_ID,)
    proxy_gids: tuple[int, ...] = (PROXY_ID,)
    mark: int | None = None

    outbound_port: int = 15001
    inbound_port: int = 15006
    tunnel_port: int = 15008
    # The proxy and its agent listen here themselves; nobody captures these.
    own_ports: Ports = (_AGENT_PORT, 15021, 15090)
    # Where the proxy and its agent call the control plane. With a mark these go uncaptured by their number: the
    # sockets of Envoy's own stream to the control plane are made by gRPC, which sets no mark.
    control_ports: Ports = ()

    inbound_ports: Ports | Everything = "*"
    # Istio: heeded only where all inbound ports are captured.
    inbound_ports_exclude: Ports = ()
    # Captured whatever their destination, beside the ranges.
    outbound_ports: Ports = ()
    outbound_ports_exclude: Ports = ()
    outbound_ranges: tuple[Network, ...] | Everything = "*"
    outbound_ranges_exclude: tuple[Network, ...] = ()
    interfaces_exclude: tuple[str, ...] = ()
    # Interfaces of virtual machines inside the pod, whose inbound traffic is the pod's outbound traffic (KubeVirt).
    interfaces_reroute: tuple[str, ...] = ()
    # Only processes of these groups, or all but those of these.
    groups: tuple[int, ...] | Everything = "*"
    groups_exclude: tuple[int, ...] = ()

    # The servers whose port 53 is answered by the agent instead; none leaves DNS alone. The agent listens on 127.0.0.1
    # and ::1 (an answer from elsewhere is not put back in the server's name), with the proxy's owner or mark.
    dns_servers: tuple[Address, ...] | Everything = ()
    dns_port: int = 15053
    drop_invalid: bool = False
    ipv6: bool = True
    loopback: ipaddress.IPv4Network = ipaddress.IPv4Network("127.0.0.1/32")


def marked() -> Capture:
    """The capture of one machine: Envoy is known by its mark."""
    return Capture(proxy_uids=(), proxy_gids=(), mark=PROXY_ID, control_ports=(_CONTROL_PORT,))


def read_annotations(
    annotations: Mapping[str, str], *, defaults: Capture, pod: ObjectKey | None = None
) -> tuple[Capture, tuple[Problem, ...]]:
    """The capture that a pod's annotations ask for, over the mesh's `defaults`.

    An annotation that cannot be read is a Problem, and the default stays in its place.
    """
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    for name, (field, read, hint) in _ANNOTATIONS.items():
        if (text := annotations.get(name)) is None:
            continue
        try:
            found[field] = read(text)
        except ValueError as why:
            message = f"{name}: {why}"
            problems.append(Problem("capture-annotation", Level.ERROR, message, pod, _field(name), hint=hint))
    if annotations.get(_INTERCEPTION, "").strip().upper() == "TPROXY":
        found["mode"] = Mode.REDIRECT
        problems.append(
            Problem(
                "capture-tproxy",
                Level.WARNING,
                "TPROXY is not there yet: connections are redirected, and the workload sees 127.0.0.6 as its peer",
                pod,
                _field(_INTERCEPTION),
                hint="the client's address stands in X-Forwarded-For",
            )
        )
    if (status := found.pop(_STATUS_PORT, None)) is not None:
        # Istio: the agent's port moves from 15020 to where the pod says.
        found["own_ports"] = (*status, *(port for port in defaults.own_ports if port != _AGENT_PORT))
    return msgspec.structs.replace(defaults, **found), tuple(problems)


def _field(annotation: str) -> str:
    return f"metadata.annotations[{annotation}]"


def _items(text: str) -> list[str]:
    return [item for item in (part.strip() for part in text.split(",")) if item]


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f'"{text}" is no port')
    return int(text)


def _status_port(text: str) -> Ports:
    # Istio: 0 says that there is no such port.
    return () if text.strip() == "0" else (_port(text.strip()),)


def _ports(text: str) -> Ports:
    return tuple(_port(item) for item in _items(text))


def _ports_or_all(text: str) -> Ports | Everything:
    return "*" if text.strip() == "*" else _ports(text)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is no range of addresses') from None


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(_network(item) for item in _items(text))


def _networks_or_all(text: str) -> tuple[Network, ...] | Everything:
    return "*" if text.strip() == "*" else _networks(text)


def _interfaces(text: str) -> tuple[str, ...]:
    names = tuple(_items(text))
    for name in names:
        if not _INTERFACE.fullmatch(name):
            raise ValueError(f'"{name}" is no name of an interface')
    return names


def _mode(text: str) -> Mode:
    wanted = text.strip().upper()
    if wanted not in ("REDIRECT", "TPROXY", "NONE"):
        raise ValueError(f'"{text}" is no mode')
    return Mode.NONE if wanted == "NONE" else Mode.REDIRECT


_Reader = tuple[str, Callable[[str], object], str]
_PORTS_HINT = 'write numbers from 1 to 65535 with commas, as in "8080,9090"'
_RANGES_HINT = 'write blocks of addresses with commas, as in "10.0.0.0/8,fd00::/8"'
_INTERFACES_HINT = 'write names of interfaces with commas, as in "eth1,net1"'

# Annotation -> the setting it stands for, how it is read, and what to tell who misspells it.
_ANNOTATIONS: dict[str, _Reader] = {
    _PREFIX + "includeInboundPorts": ("inbound_ports", _ports_or_all, _PORTS_HINT + ', or "*" for all'),
    _PREFIX + "excludeInboundPorts": ("inbound_ports_exclude", _ports, _PORTS_HINT),
    _PREFIX + "includeOutboundPorts": ("outbound_ports", _ports, _PORTS_HINT),
    _PREFIX + "excludeOutboundPorts": ("outbound_ports_exclude", _ports, _PORTS_HINT),
    _PREFIX + "includeOutboundIPRanges": ("outbound_ranges", _networks_or_all, _RANGES_HINT + ', or "*" for all'),
    _PREFIX + "excludeOutboundIPRanges": ("outbound_ranges_exclude", _networks, _RANGES_HINT),
    _PREFIX + "excludeInterfaces": ("interfaces_exclude", _interfaces, _INTERFACES_HINT),
    _PREFIX + "kubevirtInterfaces": ("interfaces_reroute", _interfaces, _INTERFACES_HINT),
    "istio.io/reroute-virtual-interfaces": ("interfaces_reroute", _interfaces, _INTERFACES_HINT),
    _INTERCEPTION: ("mode", _mode, "write REDIRECT or NONE"),
    _STATUS_PORT: (_STATUS_PORT, _status_port, "write a number from 1 to 65535, or 0 for none"),
}
