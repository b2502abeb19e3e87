"""Which address is whose: the node network's plan, and the pods' addresses, which are kept for as long as a pod is.

Pure. A pod has the same index in the IPv4 and in the IPv6 range. The first addresses of the pod range are the node's
own: the gateway, and the address under which the host is known where that is allowed.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = ipaddress.IPv4Network | ipaddress.IPv6Network

GATEWAY = 1
HOST = 2
FIRST_POD = 4
# As every Kubernetes installer has it: the tenth address of the service range.
DNS = 10


class Plan(msgspec.Struct, frozen=True):
    """The ranges of a node's network, as CIDRs. `mtu` is in bytes.

    Raises ValueError when a range is not one, is too small, or when two overlap.
    """

    pods_v4: str = "10.244.0.0/16"
    pods_v6: str = "fd00:10:244::/64"
    services_v4: str = "10.96.0.0/12"
    services_v6: str = "fd00:10:96::/112"
    domain: str = "cluster.local"
    mtu: int = 1500

    def __post_init__(self) -> None:
        ranges = (*self.pods, *self.services)
        if any(pods.overlaps(services) for pods, services in zip(self.pods, self.services, strict=True)):
            raise ValueError("the ranges of pods and services overlap")
        if any(network.num_addresses < 32 for network in ranges):
            raise ValueError("a range of pods or services has fewer than 32 addresses")
        if not 1280 <= self.mtu <= 65535:
            raise ValueError(f"MTU {self.mtu}: IPv6 needs at least 1280, and 65535 is the most")

    @property
    def pods(self) -> tuple[Range, Range]:
        """The pods' ranges."""
        return ipaddress.IPv4Network(self.pods_v4), ipaddress.IPv6Network(self.pods_v6)

    @property
    def services(self) -> tuple[Range, Range]:
        """The ranges of virtual addresses."""
        return ipaddress.IPv4Network(self.services_v4), ipaddress.IPv6Network(self.services_v6)

    @property
    def gateway(self) -> tuple[Address, Address]:
        """The node's own addresses, the pods' next hop."""
        four, six = self.pods
        return four[GATEWAY], six[GATEWAY]

    @property
    def host(self) -> tuple[Address, Address]:
        """What `host.ostria.internal` stands for."""
        four, six = self.pods
        return four[HOST], six[HOST]

    @property
    def dns(self) -> tuple[Address, Address]:
        """Where names are asked for."""
        four, six = self.services
        return four[DNS], six[DNS]

    @property
    def capacity(self) -> int:
        """How many pods have room: the smaller range decides, and a bridge takes 1,023 ports."""
        return min(min(network.num_addresses for network in self.pods) - FIRST_POD - 1, 1023)


class PodAddresses(NamedTuple):
    """What a pod has been given; `number` is its place in both ranges."""

    number: int
    v4: Address
    v6: Address
    gateway_v4: Address
    gateway_v6: Address
    mtu: int


def addresses_of(plan: Plan, index: int) -> PodAddresses:
    """The addresses at an index."""
    four, six = plan.pods
    gateway_v4, gateway_v6 = plan.gateway
    return PodAddresses(index, four[index], six[index], gateway_v4, gateway_v6, plan.mtu)


class Leases(msgspec.Struct, frozen=True):
    """Who has which index, and where the search for the next one begins: this is what a node remembers of addresses."""

    pods: dict[str, int] = {}
    next: int = FIRST_POD


class NoAddressLeft(Exception):
    """All addresses are taken."""


def lease(leases: Leases, plan: Plan, pod: str) -> tuple[Leases, int]:
    """The pod's index: the one it has, else the next free one in turn, so that a freed address rests for a while."""
    known = leases.pods.get(pod)
    if known is not None:
        return leases, known
    taken = set(leases.pods.values())
    end = min(network.num_addresses for network in plan.pods) - 1
    if len(taken) >= plan.capacity:
        raise NoAddressLeft(f"all {plan.capacity} pod addresses of {plan.pods_v4} and {plan.pods_v6} are taken")
    index = leases.next
    while index in taken or not FIRST_POD <= index < end:
        index = index + 1 if FIRST_POD <= index < end else FIRST_POD
    return Leases({**leases.pods, pod: index}, index + 1), index


def release(leases: Leases, pod: str) -> Leases:
    """Without this pod."""
    return Leases({key: index for key, index in leases.pods.items() if key != pod}, leases.next)


def valid(leases: Leases, plan: Plan) -> bool:
    """Whether what was remembered fits the plan; it does not when the ranges were changed."""
    end = min(network.num_addresses for network in plan.pods) - 1
    return all(FIRST_POD <= index < end for index in leases.pods.values())


def resolv_conf(plan: Plan, namespace: str) -> str:
    """A pod's /etc/resolv.conf as kubelet writes it for dnsPolicy ClusterFirst."""
    domain = plan.domain
    search = f"{namespace}.svc.{domain} svc.{domain} {domain}"
    return f"search {search}\nnameserver {plan.dns[0]}\noptions ndots:5\n"
