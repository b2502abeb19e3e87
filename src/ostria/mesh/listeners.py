"""Where a sidecar catches what its workload sends, and what it does with it there.

    service -> places_of(host) -> outbound_places(client)
    service, VirtualService -> connection_routes(host, port) -> listener_anywhere(port), listener_at(address, port)

A service's virtual IPs have listeners of their own, except for HTTP: requests say whom they are for, and are read
wherever they go (istio.io: Understanding traffic routing). What has no address of its own shares a listener for every
address: there TLS is told apart by server name, subnets by the address that was called, and HTTP by its first bytes.
A Kubernetes service without a virtual IP is caught at the addresses of its endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import is_ip
from ostria.engine import Engine, Index, query
from ostria.mesh.allocation import owner_of, wanting
from ostria.mesh.connections import blocks, connection_rule_scope, routed, tcp_routes, tls_routes
from ostria.mesh.destinations import destination_labels, destination_scope
from ostria.mesh.endpoints import SERVICE_NAME, endpoints
from ostria.mesh.gateway_api import mesh_connections, mesh_scope
from ostria.mesh.http_proxies import LOOPBACK
from ostria.mesh.inbound import CONTROLLER, MANAGED_BY
from ostria.mesh.model import (
    ClusterRef,
    ConnectionRoute,
    Egress,
    OutboundListener,
    Protocol,
    Resolution,
    Service,
    ServicePort,
    WeightedTarget,
)
from ostria.mesh.routes import declared_ports, known_on, rules_for
from ostria.mesh.services import (
    age,
    at_address,
    declarations,
    hosts_in,
    service,
    service_namespaces,
    service_scope,
    services_of,
)
from ostria.mesh.settings import http_proxy_port
from ostria.mesh.sidecars import egress_for, egress_of, known_hosts, knows
from ostria.mesh.traits import ClientTraits, Scope
from ostria.mesh.undeclared import PORT_OF_UNDECLARED, undeclared_hosts
from ostria.mesh.virtual_services import MESH, candidates
from ostria.mesh.virtual_services import Place as Asked
from ostria.resources import Object, objects
from ostria.resources.kubernetes import EndpointSlice


class Place(NamedTuple):
    """An address and port that outgoing connections are caught for; address "" is every address."""

    address: str
    port: int


# What Kubernetes' own controller marks the slices of a headless Service with.
HEADLESS = "service.kubernetes.io/headless"


def _serving(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, EndpointSlice) and SERVICE_NAME in value.metadata.labels:
        by_controller = value.metadata.labels.get(MANAGED_BY) == CONTROLLER
        if by_controller and HEADLESS not in value.metadata.labels:
            return  # Kubernetes' own controller says which services have no address; of the others nobody asks here.
        yield from {address for each in value.endpoints for address in each.addresses}


serving_at = Index("mesh.listeners.serving_at", objects, _serving)


# --- where --------------------------------------------------------------------------------------------------------


@query(few=True)
def place_scope(db: Engine, host: str) -> Scope:
    """What tells clients apart in where connections to a host are caught."""
    given = any(found.allocated and not found.addresses for found in declarations(db, host))
    return Scope(namespaces=service_scope(db, host), dns=given)


@query
def places_of(db: Engine, host: str, client: ClientTraits) -> tuple[Place, ...]:
    """Where connections to one host are caught. Ask with traits projected on `place_scope`."""
    found = service(db, host, client.namespace)
    places: dict[Place, None] = {}
    for port in found.ports if found else ():
        if found is not None and _is_caught_anywhere(found, port, client):
            places[Place("", port.number)] = None
        if found is not None and not (port.protocol.is_http or port.protocol is Protocol.UDP):
            addresses = endpoint_addresses(db, host, client.namespace, port.number) if found.headless else ()
            places |= {Place(each, port.number): None for each in (*_virtual_ips(found, client), *addresses)}
    return tuple(places)


def _is_caught_anywhere(found: Service, port: ServicePort, client: ClientTraits) -> bool:
    if port.protocol.is_http or port.protocol is Protocol.UDP:
        return port.protocol.is_http
    return bool(_subnets(found)) or not (found.addresses_for(dns=client.dns) or found.headless)


def _virtual_ips(found: Service, client: ClientTraits) -> tuple[str, ...]:
    return tuple(address for address in found.addresses_for(dns=client.dns) if "/" not in address)


def _subnets(found: Service) -> tuple[str, ...]:
    return blocks(address for address in found.addresses if "/" in address)


@query
def endpoint_addresses(db: Engine, host: str, namespace: str, port: int) -> tuple[str, ...]:
    """The addresses at which one port of a service without virtual IP is called, sorted."""
    found = {address for each in endpoints(db, host, namespace, port) for address in each.addresses}
    return tuple(sorted(address for address in found if is_ip(address) and serving_at(db, address)))


@query
def _places_in(db: Engine, services_in: str, client: ClientTraits) -> tuple[Place, ...]:
    found: set[Place] = set()
    for host in hosts_in(db, services_in):
        found.update(places_of(db, host, place_scope(db, host).project(client)))
    return tuple(sorted(found))


@query
def _place_scope_in(db: Engine, services_in: str) -> Scope:
    scope = Scope()
    for host in hosts_in(db, services_in):
        scope |= place_scope(db, host)
    return scope


@query
def outbound_places_scope(db: Engine) -> Scope:
    """What tells clients apart in the list of all places."""
    scope = Scope(sidecar=True)
    for each in service_namespaces(db):
        scope |= _place_scope_in(db, each)
    return scope


@query
def outbound_places(db: Engine, client: ClientTraits) -> tuple[Place, ...]:
    """Everywhere that a client's connections are caught, sorted. Ask with traits projected on its scope."""
    if client.sidecar is not None:
        return _known_places(db, client)
    found: set[Place] = set()
    for each in service_namespaces(db):
        found.update(_places_in(db, each, _place_scope_in(db, each).project(client)))
    if undeclared_hosts(db, PORT_OF_UNDECLARED, None):
        found.add(Place("", PORT_OF_UNDECLARED))
    return tuple(sorted(found | _of_proxy(db)))


