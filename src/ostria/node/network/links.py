"""The node network's links, addresses and routes: what rtnetlink messages make a bridge, and a pod's two ends.

Pure: it builds messages; `network` sends them into the right namespace.

Pods do not talk to each other over the bridge: each has its address alone (/32, /128) and goes through the gateway.
So every packet passes the node's rules, replies of a virtual address too, and no bridge netfilter is needed.
Neighbours are permanent on both sides: nobody asks who has an address, and nobody can answer in another's place.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from ostria.capture.netlink import CREATE, EXCLUSIVE, Message, attribute, nest, text
from ostria.node.network.addresses import Address, Plan, PodAddresses, Range
from ostria.node.network.netlink import NLM_F_REPLACE, attributes, u32

BRIDGE = "ostria0"
POD_LINK = "eth0"
LOOPBACK = 1  # The loopback's interface index in every namespace.
BRIDGE_MAC = bytes.fromhex("0a5800000001")

# linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR = 20
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = (
    1,
    3,
    4,
    10,
    18,
    26,
    28,
)
_IFLA_OPERSTATE, _OPERATIONAL = 16, b"\x06"
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET6_ADDR_GEN_MODE, _NO_LINK_LOCAL = 8, 1
_IFF_UP = 1
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST, _RTN_UNREACHABLE = 254, 4, 1, 7
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_HOST = 0, 253, 254
_RTNH_F_ONLINK = 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_NUD_PERMANENT = 0x80


def pod_link(index: int) -> str:
    """The name of the node's end of a pod's link."""
    return f"pod{index}"


def pod_mac(index: int) -> bytes:
    """A locally administered hardware address that follows from the pod's index."""
    return struct.pack(">HI", 0x0A58, 0x01000000 | index)


def link_info(name: str) -> Message:
    """Ask for a link; the answer's interface index is at `link_index`."""
    return Message(RTM_GETLINK, 0, _link() + text(_IFLA_IFNAME, name), f"look for {name}")


def link_index(body: bytes) -> int:
    """The interface index in an answer."""
    (index,) = struct.unpack_from("=i", body, 4)
    return int(index)


def is_ready(body: bytes) -> bool:
    """Whether the link in an answer carries packets already: the kernel takes its time after it was set up."""
    return attributes(body, 16).get(_IFLA_OPERSTATE) == _OPERATIONAL


def remove_link(name: str) -> Message:
    """Remove a link, and the other end if it is a pair."""
    return Message(RTM_DELLINK, 0, _link() + text(_IFLA_IFNAME, name), f"remove {name}")


def make_bridge(plan: Plan) -> list[Message]:
    """The bridge itself. Its hardware address is given, for else it would change with its ports."""
    body = (
        _link()
        + text(_IFLA_IFNAME, BRIDGE)
        + attribute(_IFLA_MTU, u32(plan.mtu))
        + attribute(_IFLA_ADDRESS, BRIDGE_MAC)
        + nest(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"bridge"))
    )
    return [Message(RTM_NEWLINK, CREATE | EXCLUSIVE, body, f"make {BRIDGE}")]


def set_up_node(plan: Plan, bridge: int) -> list[Message]:
    """The node's own addresses and routes; may be sent again.

    What is in the pods' range and belongs to no pod is unreachable at once. The service range has a route so that
    the node's own sockets can name a virtual address: the rules turn it into an endpoint or refuse it.
    """
    messages = [_up(LOOPBACK), _without_link_local(bridge), _up(bridge)]
    for gateway, dns, pods, services in zip(plan.gateway, plan.dns, plan.pods, plan.services, strict=True):
        messages += [
            _address(bridge, gateway),
            _address(LOOPBACK, dns),
            _route(pods, kind=_RTN_UNREACHABLE),
            _route(services, out=bridge, source=gateway),
        ]
    return messages


def make_pair(pod: PodAddresses, bridge: int, namespace_fd: int) -> list[Message]:
    """A pod's link: one end is a port of the bridge and up, the other is `eth0` in the pod's namespace."""
    peer = (
        _link()
        + text(_IFLA_IFNAME, POD_LINK)
        + attribute(_IFLA_MTU, u32(pod.mtu))
        + attribute(_IFLA_ADDRESS, pod_mac(pod.number))
        + attribute(_IFLA_NET_NS_FD, u32(namespace_fd))
    )
    name = pod_link(pod.number)
    body = (
        _link(flags=_IFF_UP)
        + text(_IFLA_IFNAME, name)
        + attribute(_IFLA_MTU, u32(pod.mtu))
        + attribute(_IFLA_MASTER, u32(bridge))
        + nest(
            _IFLA_LINKINFO,
            attribute(_IFLA_INFO_KIND, b"veth"),
            nest(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, peer)),
        )
    )
    return [Message(RTM_NEWLINK, CREATE | EXCLUSIVE, body, f"make {name}")]


