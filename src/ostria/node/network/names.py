"""What names stand for inside the mesh's machine: Services, their endpoints, pods, and the host.

Pure: the tables of `services` in, records out, as the Kubernetes DNS specification 1.1.0 has them. Names of other
zones are nobody's business here: `dns` asks the host's resolver for them.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from typing import NamedTuple

from ostria.node.network.addresses import Address, Plan, Range
from ostria.node.network.dns_message import AAAA, ANY, CNAME, NAME_ERROR, NO_ERROR, PTR, SOA, SRV, TXT, A, Record
from ostria.node.network.dns_message import encode_name as wire
from ostria.node.network.services import Endpoint, EndpointSlice, Service, ServiceKey, Tables

TTL = 5
"""Seconds that an answer may be kept, a negative one too: as CoreDNS has it."""
HOST_NAME = "host.ostria.internal"


class Answer(NamedTuple):
    """What is known of a name; `follow` is a name outside, to which an ExternalName leads."""

    code: int
    records: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    follow: str = ""


class Names:
    """The names of one moment's tables."""

    def __init__(self, plan: Plan, *, allow_host: bool) -> None:
        self._plan = plan
        self._allow_host = allow_host
        self._domain = plan.domain
        self._services: dict[ServiceKey, Service] = {}
        self._slices: dict[ServiceKey, tuple[EndpointSlice, ...]] = {}
        self._of_address: dict[str, str] = {}
        self._namespaces: set[str] = set()

    def replace(self, tables: Tables) -> None:
        """Answer from these tables from now on."""
        self._services = dict(tables.services)
        self._slices = dict(tables.slices)
        self._namespaces = {namespace for namespace, _ in self._services}
        self._of_address = {}
        for service in self._services.values():
            name = f"{service.name}.{service.namespace}.svc.{self._domain}"
            for address in service.addresses:
                self._of_address[address] = name
            if not service.addresses:
                for endpoint in self._endpoints(service):
                    for address in endpoint.addresses:
                        self._of_address[address] = f"{_label(endpoint, address)}.{name}"

    def answer(self, name: str, kind: int) -> Answer | None:
        """What a name stands for; None if its zone is not ours. `name` is in lower case, without a final dot."""
        if name == self._domain or name.endswith(f".{self._domain}"):
            labels = name.removesuffix(self._domain).rstrip(".").split(".")
            return self._in_domain(name, [label for label in labels if label], kind)
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._reverse(name, kind)
        if name == "ostria.internal" or name.endswith(".ostria.internal"):
            known = name == HOST_NAME and self._allow_host
            records = _addresses(name, map(str, self._plan.host), kind) if known else []
            return self._found(records) if known else self._missing()
        return None

    def _in_domain(self, name: str, labels: list[str], kind: int) -> Answer:
        match labels:
            case [] | ["svc"] | ["pod"]:
                soa = (self._soa(),) if not labels and kind in (SOA, ANY) else ()
                return self._found(soa)
            case ["dns-version"]:
                return self._found([Record(name, TXT, TTL, b"\x051.1.0")] if kind in (TXT, ANY) else ())
            case [namespace, "svc" | "pod"]:
                return self._found(()) if namespace in self._namespaces else self._missing()
            case [dashed, _, "pod"]:
                address = _undashed(dashed)
                if address is None or not any(address in range_ for range_ in self._same_version(address)):
                    return self._missing()
                return self._found(_addresses(name, [str(address)], kind))
            case [*rest, service, namespace, "svc"]:
                found = self._services.get((namespace, service))
                return self._missing() if found is None else self._of_service(name, rest, found, kind)
        return self._missing()

    def _of_service(self, name: str, rest: list[str], service: Service, kind: int) -> Answer:
        full = f"{service.name}.{service.namespace}.svc.{self._domain}"
        if service.external_name:
            if rest:
                return self._missing()
            target = service.external_name.rstrip(".").lower()
            alias = Record(name, CNAME, TTL, wire(target))
            return Answer(NO_ERROR, (alias,), (), target if kind in (A, AAAA) else "")
        match rest:
            case []:
                if service.addresses:
                    return self._found(_addresses(name, service.addresses, kind))
                addresses = [each for endpoint in self._endpoints(service) for each in endpoint.addresses]
                # A headless Service that nobody stands behind has no name.
                return self._found(_addresses(name, addresses, kind)) if addresses else self._missing()
            case [port, protocol] if port.startswith("_") and protocol.startswith("_"):
                return self._ports(name, full, service, port[1:], protocol[1:].upper(), kind)
            case [protocol] if protocol in ("_tcp", "_udp"):
                return self._found(())
            case [host] if not service.addresses:
                addresses = [
                    address
                    for endpoint in self._endpoints(service)
                    for address in endpoint.addresses
                    if _label(endpoint, address) == host
                ]
                return self._found(_addresses(name, addresses, kind)) if addresses else self._missing()
        return self._missing()

    def _ports(self, name: str, full: str, service: Service, port: str, protocol: str, kind: int) -> Answer:
        """SRV: the port's number and who serves it; a headless Service's endpoints have the numbers of their own."""
        targets: list[tuple[int, str]] = []
        if service.addresses:
            targets = [(each.port, full) for each in service.ports if (each.name, each.protocol) == (port, protocol)]
        else:
            for item in self._slices.get(service.key, ()):
                for each in item.ports:
                    if (each.name, each.protocol) != (port, protocol):
                        continue
                    for endpoint in filter(lambda one: self._usable(service, one), item.endpoints):
                        targets += [
                            (each.port, f"{_label(endpoint, address)}.{full}") for address in endpoint.addresses
                        ]
        if not targets:
            return self._missing()
        records = [
            Record(name, SRV, TTL, struct.pack(">HHH", 0, 100 // max(1, len(targets)), number) + wire(target))
            for number, target in sorted(set(targets))
        ]
        return self._found(records if kind in (SRV, ANY) else ())

    def _reverse(self, name: str, kind: int) -> Answer | None:
        address = _reversed_address(name)
        if address is None or not any(address in range_ for range_ in self._same_version(address)):
            return None
        known = self._of_address.get(str(address))
        if known is None:
            return self._missing()
        return self._found([Record(name, PTR, TTL, wire(known))] if kind in (PTR, ANY) else ())

    def _endpoints(self, service: Service) -> list[Endpoint]:
        found = self._slices.get(service.key, ())
        return [endpoint for item in found for endpoint in item.endpoints if self._usable(service, endpoint)]

    def _usable(self, service: Service, endpoint: Endpoint) -> bool:
        return endpoint.ready or service.publish_not_ready

    def _same_version(self, address: Address) -> list[Range]:
        ranges = (*self._plan.pods, *self._plan.services)
        return [range_ for range_ in ranges if range_.version == address.version]

    def _soa(self) -> Record:
        domain = self._domain
        numbers = struct.pack(">IIIII", 1, 7200, 1800, 86400, TTL)
        return Record(domain, SOA, TTL, wire(f"ns.dns.{domain}") + wire(f"hostmaster.{domain}") + numbers)

    def _found(self, records: Iterable[Record]) -> Answer:
        """These records; without any the name exists and has none of this type, which the SOA record says."""
        known = tuple(records)
        return Answer(NO_ERROR, known, () if known else (self._soa(),))

    def _missing(self) -> Answer:
        return Answer(NAME_ERROR, (), (self._soa(),))


def _addresses(name: str, addresses: Iterable[str], kind: int) -> list[Record]:
    records = []
    for text in dict.fromkeys(addresses):
        address = ipaddress.ip_address(text)
        fitting = A if address.version == 4 else AAAA
        if kind in (fitting, ANY):
            records.append(Record(name, fitting, TTL, address.packed))
    return records


def _label(endpoint: Endpoint, address: str) -> str:
    """An endpoint's own label below its headless Service: its hostname, else its address with dashes."""
    return endpoint.hostname or address.replace(".", "-").replace(":", "-")


def _undashed(label: str) -> Address | None:
    for separator in (".", ":"):
        try:
            return ipaddress.ip_address(label.replace("-", separator))
        except ValueError:
            continue
    return None


def _reversed_address(name: str) -> Address | None:
    labels = name.split(".")[:-2][::-1]
    try:
        if name.endswith(".in-addr.arpa"):
            return ipaddress.IPv4Address(".".join(labels))
        if len(labels) != 32:
            return None
        return ipaddress.IPv6Address(int("".join(labels), 16))
    except ValueError:
        return None