def _of_proxy(db: Engine) -> set[Place]:
    """Where each sidecar is an HTTP proxy to its workload."""
    port = http_proxy_port(db)
    return {Place(LOOPBACK, port)} if port else set()


def _known_places(db: Engine, client: ClientTraits) -> tuple[Place, ...]:
    """What a Sidecar leaves of the places."""
    assert client.sidecar is not None
    found = _of_proxy(db)
    for egress in egress_of(db, client.sidecar, client.namespace):
        if egress.names_all or (egress.address and egress.port):
            found.add(Place(egress.address, egress.port))
            continue
        for place in _places_by(db, egress, client):
            if egress_for(db, client.sidecar, client.namespace, place.port) == egress:
                found.add(place)
        if egress.takes_the_rest and undeclared_hosts(db, PORT_OF_UNDECLARED, egress):
            found.add(Place("", PORT_OF_UNDECLARED))
    return tuple(sorted(found))


def _places_by(db: Engine, egress: Egress, client: ClientTraits) -> Iterator[Place]:
    for host in sorted(known_hosts(db, egress)):
        yield from places_of(db, host, place_scope(db, host).project(client))


# --- what is done there -------------------------------------------------------------------------------------------


@query
def connection_scope(db: Engine, host: str) -> Scope:
    """What tells sidecars apart in where their connections to a host are caught, and where these go."""
    scope = place_scope(db, host) | Scope(namespaces=destination_scope(db, host), labels=destination_labels(db, host))
    for key in candidates(db, host):
        if (asked := connection_rule_scope(db, key)) is not None:
            scope |= asked | Scope(sidecar=True)
    for found in declarations(db, host):
        scope |= mesh_scope(db, found.origin)
    return scope


