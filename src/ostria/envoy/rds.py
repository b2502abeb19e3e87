"""Route tables by name: a port's (`80`), one host's where the protocol is found out (`host:port`), and gateways'.

A port's table is joined from parts, one a namespace, each joined from virtual hosts: a rule that changes costs its
virtual host, its namespace's part and the join.
"""

from __future__ import annotations

from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from ostria.engine import Engine, query
from ostria.envoy import routes
from ostria.envoy.clusters import DYNAMIC_DNS, PASSTHROUGH, requests_elsewhere
from ostria.envoy.fragments import Fragment, ResourceType, composed, fragment
from ostria.envoy.patches import hook
from ostria.mesh.gateways import (
    gateway_hosts,
    gateway_virtual_host,
    is_gateway_table,
    no_virtual_host,
    servers_behind,
)
from ostria.mesh.http_proxies import (
    egress_of_table,
    host_in_table,
    hosts_in_table,
    is_named_table,
    named_scope_in,
    named_table_scope,
    undeclared_in_table,
)
from ostria.mesh.model import ClusterRef, Egress, VirtualHost
from ostria.mesh.routes import (
    is_sniffed,
    known_on,
    table_hosts,
    table_scope,
    table_scope_in,
    virtual_host,
    virtual_host_scope,
)
from ostria.mesh.services import service_namespaces
from ostria.mesh.sidecars import outbound_policy
from ostria.mesh.traits import EACH, ClientTraits, ProxyType, Scope
from ostria.mesh.undeclared import undeclared_hosts


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one route table."""
    if is_gateway_table(name):
        return EACH
    if is_named_table(name):
        return named_table_scope(db) | hook.table_scope(db, name) | hook.virtual_hosts_scope(db)
    if name.isdigit():
        return table_scope(db, int(name)) | hook.table_scope(db, name) | Scope(on_demand=True)
    host, _, port = name.rpartition(":")
    if not port.isdigit():
        return Scope()
    return virtual_host_scope(db, host, int(port)) | Scope(sidecar=True) | hook.table_scope(db, name)


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One route table, as far as the client has it."""
    if is_named_table(name):
        return _named_table(db, name, client)
    if name.isdigit():
        return _asking_table(db, name, client) if client.on_demand else _table(db, int(name), client)
    if is_gateway_table(name) and client.proxy_type is ProxyType.GATEWAY:
        return _gateway_table(db, name, client)
    host, _, port = name.rpartition(":")
    return _table_of_host(db, host, int(port), client) if port.isdigit() else None


# --- virtual hosts ------------------------------------------------------------------------------------------------


def scope_of(db: Engine, host: str, port: int) -> Scope:
    """What tells clients apart for one virtual host."""
    return virtual_host_scope(db, host, port) | hook.virtual_host_scope(db, f"{host}:{port}")


@query
def encoded_host(db: Engine, host: str, port: int, client: ClientTraits) -> Fragment | None:
    """The virtual host of a host on a port. Ask with traits projected on `scope_of`."""
    found = virtual_host(db, host, port, client)
    if found is None:
        return None
    return _encoded(db, found, f"{port}/{host}", (str(port), f"{host}:{port}"), client)


def _encoded(
    db: Engine, host: VirtualHost, name: str, tables: tuple[str, ...], client: ClientTraits
) -> Fragment | None:
    clusters = {target.cluster for route in host.routes for target in route.targets}
    clusters |= {mirror.cluster for route in host.routes for mirror in route.mirrors}
    found = [cluster for cluster in clusters if isinstance(cluster, ClusterRef)]
    sniffed = {cluster.name for cluster in found if is_sniffed(db, cluster, client.namespace)}
    references = frozenset((ResourceType.CLUSTER, cluster.name) for cluster in found)
    made = fragment(name, routes.virtual_host(host, sniffed=sniffed), host.origins, references)
    return hook.virtual_host(db, made, host.name, tables, client)


# --- sidecars' tables ---------------------------------------------------------------------------------------------


@query
def _part(db: Engine, namespace: str, port: int, client: ClientTraits) -> Fragment:
    hosts = table_hosts(db, namespace, port, client)
    return _joined(db, f"{namespace}:{port}", hosts, port, client)


@query
def _undeclared_part(db: Engine, port: int, client: ClientTraits) -> Fragment:
    hosts = undeclared_hosts(db, port, known_on(db, port, client))
    return _joined(db, "", tuple(sorted(hosts)), port, client)


def _joined(db: Engine, name: str, hosts: tuple[str, ...], port: int, client: ClientTraits) -> Fragment:
    found = (encoded_host(db, host, port, scope_of(db, host, port).project(client)) for host in hosts)
    parts = [part for part in found if part is not None]
    return composed(name, b"".join(routes.member(part.body) for part in parts), parts)


@query
def _table(db: Engine, port: int, client: ClientTraits) -> Fragment:
    patched = hook.virtual_hosts_scope(db)
    parts = [
        _part(db, namespace, port, (table_scope_in(db, namespace, port) | patched).project(client))
        for namespace in service_namespaces(db)
    ]
    if undeclared_hosts(db, port, known_on(db, port, client)):
        parts.append(_undeclared_part(db, port, client))
    return _complete(db, str(port), parts, client)


