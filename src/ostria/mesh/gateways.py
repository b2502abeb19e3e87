"""What a gateway workload serves: the Gateways that select it, on which ports, and which routes stand behind them.

    Gateway, the gateway's own Services -> gateway_listeners(client) -> gateway_virtual_hosts(client, route table)

Several Gateways may share one workload and one port. Where they contradict each other, the older one stands and the
younger one's server is left out; `gateway_conflicts` tells which.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import matches, split_scoped
from ostria.engine import Engine, query
from ostria.mesh.inbound import selecting, target_number
from ostria.mesh.model import (
    GatewayListener,
    GatewayServer,
    GatewayTls,
    Labels,
    MatchKind,
    Protocol,
    RequestMatch,
    Route,
    ServerTls,
    StringMatch,
    VirtualHost,
)
from ostria.mesh.services import age, canonical, is_visible, parse_protocol
from ostria.mesh.traits import ClientTraits, Scope
from ostria.mesh.virtual_services import Place, bound, http_routes, visible_in
from ostria.resources import by_kind, objects
from ostria.resources import gateway as api
from ostria.resources.virtual_service import VirtualService

TLS_VERSIONS = {"TLSV1_0": "1.0", "TLSV1_1": "1.1", "TLSV1_2": "1.2", "TLSV1_3": "1.3"}


def _gateway(db: Engine, key: ObjectKey) -> api.Gateway:
    value = objects(db, key)
    assert isinstance(value, api.Gateway), key
    return value


@query
def selector_of(db: Engine, key: ObjectKey) -> Labels:
    """The labels that one Gateway asks of a workload; () selects every gateway workload."""
    return tuple(sorted(_gateway(db, key).spec.selector.items()))


@query
def gateway_scope(db: Engine) -> Scope:
    """What tells gateway workloads apart, before what stands behind them is looked at."""
    keys = by_kind(db, "Gateway")
    return Scope(proxy_type=True, labels=frozenset(pair for key in keys for pair in selector_of(db, key)))


@query
def gateways_of(db: Engine, labels: Labels) -> tuple[ObjectKey, ...]:
    """The Gateways that select a workload with these labels, the oldest first."""
    keys = [key for key in by_kind(db, "Gateway") if all(pair in labels for pair in selector_of(db, key))]
    return tuple(sorted(keys, key=lambda key: (age(db, key), key)))


@query
def target_ports(db: Engine, namespace: str, labels: Labels) -> tuple[tuple[int, int], ...]:
    """Where a gateway's own Services lead its ports: (service port, the port that the proxy listens on)."""
    workload = ClientTraits(namespace=namespace, labels=labels)
    found: dict[int, int] = {}
    for service in selecting(db, namespace):
        if workload.has_labels(service.selector):
            for port in service.ports:
                found.setdefault(port.number, target_number(db, service, port) or port.number)
    return tuple(sorted(found.items()))


# --- listeners ----------------------------------------------------------------------------------------------------


@query
def servers_of(db: Engine, key: ObjectKey) -> tuple[GatewayServer, ...]:
    """The servers of one Gateway, as it says them; `port` is still the Gateway's own number."""
    return tuple(
        GatewayServer(
            gateway=key,
            position=position,
            port=server.port.number,
            service_port=server.port.number,
            protocol=parse_protocol(server.port.protocol),
            hosts=tuple(_host(db, host, key.namespace) for host in server.hosts),
            bind=server.bind,
            tls=_tls(server.tls) if server.tls and parse_protocol(server.port.protocol).is_tls else None,
            https_redirect=bool(server.tls and server.tls.https_redirect),
            name=server.port.name,
        )
        for position, server in enumerate(_gateway(db, key).spec.servers)
    )


def _host(db: Engine, host: str, namespace: str) -> tuple[str, str]:
    """A server's host as (namespace of the routes or "*", host); "." is the Gateway's own namespace."""
    scoped = split_scoped(host)
    return (namespace if scoped.namespace == "." else scoped.namespace, canonical(db, scoped.host, namespace))


def _tls(tls: api.ServerTLSSettings) -> GatewayTls | None:
    if tls.mode == "AUTO_PASSTHROUGH":
        return GatewayTls(ServerTls.PASSTHROUGH)
    return GatewayTls(
        mode=ServerTls(tls.mode.lower()),
        credential=tls.credential_name or (tls.credential_names[0] if tls.credential_names else ""),
        certificate=tls.server_certificate,
        key=tls.private_key,
        authorities=tls.ca_certificates,
        min_version=TLS_VERSIONS.get(tls.min_protocol_version, ""),
        max_version=TLS_VERSIONS.get(tls.max_protocol_version, ""),
        ciphers=tls.cipher_suites,
        subject_alt_names=tls.subject_alt_names,
    )


class Conflict(NamedTuple):
    """A server that is left out because an older one has its port for something else."""

    server: GatewayServer
    taken_by: GatewayServer


class _Served(NamedTuple):
    listeners: tuple[GatewayListener, ...]
    conflicts: tuple[Conflict, ...]


@query
def _served(db: Engine, namespace: str, labels: Labels) -> _Served:
    targets = dict(target_ports(db, namespace, labels))
    by_place: dict[tuple[str, int], list[GatewayServer]] = {}
    conflicts: list[Conflict] = []
    for key in gateways_of(db, labels):
        for server in servers_of(db, key):
            moved = server._replace(port=targets.get(server.service_port, server.service_port))
            beside = by_place.setdefault((moved.bind, moved.port), [])
            rival = next((other for other in beside if _contradict(other, moved)), None)
            if rival is None:
                beside.append(moved)
            else:
                conflicts.append(Conflict(moved, rival))
    listeners = (GatewayListener(bind, port, tuple(found)) for (bind, port), found in sorted(by_place.items()))
    return _Served(tuple(listeners), tuple(conflicts))


