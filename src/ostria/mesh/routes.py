"""What a sidecar does with a request for a host on a port: one virtual host a service, and those that only rules name.

    service, speaking_for, http_routes -> virtual_host(host, port, client) -> one entry of the port's route table

Clients that see the same thing share one value: ask with traits projected on `virtual_host_scope`.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.base.hosts import is_wildcard
from ostria.engine import Engine, query
from ostria.mesh.destinations import destination_labels, destination_scope, traffic_policy
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
    canonical,
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
from ostria.mesh.virtual_services import (
    MESH,
    Place,
    bound,
    candidates,
    default_retries,
    hash_key_of,
    http_routes,
    rule_scope,
    speaking_for,
    visible_in,
)
from ostria.resources import objects
from ostria.resources.virtual_service import VirtualService

# Hosts that no service declares are routed on HTTP's own port, as Istio does.
PORT_OF_UNDECLARED = 80


@query
def virtual_host_scope(db: Engine, host: str, port: int) -> Scope:
    """What tells sidecars apart that call a host on a port."""
    namespaces = service_scope(db, host) | destination_scope(db, host)
    namespaces |= {found.namespace for found in declarations(db, host) if found.in_cluster}
    others = aliases(db, host)
    namespaces |= {alias.namespace for alias in others}.union(*(alias.visible_in - {"*"} for alias in others))
    scope = Scope(namespaces=namespaces, labels=destination_labels(db, host))
    for each in (host, *(alias.host for alias in others)):
        for key in candidates(db, each):
            scope |= rule_scope(db, key) | Scope(sidecar=True)
    return scope


@query
def rule_for(db: Engine, host: str, port: int, namespace: str, sidecar: ObjectKey | None) -> ObjectKey | None:
    """The VirtualService that decides for requests to a host on a port: the first that the client sees and knows."""
    if sidecar is None:
        return speaking_for(db, host, namespace)
    egress = egress_for(db, sidecar, namespace, port)
    found = (key for key in candidates(db, host) if is_visible(visible_in(db, key), namespace))
    return next((key for key in found if egress and knows_rule(db, egress, key)), None)


@query
def virtual_host(db: Engine, host: str, port: int, client: ClientTraits) -> VirtualHost | None:
    """The virtual host of a host on a port; None where the client sees no such host or cannot read its requests."""
    found = service(db, host, client.namespace)
    described = found.port(port) if found else None
    key = rule_for(db, host, port, client.namespace, client.sidecar)
    if found is None or described is None:
        declared = bool(declarations(db, host))
        if declared or key is None or port != PORT_OF_UNDECLARED or host not in undeclared_hosts(db):
            return None
        domains: tuple[str, ...] = (host,)
    elif not (described.protocol.is_http or described.protocol is Protocol.AUTO):
        return None
    else:
        domains = _domains(db, found, port, client)
    place = Place(MESH, port, client.namespace, client.labels)
    routes = http_routes(db, key, place) if key else ()
    spoken = bool(key and has_http_rules(db, key))
    if not spoken and found is not None and described is not None:
        routes = (_default_route(db, found, described, client),)
    origins = {key} if key and spoken else set()
    return VirtualHost(
        name=f"{host}:{port}",
        domains=domains,
        routes=routes,
        origins=frozenset(origins | (found.origins if found else set())),
    )


@query
def has_http_rules(db: Engine, key: ObjectKey) -> bool:
    """Whether a VirtualService says anything of requests; one that does not leaves them to the default route."""
    value = objects(db, key)
    return isinstance(value, VirtualService) and bool(value.spec.http)


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


def _domains(db: Engine, found: Service, port: int, client: ClientTraits) -> tuple[str, ...]:
    """Every way in which a client may spell a service, each spelled by one service only."""
    namespace = client.namespace
    names = [found.host]
    if found.in_cluster:
        names += _short_names(db, found.name, found.namespace, namespace)
        if found.headless:
            # Each of its pods may have a name of its own: web-0.web.
            names += [f"*.{name}" for name in names]
    for alias in aliases(db, found.host):
        if is_visible(alias.visible_in, namespace):
            # Who has rules of their own for a name takes it, in the only table that such rules are in.
            own = port == PORT_OF_UNDECLARED and rule_for(db, alias.host, port, namespace, client.sidecar)
            names += [] if own else [alias.host]
            names += _short_names(db, alias.name, alias.namespace, namespace)
    names += [bracketed(ip) for ip in found.addresses if "/" not in ip and _first_at(db, ip) in found.origins]
    return tuple(dict.fromkeys(names))


def _short_names(db: Engine, name: str, of: str, namespace: str) -> list[str]:
    """The short forms of a Kubernetes Service's name.

    A ServiceEntry may declare a host that is spelled like one of them, and goes first.
    """
    short = [*([name] if namespace == of else []), f"{name}.{of}", f"{name}.{of}.svc"]
    return [each for each in short if all(key.kind == "Service" for key in declaring(db, each))]


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


@query
def undeclared(db: Engine, key: ObjectKey) -> tuple[str, ...]:
    """The hosts that one VirtualService of the mesh names and no object declares, wildcards left out."""
    value = objects(db, key)
    if not isinstance(value, VirtualService) or not value.spec.http:
        return ()
    hosts = {canonical(db, host, key.namespace) for host in value.spec.hosts if not is_wildcard(host)}
    return tuple(sorted(host for host in hosts if not declarations(db, host)))


@query
def undeclared_hosts(db: Engine) -> frozenset[str]:
    """Every host that only VirtualServices of the mesh know."""
    return frozenset(host for key in bound(db, MESH) for host in undeclared(db, key))


@query
def is_routed(db: Engine, host: str, port: int) -> bool:
    """Whether any declaration lets the requests for a host on a port be read through the port's shared table.

    A port whose protocol is to be found out has a listener and a table of its own where there is an address for it.
    """
    return any(
        found.protocol.is_http or (found.protocol is Protocol.AUTO and not declared.addresses)
        for declared in declarations(db, host)
        if (found := declared.port(port))
    )


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
    for host in undeclared_hosts(db) if port == PORT_OF_UNDECLARED else ():
        scope |= virtual_host_scope(db, host, port)
    return scope
