"""Route tables by name: a port's (`80`), one host's where the protocol is found out (`host:port`), and gateways'.

A port's table is joined from parts, one a namespace, each joined from virtual hosts: a rule that changes costs its
virtual host, its namespace's part and the join.
"""

from __future__ import annotations

from ostria.engine import Engine, query
from ostria.envoy import routes
from ostria.envoy.clusters import requests_elsewhere
from ostria.envoy.fragments import Fragment, ResourceType, composed, fragment
from ostria.mesh.gateways import (
    gateway_hosts,
    gateway_virtual_host,
    is_gateway_table,
    no_virtual_host,
    servers_behind,
)
from ostria.mesh.model import ClusterRef, VirtualHost
from ostria.mesh.routes import (
    PORT_OF_UNDECLARED,
    is_sniffed,
    table_hosts,
    table_scope,
    table_scope_in,
    undeclared_hosts,
    virtual_host,
    virtual_host_scope,
)
from ostria.mesh.services import service_namespaces
from ostria.mesh.sidecars import outbound_policy
from ostria.mesh.traits import EACH, ClientTraits, ProxyType, Scope


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one route table."""
    if name.isdigit():
        return table_scope(db, int(name))
    if is_gateway_table(name):
        return EACH
    host, _, port = name.rpartition(":")
    return virtual_host_scope(db, host, int(port)) | Scope(sidecar=True) if port.isdigit() else Scope()


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One route table, as far as the client has it."""
    if name.isdigit():
        return _table(db, int(name), client)
    if is_gateway_table(name) and client.proxy_type is ProxyType.GATEWAY:
        return _gateway_table(db, name, client)
    host, _, port = name.rpartition(":")
    return _table_of_host(db, host, int(port), client) if port.isdigit() else None


# --- virtual hosts ------------------------------------------------------------------------------------------------


def host_scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one virtual host, named `port/host`."""
    port, _, host = name.partition("/")
    return virtual_host_scope(db, host, int(port)) if port.isdigit() else Scope()


def host_resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One virtual host by itself, named `port/host`."""
    port, _, host = name.partition("/")
    return encoded_host(db, host, int(port), client) if port.isdigit() else None


@query
def encoded_host(db: Engine, host: str, port: int, client: ClientTraits) -> Fragment | None:
    """The virtual host of a host on a port. Ask with traits projected on `virtual_host_scope`."""
    found = virtual_host(db, host, port, client)
    return _encoded(db, found, f"{port}/{host}", client.namespace) if found else None


def _encoded(db: Engine, host: VirtualHost, name: str, namespace: str) -> Fragment:
    clusters = {target.cluster for route in host.routes for target in route.targets}
    clusters |= {mirror.cluster for route in host.routes for mirror in route.mirrors}
    found = [cluster for cluster in clusters if isinstance(cluster, ClusterRef)]
    body = routes.virtual_host(host, sniffed={cluster.name for cluster in found if is_sniffed(db, cluster, namespace)})
    return fragment(name, body, host.origins, frozenset((ResourceType.CLUSTER, cluster.name) for cluster in found))


# --- sidecars' tables ---------------------------------------------------------------------------------------------


@query
def _part(db: Engine, namespace: str, port: int, client: ClientTraits) -> Fragment:
    hosts = table_hosts(db, namespace, port, client)
    return _joined(db, f"{namespace}:{port}", hosts, port, client)


@query
def _undeclared_part(db: Engine, client: ClientTraits) -> Fragment:
    return _joined(db, "", tuple(sorted(undeclared_hosts(db))), PORT_OF_UNDECLARED, client)


def _joined(db: Engine, name: str, hosts: tuple[str, ...], port: int, client: ClientTraits) -> Fragment:
    found = (encoded_host(db, host, port, virtual_host_scope(db, host, port).project(client)) for host in hosts)
    parts = [part for part in found if part is not None]
    return composed(name, b"".join(routes.member(part.body) for part in parts), parts)


@query
def _table(db: Engine, port: int, client: ClientTraits) -> Fragment:
    parts = [
        _part(db, namespace, port, table_scope_in(db, namespace, port).project(client))
        for namespace in service_namespaces(db)
    ]
    if port == PORT_OF_UNDECLARED:
        parts.append(_undeclared_part(db, client))
    return _complete(db, str(port), parts, client)


@query
def _table_of_host(db: Engine, host: str, port: int, client: ClientTraits) -> Fragment:
    return _complete(db, f"{host}:{port}", [_joined(db, "", (host,), port, client)], client)


def _complete(db: Engine, name: str, parts: list[Fragment], client: ClientTraits) -> Fragment:
    """A table of these parts, and what becomes of requests for hosts that are not in it."""
    policy = outbound_policy(db, client.sidecar, client.namespace)
    cluster = requests_elsewhere(policy)
    rest = routes.member(routes.elsewhere(cluster) if cluster else routes.BLOCK_ALL)
    body = routes.route_configuration(name, [*(part.body for part in parts), rest])
    table = composed(name, body, parts, rest)
    passing = {(ResourceType.CLUSTER, cluster)} if cluster and isinstance(policy.proxy, ClusterRef | None) else set()
    return table._replace(references=table.references | passing)


# --- gateways' tables ---------------------------------------------------------------------------------------------


@query
def _gateway_table(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    servers = servers_behind(db, name, client.namespace, client.labels)
    if not servers:
        return None
    found = (_gateway_host(db, name, host, client) for host in gateway_hosts(db, name, client))
    parts = [part for part in found if part is not None]
    if not parts:
        nothing = no_virtual_host(servers)
        parts = [_encoded(db, nothing, nothing.name, client.namespace)]
    return composed(name, routes.route_configuration(name, [routes.member(part.body) for part in parts]), parts)


@query
def _gateway_host(db: Engine, table: str, host: str, client: ClientTraits) -> Fragment | None:
    found = gateway_virtual_host(db, table, host, client)
    return _encoded(db, found, found.name, client.namespace) if found else None
