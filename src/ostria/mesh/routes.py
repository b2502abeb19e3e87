"""What a sidecar does with a request for a host on a port: one virtual host a service, and those that only rules name.

    service, candidates, http_routes -> virtual_host(host, port, client) -> one entry of the port's route table

Clients that see the same thing share one value: ask with traits projected on `virtual_host_scope`.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination_labels, destination_scope, traffic_policy
from ostria.mesh.gateway_api import mesh_routes, mesh_scope
from ostria.mesh.model import (
    ClusterRef,
    Egress,
    Protocol,
    RequestMatch,
    Route,
    Service,
    ServicePort,
    TlsMode,
    VirtualHost,
    WeightedTarget,
)
from ostria.mesh.services import (
    aliases,
    at_address,
    declarations,
    declaring,
    hosts_in,
    is_visible,
    service,
    service_namespaces,
    service_scope,
)
from ostria.mesh.sidecars import egress_for, knows, knows_rule
from ostria.mesh.traits import ClientTraits, Scope
from ostria.mesh.undeclared import claimants, undeclared_hosts
from ostria.mesh.virtual_services import (
    MESH,
    Place,
    bound,
    candidates,
    default_retries,
    delegates_of,
    hash_key_of,
    http_routes,
    rule_scope,
    speaking,
    speaks_to,
)
from ostria.resources import by_kind

NOTHING = Egress(())


@query(few=True)
def virtual_host_scope(db: Engine, host: str, port: int) -> Scope:
    """What tells sidecars apart that call a host on a port."""
    namespaces = service_scope(db, host) | destination_scope(db, host)
    names: list[str] = []
    for found in declarations(db, host):
        names += [*_service_names(found, found.namespace), *found.addresses]
    for alias in aliases(db, host):
        namespaces |= {alias.namespace} | alias.visible_in - {"*"}
        names += [alias.host, *_short_names(alias.name, alias.namespace, alias.namespace)]
    claimed = [key for name in names for key in speaking(db, (MESH, name))]
    namespaces |= {found.namespace for found in declarations(db, host) if found.in_cluster}
    namespaces = namespaces.union(*(speaks_to(db, key) - {"*"} for key in claimed))
    scope = Scope(namespaces=namespaces, labels=destination_labels(db, host), sidecar=bool(claimed))
    for key in candidates(db, host):
        scope |= rule_scope(db, key) | Scope(sidecar=True)
    for found in declarations(db, host):
        scope |= mesh_scope(db, found.origin)
    return scope


def known_on(db: Engine, port: int, client: ClientTraits) -> Egress | None:
    """What a client knows on a port; None is everything."""
    return egress_for(db, client.sidecar, client.namespace, port) or NOTHING if client.sidecar else None


def rules_for(db: Engine, host: str, port: int, client: ClientTraits) -> tuple[ObjectKey, ...]:
    """The VirtualServices that may decide for a host on a port: those that the client sees and knows, in order."""
    return _known_rules(db, host, client, known_on(db, port, client))


def _known_rules(db: Engine, host: str, client: ClientTraits, egress: Egress | None) -> tuple[ObjectKey, ...]:
    seen = (key for key in candidates(db, host) if is_visible(speaks_to(db, key), client.namespace))
    return tuple(key for key in seen if egress is None or knows_rule(db, egress, key))


@query
def virtual_host(db: Engine, host: str, port: int, client: ClientTraits) -> VirtualHost | None:
    """The virtual host of a host on a port; None where the client sees no such host or cannot read its requests.

    The first VirtualService that has a route for this client and port decides; one that has none leaves the host to
    the next, and in the end to the service itself.
    """
    return host_as_known(db, host, port, client, known_on(db, port, client))


def host_as_known(db: Engine, host: str, port: int, client: ClientTraits, egress: Egress | None) -> VirtualHost | None:
    """The virtual host of a host on a port to who knows what `egress` imports; None imports everything."""
    found = service(db, host, client.namespace)
    described = found.port(port) if found and (egress is None or knows(db, egress, host)) else None
    if found is None or described is None:
        if host not in undeclared_hosts(db, port, egress):
            return None
        domains: tuple[str, ...] = (bracketed(host),)
    elif not (described.protocol.is_http or described.protocol is Protocol.AUTO):
        return None
    else:
        domains = _domains(db, found, port, client, egress)
    place = Place(MESH, port, client.namespace, client.labels)
    routes: tuple[Route, ...] = ()
    origins = set(found.origins) if found and described else set()
    for key in _known_rules(db, host, client, egress):
        if routes := http_routes(db, key, place):
            origins |= {key, *delegates_of(db, key)}
            break
    if not routes:
        if found is None or described is None:
            return None
        # A VirtualService is what somebody wrote for this mesh alone: it goes before the Gateway API's routes.
        said = mesh_routes(db, found.origin, port, client.namespace)
        routes = said.routes if said else (_default_route(db, found, described, client),)
        origins |= said.origins if said else set()
    return VirtualHost(name=f"{host}:{port}", domains=domains, routes=routes, origins=frozenset(origins))


def _default_route(db: Engine, found: Service, port: ServicePort, client: ClientTraits) -> Route:
    cluster = ClusterRef(found.host, port.number)
    hash_key = hash_key_of(db, cluster, client.namespace, client.labels)
    return Route(
        name="default",
        match=RequestMatch(),
        targets=(WeightedTarget(cluster, 100),),
        retries=default_retries(db),
        hash_keys=(hash_key,) if hash_key else (),
        origin=found.origin,
    )


def _domains(db: Engine, found: Service, port: int, client: ClientTraits, egress: Egress | None) -> tuple[str, ...]:
    """Every way in which a client may spell a service, each spelled by one virtual host only."""
    names = _service_names(found, client.namespace)
    for alias in aliases(db, found.host):
        if is_visible(alias.visible_in, client.namespace):
            names += [alias.host, *_short_names(alias.name, alias.namespace, client.namespace)]
    # What a ServiceEntry or a VirtualService says of such a spelling by itself goes first.
    own = [name for name in names if all(key.kind == "Service" for key in declaring(db, name))]
    own += [ip for ip in found.addresses if "/" not in ip and _first_at(db, ip) in found.origins]
    free = [name for name in own if not is_claimed(db, name, port, client, egress)]
    return tuple(dict.fromkeys((found.host, *map(bracketed, free))))


def is_claimed(db: Engine, name: str, port: int, client: ClientTraits, egress: Egress | None) -> bool:
    """Whether a VirtualService speaks for a name on a port that no service has there."""
    keys = (key for key in claimants(db, name, port, egress) if is_visible(speaks_to(db, key), client.namespace))
    return any(egress is None or knows_rule(db, egress, key) for key in keys)


def _service_names(found: Service, namespace: str) -> list[str]:
    """The short names of a service of the cluster; where it has no virtual IP, those of its pods too (web-0.web)."""
    short = _short_names(found.name, found.namespace, namespace) if found.in_cluster else []
    return [*short, *(f"*.{name}" for name in (found.host, *short))] if found.headless else short


def _short_names(name: str, of: str, namespace: str) -> list[str]:
    """The short forms of a Kubernetes Service's name, as clients in `namespace` know them."""
    return [*([name] if namespace == of else []), f"{name}.{of}", f"{name}.{of}.svc"]


