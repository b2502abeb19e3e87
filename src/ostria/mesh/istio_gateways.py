"""The reader of Istio's Gateways, and of the VirtualServices that are bound to them by name.

Gateway -> selection, servers
VirtualService.gateways, exportTo -> bound_to(gateway) -> hosts and routes behind a server
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.base.hosts import split_scoped
from ostria.engine import Engine, query
from ostria.mesh.connections import tcp_routes, tls_routes
from ostria.mesh.gateway_readers import GatewayReader, narrower
from ostria.mesh.model import (
    ConnectionRoute,
    GatewaySelection,
    GatewayServer,
    HostRoutes,
    Route,
)
from ostria.mesh.protocols import parse_protocol
from ostria.mesh.server_tls import server_tls
from ostria.mesh.services import age, canonical, is_visible, references_to, wildcards_over
from ostria.mesh.traits import ClientTraits
from ostria.mesh.virtual_services import Place, bound, http_routes, speaking, visible_in
from ostria.resources import by_kind, objects
from ostria.resources import gateway as api
from ostria.resources.virtual_service import VirtualService

# The Gateways that Istio makes of the Gateway API's name the Services that lead to their workloads.
SERVICES_ANNOTATION = "internal.istio.io/gateway-service"


def _gateway(db: Engine, key: ObjectKey) -> api.Gateway:
    value = objects(db, key)
    assert isinstance(value, api.Gateway), key
    return value


@query
def keys(db: Engine) -> tuple[ObjectKey, ...]:
    """All Gateways."""
    return tuple(by_kind(db, "Gateway"))


@query
def selection(db: Engine, key: ObjectKey) -> GatewaySelection:
    """The workloads that one Gateway selects."""
    value = _gateway(db, key)
    services = value.metadata.annotations.get(SERVICES_ANNOTATION)
    return GatewaySelection(
        labels=tuple(sorted(value.spec.selector.items())),
        services=None if services is None else tuple(host.strip() for host in services.split(",")),
    )


@query
def servers(db: Engine, key: ObjectKey) -> tuple[GatewayServer, ...]:
    """The servers of one Gateway."""
    return tuple(
        GatewayServer(
            gateway=key,
            position=position,
            port=server.port.number,
            service_port=server.port.number,
            protocol=parse_protocol(server.port.protocol),
            hosts=tuple(_host(db, host, key.namespace) for host in server.hosts),
            bind=server.bind,
            tls=server_tls(server.tls) if server.tls and parse_protocol(server.port.protocol).is_tls else None,
            https_redirect=bool(server.tls and server.tls.https_redirect and _reads_plain(server)),
            name=server.port.name,
        )
        for position, server in enumerate(_gateway(db, key).spec.servers)
    )


def _reads_plain(server: api.Server) -> bool:
    return parse_protocol(server.port.protocol).is_http


def _host(db: Engine, host: str, namespace: str) -> tuple[str, str]:
    """A server's host as (namespace of the routes or "*", host); "." is the Gateway's own namespace."""
    scoped = split_scoped(host)
    return (namespace if scoped.namespace == "." else scoped.namespace, canonical(db, scoped.host, namespace))


# --- what is bound ------------------------------------------------------------------------------------------------


@query
def bound_to(db: Engine, gateway: ObjectKey, namespace: str) -> tuple[ObjectKey, ...]:
    """The VirtualServices that are bound to a Gateway and seen by a workload in `namespace`, the oldest first."""
    found = bound(db, f"{gateway.namespace}/{gateway.name}")
    seen = (key for key in found if is_visible(visible_in(db, key), namespace))
    return tuple(sorted(seen, key=lambda key: (age(db, key), key)))


@query
def hosts_of(db: Engine, key: ObjectKey) -> tuple[str, ...]:
    """The hosts that one VirtualService names."""
    value = objects(db, key)
    assert isinstance(value, VirtualService)
    return tuple(canonical(db, host, key.namespace) for host in value.spec.hosts)


def served_hosts(db: Engine, server: GatewayServer, key: ObjectKey) -> list[str]:
    """The hosts of one VirtualService that a server takes: where both name hosts, the more specific of the two."""
    offered = [host for namespace, host in server.hosts if namespace in ("*", key.namespace)]
    found = (narrower(host, other) for host in hosts_of(db, key) for other in offered)
    return list(dict.fromkeys(host for host in found if host is not None))


@query
def hosts(db: Engine, server: GatewayServer, client: ClientTraits) -> tuple[str, ...]:
    """The hosts behind a server of which some VirtualService has rules for requests."""
    found = (served_hosts(db, server, key) for key in bound_to(db, server.gateway, client.namespace))
    return tuple(dict.fromkeys(host for each in found for host in each))


@query
def routes(db: Engine, server: GatewayServer, host: str, client: ClientTraits) -> HostRoutes:
    """The routes of a host behind a server, those of the oldest VirtualService first."""
    place = _place(server, client)
    found: list[Route] = []
    origins: set[ObjectKey] = set()
    for key in _speaking_for(db, server, host, client.namespace):
        said = http_routes(db, key, place)
        found += said
        origins |= {key} if said else set()
    return HostRoutes(tuple(found), frozenset(origins))


def _speaking_for(db: Engine, server: GatewayServer, host: str, namespace: str) -> list[ObjectKey]:
    """The VirtualServices whose hosts come to this one behind a server, the oldest first.

    They name it, or, where the server itself names it, a wider one.
    """
    gateway = f"{server.gateway.namespace}/{server.gateway.name}"
    named = {*references_to(db, host)}
    if any(host == offered for _, offered in server.hosts):
        named.update(wildcards_over(host))
    found = {key for each in named for key in speaking(db, (gateway, each))}
    seen = [
        key for key in found if is_visible(visible_in(db, key), namespace) and host in served_hosts(db, server, key)
    ]
    return sorted(seen, key=lambda key: (age(db, key), key))


def _place(server: GatewayServer, client: ClientTraits) -> Place:
    return Place(
        f"{server.gateway.namespace}/{server.gateway.name}",
        server.service_port,
        client.namespace,
        client.labels,
        tls=server.tls is not None,
    )


@query
def connections(db: Engine, server: GatewayServer, client: ClientTraits) -> tuple[ConnectionRoute, ...]:
    """Where connections go that are not read: by `tcp` rules what is plain or opened here, by `tls` rules the rest.

    Of TCP rules only the first that applies counts: at a gateway nothing tells its connections apart. What is opened
    here and has none goes by `tls` rules too, which is how the Gateway API's TLSRoutes end at a gateway.
    """
    place = _place(server, client)
    speaking = [(key, served_hosts(db, server, key)) for key in bound_to(db, server.gateway, client.namespace)]
    speaking = [(key, served) for key, served in speaking if served]
    if server.tls is None or server.tls.ends_here:
        found = (route for key, _ in speaking for route in tcp_routes(db, key, place))
        first = next(found, None)
        if first is not None:
            return (first._replace(subnets=()),)
    if server.tls is None:
        return ()
    return tuple(
        narrowed
        for key, served in speaking
        for route in tls_routes(db, key, place)
        if (narrowed := _within(route, served)) is not None
    )


def _within(route: ConnectionRoute, served: list[str]) -> ConnectionRoute | None:
    """A route for those of its server names that are served; one for every name takes the served ones."""
    names = {found for name in route.server_names or ("*",) for host in served if (found := narrower(name, host))}
    return route._replace(server_names=() if "*" in names else tuple(sorted(names)), subnets=()) if names else None


READER = GatewayReader("Gateway", keys, selection, servers, hosts, routes, connections)
