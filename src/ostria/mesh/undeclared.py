"""Hosts that only VirtualServices know: on which ports they are routed although no service has them.

    VirtualService, services -> undeclared_of(rule) -> undeclared_hosts(port), claimants(name)

As in Istio these ports are HTTP's own, and those of the services that the VirtualService names beside the host. What
a proxy does not import is, to it, not declared; `egress` None is that it imports everything.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.base.hosts import is_wildcard, matches
from ostria.engine import Engine, Index, query
from ostria.mesh.model import Egress, Protocol
from ostria.mesh.services import canonical, declarations, services_of, wildcards_over
from ostria.mesh.settings import settings
from ostria.mesh.sidecars import known_rules
from ostria.mesh.virtual_services import MESH, bound, speaking
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Service as KubernetesService
from ostria.resources.service_entry import ServiceEntry
from ostria.resources.virtual_service import VirtualService

PORT_OF_UNDECLARED = 80


def _under(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService):
        yield from wildcards_over(f"{key.name}.{key.namespace}.svc")
    elif isinstance(value, ServiceEntry):
        yield from {wildcard for host in value.spec.hosts for wildcard in wildcards_over(host.lower())}


declared_under = Index("mesh.undeclared.declared_under", objects, _under)


@query
def undeclared_of(db: Engine, key: ObjectKey, egress: Egress | None) -> tuple[tuple[int, str], ...]:
    """The hosts of one VirtualService that no service has, each with the ports on which it is routed all the same.

    A wildcard stands for the services that it covers, and for itself on a port where it covers none.
    """
    value = objects(db, key)
    if not isinstance(value, VirtualService) or not value.spec.http:
        return ()
    hosts = sorted({canonical(db, host, key.namespace) for host in value.spec.hosts})
    ports = {PORT_OF_UNDECLARED}
    if len(hosts) > 1:
        declared = [port for host in hosts for found in declarations(db, host) for port in found.ports]
        ports |= {port.number for port in declared if port.protocol.is_http or port.protocol is Protocol.AUTO}
    return tuple((port, host) for port in sorted(ports) for host in hosts if not is_declared(db, host, port, egress))


@query
def is_declared(db: Engine, host: str, port: int, egress: Egress | None) -> bool:
    """Whether any service has a host on a port, or any that a wildcard covers."""
    if is_wildcard(host):
        keys = (key for form in _forms(db, host) for key in declared_under(db, form))
        services = (found for key in keys for found in services_of(db, key) if matches(host, found.host))
    else:
        services = (found for found in declarations(db, host))
    return any(
        found.port(port) and (egress is None or egress.covers(found.host, found.namespace)) for found in services
    )


def _forms(db: Engine, wildcard: str) -> tuple[str, ...]:
    """A wildcard as the index knows it, which keeps services of the cluster without the cluster's domain."""
    domain = settings(db).domain_suffix
    parent, services = wildcard.removeprefix("*."), f"svc.{domain}"
    if parent == services or parent.endswith(f".{services}"):
        return (wildcard, f"*.{parent.removesuffix(f'.{domain}')}")
    return (wildcard, "*.svc") if services.endswith(f".{parent}") else (wildcard,)


@query
def _undeclared(db: Engine, egress: Egress | None) -> tuple[tuple[int, str], ...]:
    rules = bound(db, MESH) if egress is None else known_rules(db, egress)
    return tuple(sorted({place for key in rules for place in undeclared_of(db, key, egress)}))


@query
def undeclared_hosts(db: Engine, port: int, egress: Egress | None) -> frozenset[str]:
    """Every host on a port that only VirtualServices of the mesh know there."""
    return frozenset(host for number, host in _undeclared(db, egress) if number == port)


def claimants(db: Engine, name: str, port: int, egress: Egress | None) -> tuple[ObjectKey, ...]:
    """The VirtualServices that say something of a name on a port although no service has it."""
    return tuple(key for key in speaking(db, (MESH, name)) if (port, name) in undeclared_of(db, key, egress))