def _asking_table(db: Engine, name: str, client: ClientTraits) -> Fragment:
    """The table of a proxy on demand: it asks for each authority as it is written, port and all. It answers itself
    where no virtual host could hold the authority, which is empty or ends with an asterisk: as the whole table's end.

    A table that a person has patched as a whole is sent as a whole: what was added to it may answer for any host.
    """
    if hook.table_head(db, name, routes.route_configuration(name, []), client) is not None:
        return _table(db, int(name), client._replace(on_demand=False))
    end = elsewhere(db, name, client)
    members = [routes.member(routes.only_for(_UNHOLDABLE, end.body))] if end else []
    body = routes.route_configuration(name, members, ignore_port=False, on_demand=True)
    return fragment(name, body, end.origins, end.references) if end else fragment(name, body)


_UNHOLDABLE = StringMatcher(safe_regex=RegexMatcher(regex="(.*[*])?"))


@query
def _table_of_host(db: Engine, host: str, port: int, client: ClientTraits) -> Fragment:
    name = f"{host}:{port}"
    found = virtual_host(db, host, port, client)
    if found is None:
        return _complete(db, name, [], client)
    # The connection has said already which service it is for, whatever host its requests name.
    part = _encoded(db, found._replace(domains=("*",)), name, (name,), client)
    return _table_of(db, name, [part._replace(body=routes.member(part.body))] if part else [], client)


def _complete(db: Engine, name: str, parts: list[Fragment], client: ClientTraits) -> Fragment:
    """A table of these parts, and what becomes of requests for hosts that are not in it."""
    rest = elsewhere(db, name, client)
    if rest is not None:
        parts = [*parts, rest._replace(body=routes.member(rest.body))]
    return _table_of(db, name, parts, client)


def elsewhere(db: Engine, table: str, client: ClientTraits) -> Fragment | None:
    """The virtual host at the end of a table, for all hosts that are not in it."""
    policy = outbound_policy(db, client.sidecar, client.namespace)
    cluster = requests_elsewhere(policy)
    if cluster == PASSTHROUGH and is_named_table(table):
        # The address that was connected to is the listener's own: the host is looked up instead.
        cluster = DYNAMIC_DNS
    passing = {(ResourceType.CLUSTER, cluster)} if cluster and isinstance(policy.proxy, ClusterRef | None) else set()
    host, body = ("allow_any", routes.elsewhere(cluster)) if cluster else ("block_all", routes.BLOCK_ALL)
    return hook.virtual_host(db, fragment(host, body, references=frozenset(passing)), host, (table,), client)


def _table_of(db: Engine, name: str, parts: list[Fragment], client: ClientTraits) -> Fragment:
    members = [part.body for part in parts]
    ignore_port = not is_named_table(name)
    head = hook.table_head(db, name, routes.route_configuration(name, [], ignore_port=ignore_port), client)
    if head is None:
        return composed(name, routes.route_configuration(name, members, ignore_port=ignore_port), parts)
    return composed(name, b"".join((head.body, *members)), [head, *parts])


# --- tables of listeners that are asked by name -------------------------------------------------------------------


@query
def _named_part(db: Engine, namespace: str, table: str, egress: Egress, client: ClientTraits) -> Fragment:
    return _named(db, hosts_in_table(db, namespace, egress), table, egress, client)


def _named(
    db: Engine, hosts: tuple[tuple[str, int], ...], table: str, egress: Egress, client: ClientTraits
) -> Fragment:
    parts = []
    for host, port in hosts:
        found = host_in_table(db, host, port, virtual_host_scope(db, host, port).project(client), egress)
        if found and (part := _encoded(db, found, f"{table}/{host}:{port}", (table,), client)):
            parts.append(part)
    return composed(table, b"".join(routes.member(part.body) for part in parts), parts)


@query
def _named_table(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    egress = egress_of_table(db, name, client)
    if egress is None:
        return None
    patched = hook.virtual_hosts_scope(db)
    parts = [
        _named_part(db, namespace, name, egress, (named_scope_in(db, namespace) | patched).project(client))
        for namespace in service_namespaces(db)
    ]
    parts.append(_named(db, undeclared_in_table(db, egress), name, egress, client))
    return _complete(db, name, parts, client)


# --- gateways' tables ---------------------------------------------------------------------------------------------


@query
def _gateway_table(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    servers = servers_behind(db, name, client)
    if not servers:
        return None
    found = [part for host in gateway_hosts(db, name, client) if (part := _gateway_host(db, name, host, client))]
    if not found:
        nothing = no_virtual_host(servers)
        made = _encoded(db, nothing, nothing.name, (name,), client)
        found = [made] if made else []
    return _table_of(db, name, [part._replace(body=routes.member(part.body)) for part in found], client)


@query
def _gateway_host(db: Engine, table: str, host: str, client: ClientTraits) -> Fragment | None:
    found = gateway_virtual_host(db, table, host, client)
    return _encoded(db, found, found.name, (table,), client) if found else None
