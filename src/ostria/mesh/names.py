"""The names that a workload may look up, and the addresses that the mesh has for them (istio.io: DNS proxying).

    service, EndpointSlices -> names_of(host) -> names_in(namespace), which is what a proxy is told, part by part

A service's name means its virtual IPs, or those that the mesh gave it. A Kubernetes Service without an address means
its pods, each of which may have a name of its own besides. What has no address here (resolution NONE, blocks of
addresses, ExternalName) is left to the resolvers that the workload would ask anyway.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import is_ip
from ostria.engine import Engine, query
from ostria.mesh.endpoints import slices_of
from ostria.mesh.services import hosts_in, service, service_namespaces, service_scope
from ostria.mesh.sidecars import egress_of, knows
from ostria.mesh.traits import Scope
from ostria.resources import objects
from ostria.resources.kubernetes import EndpointSlice


class Name(NamedTuple):
    """A fully qualified name, or `*.suffix` for every name under one, and its addresses of both families."""

    name: str
    addresses: tuple[str, ...]


class _Pod(NamedTuple):
    address: str
    hostname: str


@query
def names_of(db: Engine, host: str, namespace: str) -> tuple[Name, ...]:
    """The names that one host comes to for a client in `namespace`; () where its addresses are not known here."""
    found = service(db, host, namespace)
    if found is None or host == "*":
        return ()
    addresses = tuple(address for address in found.addresses_for(dns=True) if is_ip(address))
    if addresses or not found.headless:
        return (Name(host, addresses),) if addresses else ()
    pods = sorted({pod for key in slices_of(db, (found.namespace, found.name)) for pod in _pods_of(db, key)})
    own: dict[str, list[str]] = {}
    for pod in pods:
        if pod.hostname:
            own.setdefault(f"{pod.hostname}.{host}", []).append(pod.address)
    whole = [Name(host, tuple(dict.fromkeys(pod.address for pod in pods)))] if pods else []
    return (*whole, *(Name(name, tuple(held)) for name, held in sorted(own.items())))


@query
def _pods_of(db: Engine, key: ObjectKey) -> tuple[_Pod, ...]:
    """The addresses of one EndpointSlice that may be called, on whatever port."""
    value = objects(db, key)
    if not isinstance(value, EndpointSlice):
        return ()
    return tuple(
        _Pod(address, (each.hostname or "").lower())
        for each in value.endpoints
        if each.conditions.ready is not False
        for address in each.addresses
        if is_ip(address)
    )


@query
def names_scope(db: Engine, services_in: str) -> Scope:
    """What tells clients apart in the names of one namespace's hosts."""
    namespaces = (service_scope(db, host) for host in hosts_in(db, services_in))
    return Scope(namespaces=frozenset().union(*namespaces), sidecar=True)


@query
def names_in(db: Engine, services_in: str, namespace: str, sidecar: ObjectKey | None) -> tuple[Name, ...]:
    """The names of one namespace's hosts as a client sees and knows them; asked with traits as `names_scope` has it."""
    listeners = egress_of(db, sidecar, namespace) if sidecar else ()
    return tuple(
        name
        for host in hosts_in(db, services_in)
        if sidecar is None or any(knows(db, egress, host) for egress in listeners)
        for name in names_of(db, host, namespace if namespace in service_scope(db, host) else "")
    )


def name_parts(db: Engine) -> tuple[str, ...]:
    """The parts that all names come in: a namespace each, so that a change costs its own."""
    return service_namespaces(db)