@query
def connection_routes(
    db: Engine, host: str, port: int, client: ClientTraits, address: str
) -> tuple[ConnectionRoute, ...]:
    """Where a sidecar's connections to one service port go, first match first; () where it has no such port.

    `address` is where they are caught, "" on every address. Rules of all VirtualServices for the host count, one
    after the other. Without any the service's own cluster gets everything that is known to be for it: by its address,
    by its subnets, or else by the server name.
    """
    found = service(db, host, client.namespace)
    described = found.port(port) if found else None
    if found is None or described is None or described.protocol.is_http or described.protocol is Protocol.UDP:
        return ()
    subnets = () if address else _subnets(found)
    place = Asked(MESH, port, client.namespace, client.labels)
    reader = tls_routes if described.protocol.is_tls else tcp_routes
    routes: list[ConnectionRoute] = []
    for key in rules_for(db, host, port, client):
        for route in reader(db, key, place):
            routes.append(route if route.subnets else route._replace(subnets=subnets))
            if not route.server_names and not route.subnets:
                return tuple(routes)
    if not routes:
        kind = "TLSRoute" if described.protocol.is_tls else "TCPRoute"
        for route in mesh_connections(db, found.origin, port, kind, client.namespace):
            routes.append(route._replace(subnets=subnets))
            if route.takes_all and not subnets:
                return tuple(routes)
    if described.protocol.is_tls and routes:
        return tuple(routes)  # Who names server names means only these.
    names = (host,) if described.protocol.is_tls and not address else ()
    targets = (WeightedTarget(ClusterRef(host, port), 100),)
    routes.append(routed(db, targets, place, names, subnets, found.origin))
    return tuple(routes)


def disjoint(routes: Iterable[ConnectionRoute]) -> tuple[ConnectionRoute, ...]:
    """The routes without what an earlier one has taken, subnet by subnet and name by name.

    Envoy refuses a listener of which two filter chains match the same, and one service must not harm another.
    """
    taken: dict[str, set[str]] = {}
    found: list[ConnectionRoute] = []
    for route in routes:
        left: dict[tuple[str, ...], list[str]] = {}
        for subnet in route.subnets or ("",):
            known = taken.setdefault(subnet, set())
            names = tuple(name for name in route.server_names or ("",) if name not in known)
            known.update(names)
            if names:
                left.setdefault(names, []).append(subnet)
        found += [
            route._replace(
                server_names=tuple(name for name in names if name), subnets=tuple(each for each in subnets if each)
            )
            for names, subnets in left.items()
        ]
    return tuple(found)


# --- on every address ---------------------------------------------------------------------------------------------


class _Caught(NamedTuple):
    """What one service adds to a listener: requests to be read, and connections. `since` puts services in order."""

    http: bool
    since: tuple[str, str] = ("", "")
    routes: tuple[ConnectionRoute, ...] = ()
    origin: ObjectKey | None = None
    looks_up: bool = False


_HTTP_ONLY = _Caught(http=True)
_HTTP_LOOKED_UP = _Caught(http=True, looks_up=True)


@query
def _caught(db: Engine, host: str, port: int, client: ClientTraits) -> _Caught | None:
    found = service(db, host, client.namespace)
    described = found.port(port) if found else None
    if found is None or described is None or not _is_caught_anywhere(found, described, client):
        return None
    if described.protocol.is_http:
        # The same for all, so that a service that comes or goes changes no listener.
        return _HTTP_LOOKED_UP if found.resolution is Resolution.DYNAMIC_DNS else _HTTP_ONLY
    routes = connection_routes(db, host, port, client, "")
    return _Caught(described.protocol is Protocol.AUTO, (age(db, found.origin), host), routes, found.origin)


@query
def _hosts_on(db: Engine, services_in: str, port: int) -> tuple[str, ...]:
    return tuple(host for host in hosts_in(db, services_in) if port in declared_ports(db, host).every)


