"""What a gateway does with the connections to one of its ports: which chain takes which, and where it leads.

    gateway_ports, readers' connections -> gateway_chains(bind, port, client), gateway_listeners(client)

A port that nothing stands behind is not listened on, unless requests are read there: those are answered with 404.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import matches
from ostria.engine import Engine, query
from ostria.mesh.gateway_credentials import available
from ostria.mesh.gateways import connections_behind, gateway_ports, is_http_server, route_table
from ostria.mesh.model import (
    ClusterRef,
    ConnectionRoute,
    GatewayChain,
    GatewayListener,
    GatewayServer,
    GatewayTls,
    Protocol,
    ServerTls,
    WeightedTarget,
)
from ostria.mesh.outbound import outbound_clusters, outbound_scope
from ostria.mesh.services import service
from ostria.mesh.settings import mesh_handshakes, other_handshakes
from ostria.mesh.traits import ClientTraits


@query
def gateway_listeners(db: Engine, client: ClientTraits) -> tuple[GatewayListener, ...]:
    """Everything that a gateway workload listens for, sorted by address and port."""
    found = (
        GatewayListener(place.bind, place.port, gateway_chains(db, place.bind, place.port, client))
        for place in gateway_ports(db, client)
    )
    return tuple(listener for listener in found if listener.chains)


class Shadowed(NamedTuple):
    """A server name of a rule that nothing ever comes to: another has it at this port already."""

    origin: ObjectKey
    field: str
    name: str
    taken_by: ObjectKey


class _Shared(NamedTuple):
    chains: tuple[GatewayChain, ...]
    shadowed: tuple[Shadowed, ...] = ()


def gateway_chains(db: Engine, bind: str, port: int, client: ClientTraits) -> tuple[GatewayChain, ...]:
    """What is done with the connections to one port; of two claims to one server name the first has it."""
    return _shared(db, bind, port, client).chains


def shadowed_names(db: Engine, bind: str, port: int, client: ClientTraits) -> tuple[Shadowed, ...]:
    """The claims to server names of one port that came too late."""
    return _shared(db, bind, port, client).shadowed


@query
def _shared(db: Engine, bind: str, port: int, client: ClientTraits) -> _Shared:
    places = gateway_ports(db, client)
    servers = next((place.servers for place in places if (place.bind, place.port) == (bind, port)), ())
    if servers and servers[0].tls is None and is_http_server(servers[0]):
        origins = frozenset(server.gateway for server in servers)
        grpc_web = any(server.protocol is Protocol.GRPC_WEB for server in servers)
        return _Shared((GatewayChain(origins, table=route_table(servers[0]), grpc_web=grpc_web),))
    chains: list[GatewayChain] = []
    shadowed: list[Shadowed] = []
    taken: dict[tuple[str, bool], ObjectKey] = {}
    for server, chain in ((each, chain) for each in servers for chain in _chains(db, each, client)):
        if not chain.encrypted:
            return _Shared((*chains, chain))
        free: list[str] = []
        rule = chain.route.origin if chain.route else None
        for name in chain.server_names or ("",):
            first = taken.get((name, chain.mesh_only))
            if first is None:
                taken[name, chain.mesh_only] = rule or server.gateway
                free.append(name)
            elif rule is not None and chain.route is not None:
                shadowed.append(Shadowed(rule, chain.route.field, name or "*", first))
        if free:
            chains.append(chain._replace(server_names=() if free == [""] else tuple(free)))
    return _Shared(tuple(chains), tuple(shadowed))


def _chains(db: Engine, server: GatewayServer, client: ClientTraits) -> Iterator[GatewayChain]:
    origins = frozenset({server.gateway})
    names = _server_names(server)
    if server.tls is not None and server.tls.mode is ServerTls.AUTO_PASSTHROUGH:
        for cluster in sealed_clusters(db, server.hosts, client):
            route = ConnectionRoute((WeightedTarget(cluster, 100),))
            yield GatewayChain(
                origins, encrypted=True, server_names=(cluster.server_name,), mesh_only=True, route=route
            )
        return
    if is_http_server(server):
        tls = _opened(db, server.tls, client) if server.tls else None
        yield GatewayChain(origins, encrypted=True, server_names=names, tls=tls, table=route_table(server))
        return
    for route in connections_behind(db, server, client):
        who = origins | {route.origin} if route.origin else origins
        if server.tls is None:
            yield GatewayChain(who, route=route)
        else:
            tls = _opened(db, server.tls, client) if server.tls.ends_here else None
            yield GatewayChain(who, encrypted=True, server_names=route.server_names or names, tls=tls, route=route)


def _opened(db: Engine, tls: GatewayTls, client: ClientTraits) -> GatewayTls:
    """A server's TLS as this workload serves it, with what the mesh says where the server says nothing."""
    mesh = mesh_handshakes(db) if tls.mode is ServerTls.ISTIO_MUTUAL else other_handshakes(db)
    served = available(db, tls, client.namespace)
    return served._replace(
        min_version=served.min_version or mesh.min_version, ciphers=served.ciphers or mesh.ciphers, curves=mesh.curves
    )


def _server_names(server: GatewayServer) -> tuple[str, ...]:
    """The names that clients ask for; () where the server takes every name."""
    names = tuple(dict.fromkeys(host for _, host in server.hosts))
    return () if "*" in names else names


@query
def sealed_clusters(db: Engine, hosts: tuple[tuple[str, str], ...], client: ClientTraits) -> tuple[ClusterRef, ...]:
    """The clusters of the mesh's own services within a server's hosts, to which mutual TLS can be passed on."""
    seen = outbound_scope(db).project(client)
    return tuple(
        cluster._replace(sealed=True)
        for cluster in outbound_clusters(db, seen)
        if any(matches(pattern, cluster.host) for _, pattern in hosts)
        and (found := service(db, cluster.host, seen.namespace)) is not None
        and not found.external
    )


@query
def passed_to(db: Engine, client: ClientTraits) -> tuple[ClusterRef, ...]:
    """Every sealed cluster that a gateway workload needs."""
    found: dict[ClusterRef, None] = {}
    for place in gateway_ports(db, client):
        for server in place.servers:
            if server.tls is not None and server.tls.mode is ServerTls.AUTO_PASSTHROUGH:
                found |= dict.fromkeys(sealed_clusters(db, server.hosts, client))
    return tuple(found)