def _contradict(one: GatewayServer, other: GatewayServer) -> bool:
    """Whether two servers cannot share a port: it can be plain or encrypted, and one name has one certificate."""
    if one.protocol.is_http and other.protocol.is_http:
        return False
    if one.protocol.is_tls and other.protocol.is_tls:
        return bool({host for _, host in one.hosts} & {host for _, host in other.hosts})
    return True


@query
def gateway_listeners(db: Engine, namespace: str, labels: Labels) -> tuple[GatewayListener, ...]:
    """What a gateway workload listens for, by address and port."""
    return _served(db, namespace, labels).listeners


@query
def gateway_conflicts(db: Engine, namespace: str, labels: Labels) -> tuple[Conflict, ...]:
    """The servers that a gateway workload leaves out."""
    return _served(db, namespace, labels).conflicts


@query
def bind_addresses(db: Engine) -> frozenset[str]:
    """The addresses other than every address that some Gateway asks to listen on."""
    servers = (server for key in by_kind(db, "Gateway") for server in servers_of(db, key))
    return frozenset(server.bind for server in servers if server.bind)


# --- route tables -------------------------------------------------------------------------------------------------


def route_table(server: GatewayServer) -> str:
    """The name of the route table that a server's requests go through, as Istio spells it."""
    if server.tls is None:
        return f"http.{server.port}"
    return f"https.{server.service_port}.{server.name}.{server.gateway.name}.{server.gateway.namespace}"


def is_gateway_table(name: str) -> bool:
    """Whether a route table's name is one that `route_table` gives."""
    return ":" not in name and name.startswith(("http.", "https."))


@query
def servers_behind(db: Engine, table: str, namespace: str, labels: Labels) -> tuple[GatewayServer, ...]:
    """The servers of a gateway workload whose requests go through one route table."""
    return tuple(
        server
        for listener in gateway_listeners(db, namespace, labels)
        for server in listener.servers
        if route_table(server) == table
    )


@query
def gateway_virtual_hosts(db: Engine, table: str, client: ClientTraits) -> tuple[VirtualHost, ...]:
    """The virtual hosts of one route table: what the bound VirtualServices say of the servers' hosts, sorted.

    Routes of several VirtualServices for one host stand one after the other, the oldest's first, and those that take
    every request at the end (istio.io: splitting large virtual services).
    """
    by_host: dict[str, _Host] = {}
    for server in servers_behind(db, table, client.namespace, client.labels):
        for host in {host for _, host in server.hosts} if server.https_redirect else ():
            by_host.setdefault(host, _Host([], set(), [])).redirects.append(server.gateway)
        for key in _bound_to(db, server.gateway):
            if not is_visible(visible_in(db, key), client.namespace):
                continue
            place = Place(
                f"{server.gateway.namespace}/{server.gateway.name}",
                server.service_port,
                client.namespace,
                client.labels,
                tls=server.tls is not None,
            )
            for host in _served_hosts(db, server, key):
                entry = by_host.setdefault(host, _Host([], set(), []))
                if key not in entry.origins:
                    entry.routes.extend(http_routes(db, key, place))
                    entry.origins.add(key)
    port = _port_of(table)
    return tuple(
        VirtualHost(
            name=f"{host}:{port}",
            domains=(host,),
            routes=tuple(sorted(entry.routes, key=_takes_all)),
            origins=frozenset({*entry.origins, *entry.redirects}),
            require_tls=bool(entry.redirects),
        )
        for host, entry in sorted(by_host.items())
    )


class _Host(NamedTuple):
    routes: list[Route]
    origins: set[ObjectKey]
    redirects: list[ObjectKey]


def _bound_to(db: Engine, gateway: ObjectKey) -> list[ObjectKey]:
    keys = bound(db, f"{gateway.namespace}/{gateway.name}")
    return sorted(keys, key=lambda key: (age(db, key), key))


def _served_hosts(db: Engine, server: GatewayServer, key: ObjectKey) -> list[str]:
    """The hosts of one VirtualService that a server takes: where both name hosts, the more specific of the two."""
    value = objects(db, key)
    assert isinstance(value, VirtualService)
    hosts = (canonical(db, host, key.namespace) for host in value.spec.hosts)
    offered = [host for namespace, host in server.hosts if namespace in ("*", key.namespace)]
    found = (narrower(host, other) for host in hosts for other in offered)
    return list(dict.fromkeys(host for host in found if host is not None))


def narrower(one: str, other: str) -> str | None:
    """The more specific of two hosts where one covers the other, else None: `a.b.c` of `a.b.c` and `*.c`."""
    if matches(one, other):
        return other
    return one if matches(other, one) else None


def _takes_all(route: Route) -> bool:
    everywhere = route.match.path in (None, StringMatch(MatchKind.PREFIX, "/"))
    return everywhere and route.match._replace(path=None, ignore_case=False) == RequestMatch()


def _port_of(table: str) -> str:
    return table.split(".")[1]


def is_http_server(server: GatewayServer) -> bool:
    """Whether a gateway reads a server's requests, so that it has a route table: plain HTTP, or TLS that ends here."""
    if server.tls is None:
        return server.protocol.is_http
    ends_here = server.tls.mode is not ServerTls.PASSTHROUGH
    return ends_here and (server.protocol.is_http or server.protocol is Protocol.HTTPS)