@query
def _anywhere_scope_in(db: Engine, services_in: str, port: int) -> Scope:
    scope = Scope(sidecar=True)
    for host in _hosts_on(db, services_in, port):
        scope |= connection_scope(db, host)
    return scope


@query
def anywhere_scope(db: Engine, port: int) -> Scope:
    """What tells sidecars apart in what they do with connections to a port, whatever the address."""
    scope = Scope(sidecar=True)
    for each in service_namespaces(db):
        scope |= _anywhere_scope_in(db, each, port)
    return scope


@query
def _anywhere_in(db: Engine, services_in: str, port: int, client: ClientTraits) -> frozenset[_Caught]:
    found = (
        _caught(db, host, port, connection_scope(db, host).project(client)) for host in _hosts_on(db, services_in, port)
    )
    return frozenset(each for each in found if each is not None)


@query
def listener_anywhere(db: Engine, port: int, client: ClientTraits) -> OutboundListener:
    """What a sidecar does with connections to a port of any address. Ask with traits projected on `anywhere_scope`."""
    parts: set[_Caught] = set()
    for each in service_namespaces(db):
        parts |= _anywhere_in(db, each, port, _anywhere_scope_in(db, each, port).project(client))
    in_order = sorted(parts, key=lambda part: part.since)
    reads = any(part.http for part in parts)
    if port == PORT_OF_UNDECLARED and not reads:
        reads = bool(undeclared_hosts(db, port, known_on(db, port, client)))
    return OutboundListener(
        "",
        port,
        http=str(port) if reads else "",
        connections=disjoint(route for part in in_order for route in part.routes),
        origins=_origins(in_order),
        looks_up=any(part.looks_up for part in parts),
    )


# --- at an address ------------------------------------------------------------------------------------------------


@query
def _hosts_at(db: Engine, address: str) -> tuple[str, ...]:
    """The hosts that are called at an address, those of Kubernetes' own Services first, then the oldest."""
    keys = set(at_address(db, address))
    owner = owner_of(db, address)
    if owner is not None:
        keys |= set(wanting(db, owner))
    for part in serving_at(db, address):
        value = objects(db, part)
        name = value.metadata.labels.get(SERVICE_NAME, "") if value else ""
        keys.add(ObjectKey(part.cluster, "Service", part.namespace, name))
    order = sorted(keys, key=lambda key: (key.kind != "Service", age(db, key), key))
    return tuple(dict.fromkeys(found.host for key in order for found in services_of(db, key)))


@query
def listener_scope(db: Engine, address: str) -> Scope:
    """What tells sidecars apart in what they do with connections to an address."""
    scope = Scope(sidecar=True)
    for host in _hosts_at(db, address):
        scope |= connection_scope(db, host)
    return scope


@query
def listener_at(db: Engine, address: str, port: int, client: ClientTraits) -> OutboundListener | None:
    """What a sidecar does with connections to an address and port; None where no service is caught there.

    Ask with traits projected on `listener_scope`.
    """
    caught: list[_Caught] = []
    table = ""
    for host in _hosts_at(db, address):
        found = service(db, host, client.namespace)
        described = found.port(port) if found else None
        egress = known_on(db, port, client)
        known = egress is None or knows(db, egress, host)
        at = places_of(db, host, place_scope(db, host).project(client))
        if found is None or described is None or not known or Place(address, port) not in at:
            continue
        routes = connection_routes(db, host, port, connection_scope(db, host).project(client), address)
        caught.append(_Caught(http=False, routes=routes, origin=found.origin))
        if described.protocol is Protocol.AUTO and not table:
            table = f"{host}:{port}"
    if not caught:
        return None
    routes = disjoint(route for part in caught for route in part.routes)
    return OutboundListener(address, port, table, routes, _origins(caught))


def _origins(parts: Iterable[_Caught]) -> frozenset[ObjectKey]:
    own = {part.origin for part in parts}
    rules = {route.origin for part in parts for route in part.routes}
    return frozenset(origin for origin in own | rules if origin is not None)