def reach_pod(pod: PodAddresses, bridge: int) -> list[Message]:
    """The node's routes to a pod; may be sent again."""
    messages = []
    for address in (pod.v4, pod.v6):
        messages += [_neighbour(bridge, address, pod_mac(pod.number)), _route(_alone(address), out=bridge)]
    return messages


def forget_pod(pod: PodAddresses, bridge: int) -> list[Message]:
    """Take the routes to a pod back."""
    messages = []
    for address in (pod.v4, pod.v6):
        neighbour = _neighbour(bridge, address, pod_mac(pod.number))
        route = _route(_alone(address), out=bridge)
        messages += [
            Message(RTM_DELROUTE, 0, route.body, f"forget the route to {address}"),
            Message(RTM_DELNEIGH, 0, neighbour.body, f"forget the neighbour {address}"),
        ]
    return messages


def set_up_pod(pod: PodAddresses, link: int) -> list[Message]:
    """A pod's side, sent into its namespace; may be sent again.

    ::6 on the loopback is IPv6's counterpart of 127.0.0.6, from which a sidecar calls its application.
    """
    messages = [_up(LOOPBACK), _address(LOOPBACK, ipaddress.IPv6Address("::6")), _without_link_local(link), _up(link)]
    for address, gateway in ((pod.v4, pod.gateway_v4), (pod.v6, pod.gateway_v6)):
        messages += [
            _address(link, address),
            _neighbour(link, gateway, BRIDGE_MAC),
            _route(_everywhere(gateway), out=link, via=gateway),
        ]
    return messages


def _link(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _up(index: int) -> Message:
    return Message(RTM_NEWLINK, 0, _link(index, _IFF_UP), f"set interface {index} up")


def _without_link_local(index: int) -> Message:
    """Without a link-local address nobody sends router solicitations or redirects on this link."""
    mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_NO_LINK_LOCAL]))
    body = _link(index) + nest(_IFLA_AF_SPEC, nest(socket.AF_INET6, mode))
    return Message(RTM_NEWLINK, 0, body, f"keep interface {index} without link-local addresses")


def _address(index: int, address: Address) -> Message:
    # Nobody else can have the address, so it is not asked for before it is used.
    flags = _IFA_F_PERMANENT | (_IFA_F_NODAD if address.version == 6 else 0)
    scope = _RT_SCOPE_HOST if index == LOOPBACK else _RT_SCOPE_UNIVERSE
    header = struct.pack("=BBBBI", _family(address), address.max_prefixlen, flags, scope, index)
    body = header + attribute(1, address.packed) + attribute(2, address.packed)
    return Message(RTM_NEWADDR, CREATE | NLM_F_REPLACE, body, f"add {address}")


def _route(
    to: Range, *, out: int = 0, via: Address | None = None, source: Address | None = None, kind: int = _RTN_UNICAST
) -> Message:
    scope = _RT_SCOPE_LINK if out and via is None and to.version == 4 else _RT_SCOPE_UNIVERSE
    flags = _RTNH_F_ONLINK if via is not None else 0
    family = _family(to.network_address)
    body = struct.pack(
        "=BBBBBBBBI", family, to.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, kind, flags
    ) + attribute(_RTA_DST, to.network_address.packed)
    if out:
        body += attribute(_RTA_OIF, u32(out))
    if via is not None:
        body += attribute(_RTA_GATEWAY, via.packed)
    if source is not None:
        body += attribute(_RTA_PREFSRC, source.packed)
    if to.version == 6:
        # IPv6 keeps routes of one destination apart by metric; REPLACE finds ours only if it names one.
        body += attribute(_RTA_PRIORITY, u32(512))
    return Message(RTM_NEWROUTE, CREATE | NLM_F_REPLACE, body, f"route {to}")


def _neighbour(index: int, address: Address, mac: bytes) -> Message:
    header = struct.pack("=BxxxiHBB", _family(address), index, _NUD_PERMANENT, 0, 0)
    body = header + attribute(1, address.packed) + attribute(2, mac)
    return Message(RTM_NEWNEIGH, CREATE | NLM_F_REPLACE, body, f"know the neighbour {address}")


def _alone(address: Address) -> Range:
    return ipaddress.ip_network(address)


def _everywhere(address: Address) -> Range:
    return ipaddress.ip_network("0.0.0.0/0" if address.version == 4 else "::/0")


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
