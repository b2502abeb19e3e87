"""Services' addresses and node ports: what is asked for if it is free, else one that follows from the Service's name.

So a Service that is made again has its address of before, unless another took it, and tests and logs read the same
from run to run. The lower part of each range is left to those who ask for a number, as
https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/ has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from ostria.kubeapi import causes
from ostria.kubeapi.causes import Prepared
from ostria.kubeapi.errors import Cause
from ostria.kubeapi.fields import at, objects
from ostria.kubeapi.requests import Document

NONE = "None"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
_STATIC_ADDRESSES = 256
_STATIC_PORTS = 86


class Ranges(NamedTuple):
    """What there is to give: a network for each family, the first one the default; ports, both ends included.

    `reserved` are addresses that are given to those who ask for them by number only.
    """

    services: tuple[IPv4Network | IPv6Network, ...]
    node_ports: tuple[int, int] = (30000, 32767)
    reserved: frozenset[str] = frozenset()


class _Taken(NamedTuple):
    addresses: set[str]
    ports: set[int]


def allocate(service: Document, old: Document | None, others: Iterable[Document], ranges: Ranges) -> Prepared:
    """The Service with its addresses, families and node ports.

    `service` has its defaults; `old` is what it replaces; `others` are all Services (itself among them does no harm).
    """
    found = deepcopy(service)
    spec = found["spec"]
    me = (found["metadata"].get("namespace"), found["metadata"]["name"])
    taken = _Taken(set(), set())
    for other in others:
        if (other["metadata"].get("namespace"), other["metadata"]["name"]) != me:
            taken.addresses.update(_addresses(other["spec"]))
            taken.ports.update(_node_ports(other["spec"]))
    if old is not None:
        _keep(spec, old["spec"])
    wrong: list[Cause] = []
    if spec.get("type") == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
    else:
        wrong += _families(spec, ranges)
        if not wrong:
            wrong += _cluster_ips(spec, old, taken, ranges, "/".join(map(str, me)))
    wrong += _ports(spec, taken, ranges, "/".join(map(str, me)))
    return Prepared(found, tuple(wrong))


def _addresses(spec: Document) -> list[str]:
    listed = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [each for each in listed if each != NONE]


def _node_ports(spec: Document) -> list[int]:
    found = [port["nodePort"] for port in objects(spec, "ports") if port.get("nodePort")]
    return [*found, spec["healthCheckNodePort"]] if spec.get("healthCheckNodePort") else found


def _keep(spec: Document, old: Document) -> None:
    """What was given stays given where the update says nothing, and goes where its type has no use for it."""
    if spec.get("type") != "ExternalName" and old.get("type") != "ExternalName":
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for name in ("clusterIP", "clusterIPs"):
                if name in old:
                    spec[name] = deepcopy(old[name])
        elif spec.get("clusterIP") != old.get("clusterIP") and spec.get("clusterIPs") == old.get("clusterIPs"):
            # Whoever knows the older field only has changed that one.
            spec.pop("clusterIPs", None)
        for name in ("ipFamilyPolicy", "ipFamilies"):
            if name not in spec and name in old:
                spec[name] = deepcopy(old[name])
    before = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in objects(old, "ports")}
    for port in objects(spec, "ports"):
        same = before.get((port.get("protocol"), port.get("port")))
        if _has_node_ports(spec):
            if not port.get("nodePort") and same and same not in _node_ports(spec):
                port["nodePort"] = same
        elif port.get("nodePort") == same and _has_node_ports(old):
            port.pop("nodePort", None)
    if _has_health_port(spec):
        if not spec.get("healthCheckNodePort") and old.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = old["healthCheckNodePort"]
    elif spec.get("healthCheckNodePort") == old.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if not _has_node_ports(spec) and spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)
    if spec.get("type") != "LoadBalancer" and old.get("type") == "LoadBalancer":
        spec.pop("allocateLoadBalancerNodePorts", None)


def _has_node_ports(spec: Document) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _has_health_port(spec: Document) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _family(network: IPv4Network | IPv6Network) -> str:
    return f"IPv{network.version}"


def _family_of(address: str) -> str:
    try:
        return f"IPv{ip_address(address).version}"
    except ValueError:
        return ""


def _families(spec: Document, ranges: Ranges) -> list[Cause]:
    """Settles ipFamilyPolicy and ipFamilies, from what is said and from the addresses that are asked for."""
    known = [_family(network) for network in ranges.services]
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    if spec.get("clusterIPs") and not spec.get("clusterIP"):
        spec["clusterIP"] = spec["clusterIPs"][0]
    asked: list[str] = list(spec.get("ipFamilies") or ())
    addresses = _addresses(spec)
    for place, family in enumerate(asked):
        if family not in known:
            return [causes.wrong(f"spec.ipFamilies[{place}]", family, "not configured on this cluster")]
        if family in asked[:place]:
            return [causes.duplicate(f"spec.ipFamilies[{place}]", family)]
    headless = spec.get("clusterIP") == NONE
    policy = spec.get("ipFamilyPolicy")
    if policy is None:
        policy = SINGLE
        if len(asked) > 1 or len(addresses) > 1:
            policy = REQUIRE
        elif headless and not spec.get("selector") and not asked:
            # Whoever writes such a Service's endpoints may write those of any family.
            policy = REQUIRE if len(known) > 1 else SINGLE
    if policy == REQUIRE and len(known) < 2:
        return [
            causes.wrong("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"),
        ]
    families = asked or [family for family in map(_family_of, addresses) if family in known] or known[:1]
    if policy == SINGLE:
        families = families[:1]
        if not headless and len(addresses) > 1:
            # Going back to one family gives the second address back.
            spec["clusterIPs"] = addresses[:1]
    else:
        families += [family for family in known if family not in families]
    spec["ipFamilyPolicy"], spec["ipFamilies"] = policy, families
    return []


def _cluster_ips(spec: Document, old: Document | None, taken: _Taken, ranges: Ranges, name: str) -> list[Cause]:
    if spec.get("clusterIP") == NONE:
        spec["clusterIPs"] = [NONE]
        return _unchanged(spec, old)
    asked = _addresses(spec)
    if asked and spec.get("clusterIP") != asked[0]:
        told = "must be the same as the first value of clusterIPs"
        return [causes.wrong("spec.clusterIP", spec.get("clusterIP"), told)]
    networks = {_family(network): network for network in ranges.services}
    given: list[str] = []
    for place, family in enumerate(spec["ipFamilies"]):
        network = networks[family]
        if place >= len(asked):
            free = _free_address(network, taken.addresses | ranges.reserved, name)
            if free is None:
                return [
                    causes.wrong("spec.clusterIPs", asked, f"failed to allocate a serviceIP: range {network} is full")
                ]
            given.append(free)
            continue
        address = asked[place]
        if not _family_of(address):
            told = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            return [causes.wrong(f"spec.clusterIPs[{place}]", address, told)]
        if _family_of(address) != family:
            told = f"expected an {family} value as indicated by `ipFamilies[{place}]`"
            return [causes.wrong(f"spec.clusterIPs[{place}]", address, told)]
        if ip_address(address) not in network:
            told = (
                f"failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. "
                f"The range of valid IPs is {network}"
            )
            return [causes.wrong("spec.clusterIPs", asked, told)]
        if address in taken.addresses:
            told = f"failed to allocate IP {address}: provided IP is already allocated"
            return [causes.wrong("spec.clusterIPs", asked, told)]
        given.append(address)
    if len(asked) > len(given):
        return [causes.wrong("spec.clusterIPs", asked, "may only hold up to 2 values")]
    spec["clusterIP"], spec["clusterIPs"] = given[0], given
    return _unchanged(spec, old)


def _unchanged(spec: Document, old: Document | None) -> list[Cause]:
    """An address stays, as long as the Service has one both before and after."""
    if old is None or at(old, "spec", "type") == "ExternalName":
        return []
    before: Sequence[str] = at(old, "spec", "clusterIPs") or ()
    for place, (was, now) in enumerate(zip(before, spec["clusterIPs"], strict=False)):
        if was != now:
            return [causes.wrong(f"spec.clusterIPs[{place}]", spec["clusterIPs"], "may not change once set")]
    return []


def _free_address(network: IPv4Network | IPv6Network, taken: set[str] | frozenset[str], name: str) -> str | None:
    # Neither the network's own address nor the last one.
    size = min(network.num_addresses - 2, 1 << 16)
    lowest = min(_STATIC_ADDRESSES, size // 16) if size >= 32 else 0
    upper = range(lowest + 1, size + 1)
    begin = _number(name) % len(upper)
    for step in (*upper[begin:], *upper[:begin], *range(1, lowest + 1)):
        address = str(network[step])
        if address not in taken:
            return address
    return None


def _ports(spec: Document, taken: _Taken, ranges: Ranges, name: str) -> list[Cause]:
    wrong: list[Cause] = []
    lowest, highest = ranges.node_ports
    mine: set[int] = set(_node_ports(spec))
    for place, port in enumerate(objects(spec, "ports")):
        field = f"spec.ports[{place}].nodePort"
        asked = port.get("nodePort")
        if asked and spec.get("type") not in ("NodePort", "LoadBalancer"):
            wrong.append(causes.forbidden(field, f"may not be used when `type` is '{spec.get('type')}'"))
        elif asked and not lowest <= asked <= highest:
            told = f"provided port is not in the valid range. The range of valid ports is {lowest}-{highest}"
            wrong.append(causes.wrong(field, asked, told))
        elif asked and asked in taken.ports:
            wrong.append(causes.wrong(field, asked, "provided port is already allocated"))
        elif not asked and _has_node_ports(spec):
            free = _free_port(ranges, taken.ports | mine, f"{name}:{port.get('port')}/{port.get('protocol')}")
            if free is None:
                told = "failed to allocate a nodePort: range is full"
                wrong.append(causes.wrong(field, 0, told))
            else:
                port["nodePort"] = free
                mine.add(free)
    if _has_health_port(spec) and not spec.get("healthCheckNodePort"):
        free = _free_port(ranges, taken.ports | mine, f"{name}:health")
        if free is not None:
            spec["healthCheckNodePort"] = free
    return wrong


def _free_port(ranges: Ranges, taken: set[int], name: str) -> int | None:
    lowest, highest = ranges.node_ports
    static = _STATIC_PORTS if highest - lowest > 4 * _STATIC_PORTS else 0
    upper = range(lowest + static, highest + 1)
    begin = _number(name) % len(upper)
    listed = (*upper[begin:], *upper[:begin], *range(lowest, lowest + static))
    return next((port for port in listed if port not in taken), None)


def _number(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
