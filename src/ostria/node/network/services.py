"""Services and who stands behind them: the small shapes that the node's network needs, and what they come to.

Pure. `network` is fed with all Services and EndpointSlices; `virtual_ports` says what the packet rules must do,
`names` reads the same tables for DNS, and `inbound` takes the node ports from them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec

from ostria.node.network.addresses import Plan

Protocol = Literal["TCP", "UDP"]
Version = Literal[4, 6]
ServiceKey = tuple[str, str]
"""Namespace and name."""


class ServicePort(msgspec.Struct, frozen=True):
    """One port of a Service. What it leads to stands in the EndpointSlices, under its name."""

    port: int
    name: str = ""
    protocol: Protocol = "TCP"
    node_port: int = 0


class Service(msgspec.Struct, frozen=True):
    """A Service. `addresses` are its virtual ones, of either family; a headless one has none.

    `other_addresses` (external IPs, a load balancer's) are served like them. `affinity` is sessionAffinity ClientIP.
    """

    namespace: str
    name: str
    addresses: tuple[str, ...] = ()
    other_addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    external_name: str = ""
    affinity: bool = False
    publish_not_ready: bool = False

    @property
    def key(self) -> ServiceKey:
        """Namespace and name."""
        return self.namespace, self.name


class EndpointPort(msgspec.Struct, frozen=True):
    """A port of all endpoints of a slice, under the Service port's name."""

    port: int
    name: str = ""
    protocol: Protocol = "TCP"


class Endpoint(msgspec.Struct, frozen=True):
    """One pod of a slice, or an address without one."""

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    hostname: str = ""


class EndpointSlice(msgspec.Struct, frozen=True):
    """Endpoints of one Service; a Service may have several slices, one a family at least."""

    namespace: str
    name: str
    service: str
    ports: tuple[EndpointPort, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()


class Tables(msgspec.Struct, frozen=True):
    """All of them at one moment."""

    services: Mapping[ServiceKey, Service] = {}
    slices: Mapping[ServiceKey, tuple[EndpointSlice, ...]] = {}


class Backend(NamedTuple):
    """Where a connection may go."""

    address: bytes
    port: int


class Front(NamedTuple):
    """What a client may call: an address, and a port of the virtual port's protocol."""

    address: bytes
    port: int


class VirtualPort(NamedTuple):
    """One port of one Service in one family: its fronts, and the backends among which each connection chooses."""

    chain: str
    protocol: Protocol
    fronts: tuple[Front, ...]
    backends: tuple[Backend, ...]
    affinity: bool


AFFINITY_SLOTS = 256


def tables(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> Tables:
    """The tables of these objects. The order of a Service's slices is by their names."""
    by_service: dict[ServiceKey, list[EndpointSlice]] = {}
    for item in slices:
        by_service.setdefault((item.namespace, item.service), []).append(item)
    return Tables(
        {service.key: service for service in services},
        {key: tuple(sorted(found, key=lambda item: item.name)) for key, found in by_service.items()},
    )


def virtual_ports(
    service: Service, slices: Iterable[EndpointSlice], plan: Plan, version: Version
) -> tuple[VirtualPort, ...]:
    """What the packet rules of one family must do for a Service; ports without backends are left out.

    A port without backends is refused like an address that nobody has.
    """
    known = tuple(slices)
    fronts = tuple(
        parsed.packed
        for parsed in map(ipaddress.ip_address, (*service.addresses, *service.other_addresses))
        # The host's loopback is no address in here.
        if parsed.version == version and not parsed.is_loopback and parsed not in plan.dns
    )
    gateway = plan.gateway[0 if version == 4 else 1].packed
    found = []
    for port in service.ports:
        called = [Front(address, port.port) for address in fronts]
        if port.node_port and fronts:
            called.append(Front(gateway, port.node_port))
        backends = backends_of(known, port, version)
        if called and backends:
            name = f"{service.namespace}/{service.name}/{port.name}/{port.protocol}/{port.port}"
            chain = f"service-{blake2b(name.encode(), digest_size=8).hexdigest()}"
            found.append(VirtualPort(chain, port.protocol, tuple(called), backends, service.affinity))
    return tuple(found)


def backends_of(slices: Iterable[EndpointSlice], port: ServicePort, version: Version) -> tuple[Backend, ...]:
    """The ready endpoints of a port; if none is ready those that end but still serve, as kube-proxy has it."""
    ready: set[Backend] = set()
    ending: set[Backend] = set()
    for item in slices:
        for target in item.ports:
            if (target.name, target.protocol) != (port.name, port.protocol):
                continue
            for endpoint in item.endpoints:
                for address in endpoint.addresses:
                    parsed = ipaddress.ip_address(address)
                    if parsed.version != version:
                        continue
                    if endpoint.ready:
                        ready.add(Backend(parsed.packed, target.port))
                    elif endpoint.serving and endpoint.terminating:
                        ending.add(Backend(parsed.packed, target.port))
    return tuple(sorted(ready or ending))


def affinity_slots(backends: tuple[Backend, ...]) -> tuple[Backend, ...]:
    """Which backend each slot of client addresses goes to: for each slot the backend with the highest score.

    A client stays where it is while its backend stands; it moves only if its backend goes or if a new one, which
    takes its fair share of slots, takes this one. No state is kept, so a restart moves nobody. Kubernetes'
    affinity ends with a timeout and is never moved by a new backend: here it has no end, and a new one may.
    """
    return tuple(
        max(backends, key=lambda backend: blake2b(b"%d" % slot + backend.address + b"%d" % backend.port).digest())
        for slot in range(AFFINITY_SLOTS)
    )