def bracketed(address: str) -> str:
    """An IP address as it stands in a URL's authority (RFC 3986 section 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def _first_at(db: Engine, address: str) -> ObjectKey:
    keys = at_address(db, address)
    # Kubernetes gives every Service an address of its own; ServiceEntries may share one.
    return next((key for key in keys if key.kind == "Service"), keys[0])


@query
def is_sniffed(db: Engine, cluster: ClusterRef, namespace: str) -> bool:
    """Whether a cluster's server finds out from the first bytes what a client in `namespace` speaks to it.

    Under mutual TLS those bytes are hidden, and the client has to say it.
    """
    found = service(db, cluster.host, namespace)
    port = found.port(cluster.port) if found else None
    if found is None or found.external or port is None or port.protocol is not Protocol.AUTO:
        return False
    mode = traffic_policy(db, cluster.host, namespace, cluster.port, cluster.subset).tls.mode
    return mode in (TlsMode.AUTO, TlsMode.ISTIO_MUTUAL)


# --- the table of one port ----------------------------------------------------------------------------------------


class DeclaredPorts(NamedTuple):
    """The numbers of a host's ports, and of those whose requests are read through the port's shared table."""

    every: frozenset[int]
    routed: frozenset[int]


@query(few=True)
def declared_ports(db: Engine, host: str) -> DeclaredPorts:
    """What any declaration of a host says of its ports.

    A port whose protocol is to be found out has a listener and a table of its own where there is an address for it.
    """
    found = [
        (declared, port)
        for declared in declarations(db, host)
        for port in declared.ports
        if declared.port(port.number) is port  # Of two with one number (UDP and TCP) the first counts.
    ]
    routed = (
        port.number
        for declared, port in found
        if port.protocol.is_http or (port.protocol is Protocol.AUTO and not declared.addresses)
    )
    return DeclaredPorts(frozenset(port.number for _, port in found), frozenset(routed))


def is_routed(db: Engine, host: str, port: int) -> bool:
    """Whether the requests for a host on a port are read through the port's shared table."""
    return port in declared_ports(db, host).routed


@query
def routed_hosts(db: Engine, namespace: str, port: int) -> tuple[str, ...]:
    """The hosts of a namespace in one port's shared route table, sorted."""
    return tuple(host for host in hosts_in(db, namespace) if is_routed(db, host, port))


@query
def known_routed_hosts(db: Engine, namespace: str, port: int, egress: Egress) -> tuple[str, ...]:
    """Of the hosts of a namespace in one port's shared route table those that are imported, sorted."""
    return tuple(host for host in routed_hosts(db, namespace, port) if knows(db, egress, host))


def table_hosts(db: Engine, namespace: str, port: int, client: ClientTraits) -> tuple[str, ...]:
    """The hosts of a namespace in one port's shared route table, as far as the client knows them, sorted."""
    if client.sidecar is None:
        return routed_hosts(db, namespace, port)
    egress = egress_for(db, client.sidecar, client.namespace, port)
    return known_routed_hosts(db, namespace, port, egress) if egress else ()


@query
def table_scope_in(db: Engine, namespace: str, port: int) -> Scope:
    """What tells clients apart in the part of a port's table that a namespace's hosts make up."""
    scope = Scope(sidecar=True)
    for host in routed_hosts(db, namespace, port):
        scope |= virtual_host_scope(db, host, port)
    return scope


@query
def table_scope(db: Engine, port: int) -> Scope:
    """What tells clients apart in the whole route table of a port."""
    scope = Scope(sidecar=True)
    for namespace in service_namespaces(db):
        scope |= table_scope_in(db, namespace, port)
    for host in undeclared_hosts(db, port, None):
        scope |= virtual_host_scope(db, host, port)
    if by_kind(db, "Sidecar"):
        scope |= _rules_scope(db)  # To some client any host may be one that it does not import.
    return scope


@query
def _rules_scope(db: Engine) -> Scope:
    scope = Scope()
    for key in bound(db, MESH):
        scope |= rule_scope(db, key)
    return scope
