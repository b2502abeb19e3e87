"""What a gateway workload serves: the servers that select it, on which ports, and which routes stand behind them.

    readers, the gateway's own Services -> gateway_ports(client) -> gateway_chains(bind, port, client)
                                                                 -> gateway_hosts(route table, client)
                                                                    -> gateway_virtual_host(table, host, client)

Objects of several kinds open ports (`gateway_readers`), and several of them may share one workload and one port.
Where they contradict each other, the older one stands and the younger one's server is left out; `gateway_conflicts`
tells which.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import matches
from ostria.engine import Engine, query
from ostria.mesh import gateway_api, ingress, istio_gateways
from ostria.mesh.gateway_readers import GatewayReader
from ostria.mesh.inbound import own_services, target_number
from ostria.mesh.model import (
    ConnectionRoute,
    GatewayPort,
    GatewaySelection,
    GatewayServer,
    MatchKind,
    Protocol,
    RequestMatch,
    Route,
    StringMatch,
    VirtualHost,
)
from ostria.mesh.services import age
from ostria.mesh.tenancy import keeps_gateways_home
from ostria.mesh.traits import ClientTraits, Scope
from ostria.resources import objects

# A Service's label by which its ports stay what they are (istio.io: gateway port translation).
UNTRANSLATED = "experimental.istio.io/disable-gateway-port-translation"

READERS: dict[str, GatewayReader] = {
    reader.kind: reader for reader in (istio_gateways.READER, ingress.READER, gateway_api.READER)
}


def _reader(gateway: ObjectKey) -> GatewayReader:
    return READERS[gateway.kind]


@query
def gateway_keys(db: Engine) -> tuple[ObjectKey, ...]:
    """Every object that opens ports on gateway workloads."""
    return tuple(key for reader in READERS.values() for key in reader.keys(db))


def selection_of(db: Engine, key: ObjectKey) -> GatewaySelection | None:
    """The workloads on which one object opens ports."""
    return _reader(key).selection(db, key)


def servers_of(db: Engine, key: ObjectKey) -> tuple[GatewayServer, ...]:
    """The servers of one object; `port` is still the object's own number."""
    return _reader(key).servers(db, key)


# --- whom it concerns ---------------------------------------------------------------------------------------------


@query
def gateway_scope(db: Engine) -> Scope:
    """What tells gateway workloads apart, before what stands behind them is looked at."""
    wanted = (selection_of(db, key) for key in gateway_keys(db))
    return Scope(proxy_type=True, labels=frozenset(pair for each in wanted if each for pair in each.labels))


# What of a gateway workload decides which ports it opens.
_WORKLOAD = Scope(namespaces=None, labels=None, serving=True)


@query
def _gateways_of(db: Engine, workload: ClientTraits) -> tuple[ObjectKey, ...]:
    """The objects that open ports on a workload, the oldest first; those of one age by name, as in Istio."""
    found = (key for key in gateway_keys(db) if _selects(db, key, workload))
    return tuple(sorted(found, key=lambda key: (age(db, key), key.name, key)))


def _selects(db: Engine, key: ObjectKey, workload: ClientTraits) -> bool:
    wanted = selection_of(db, key)
    if wanted is None or wanted.namespace not in ("", workload.namespace):
        return False
    if keeps_gateways_home(db) and key.kind == istio_gateways.READER.kind and key.namespace != workload.namespace:
        return False
    if wanted.services is not None and not any(port.host in wanted.services for port in _ports(db, workload)):
        return False
    return workload.has_labels(wanted.labels)


class _Port(NamedTuple):
    """A service port that leads to a gateway workload: the service's number, and the one that the proxy listens on."""

    host: str
    number: int
    target: int
    translated: bool


@query
def _ports(db: Engine, workload: ClientTraits) -> tuple[_Port, ...]:
    """The ports of a gateway workload's own services, the oldest service's first."""
    return tuple(
        _Port(found.host, port.number, target_number(db, found, port) or port.number, translates(db, found.origin))
        for found in own_services(db, workload.namespace, workload.labels, workload.serving)
        for port in found.ports
    )


@query
def translates(db: Engine, service: ObjectKey) -> bool:
    """Whether the ports of Gateways may mean those of a service; its label can forbid it."""
    value = objects(db, service)
    return value is None or UNTRANSLATED not in value.metadata.labels


def _target_ports(ports: tuple[_Port, ...], number: int, services: tuple[str, ...] | None) -> tuple[int, ...]:
    """Where a proxy listens for a service port; without a service for it, at the number itself."""
    if services is not None:
        return tuple(sorted({port.target for port in ports if port.number == number and port.host in services}))
    return (next((port.target for port in ports if port.number == number and port.translated), number),)


# --- ports ----------------------------------------------------------------------------------------------------


class Conflict(NamedTuple):
    """A server that is left out because an older one has its port for something else."""

    server: GatewayServer
    taken_by: GatewayServer


class _Served(NamedTuple):
    ports: tuple[GatewayPort, ...]
    conflicts: tuple[Conflict, ...]


@query
def _served(db: Engine, workload: ClientTraits) -> _Served:
    ports = _ports(db, workload)
    by_place: dict[tuple[str, int], list[GatewayServer]] = {}
    conflicts: list[Conflict] = []
    for key in _gateways_of(db, workload):
        wanted = selection_of(db, key)
        for server in servers_of(db, key):
            for target in _target_ports(ports, server.service_port, wanted.services if wanted else None):
                moved = server._replace(port=target)
                beside = by_place.setdefault((moved.bind, moved.port), [])
                rival = next((other for other in beside if _contradict(other, moved)), None)
                if rival is None:
                    beside.append(moved)
                else:
                    conflicts.append(Conflict(moved, rival))
    places = (GatewayPort(bind, port, tuple(found)) for (bind, port), found in sorted(by_place.items()))
    return _Served(tuple(places), tuple(conflicts))


def _contradict(one: GatewayServer, other: GatewayServer) -> bool:
    """Whether two servers cannot share a port: it can be plain or encrypted, and one name has one certificate."""
    if one.protocol.is_http and other.protocol.is_http:
        return False
    if one.protocol.is_tls and other.protocol.is_tls:
        return bool({host for _, host in one.hosts} & {host for _, host in other.hosts})
    return True


def gateway_ports(db: Engine, client: ClientTraits) -> tuple[GatewayPort, ...]:
    """The servers of a gateway workload, by address and port."""
    return _served(db, _WORKLOAD.project(client)).ports


def gateway_conflicts(db: Engine, client: ClientTraits) -> tuple[Conflict, ...]:
    """The servers that a gateway workload leaves out."""
    return _served(db, _WORKLOAD.project(client)).conflicts


def connections_behind(db: Engine, server: GatewayServer, client: ClientTraits) -> tuple[ConnectionRoute, ...]:
    """Where the connections to a server go that it does not read."""
    return _reader(server.gateway).connections(db, server, client)


@query
def bind_addresses(db: Engine) -> frozenset[str]:
    """The addresses other than every address that some object asks to listen on."""
    servers = (server for key in gateway_keys(db) for server in servers_of(db, key))
    return frozenset(server.bind for server in servers if server.bind)


# --- route tables -------------------------------------------------------------------------------------------------


def route_table(server: GatewayServer) -> str:
    """The name of the route table that a server's requests go through, as Istio spells it."""
    bind = f".{server.bind}" if server.bind else ""
    if server.tls is None:
        return f"http.{server.port}{bind}"
    known_as = server.known_as or f"{server.gateway.name}.{server.gateway.namespace}"
    return f"https.{server.service_port}.{server.name}.{known_as}{bind}"


def is_gateway_table(name: str) -> bool:
    """Whether a route table's name is one that `route_table` gives."""
    scheme, _, rest = name.partition(".")
    return scheme in ("http", "https") and rest.partition(".")[0].isdigit()


def servers_behind(db: Engine, table: str, client: ClientTraits) -> tuple[GatewayServer, ...]:
    """The servers of a gateway workload whose requests go through one route table."""
    return _servers_behind(db, table, _WORKLOAD.project(client))


@query
def _servers_behind(db: Engine, table: str, workload: ClientTraits) -> tuple[GatewayServer, ...]:
    return tuple(
        server
        for place in gateway_ports(db, workload)
        for server in place.servers
        if is_http_server(server) and route_table(server) == table
    )


@query
def gateway_hosts(db: Engine, table: str, client: ClientTraits) -> tuple[str, ...]:
    """The hosts of one route table, sorted: those of which something is said, and those that are sent to HTTPS."""
    found: set[str] = set()
    for server in servers_behind(db, table, client):
        found.update(_reader(server.gateway).hosts(db, server, client))
        if server.https_redirect:
            found.update(host for _, host in server.hosts)
    return tuple(sorted(found))


@query
def gateway_virtual_host(db: Engine, table: str, host: str, client: ClientTraits) -> VirtualHost | None:
    """One virtual host of a route table: what is said of the host behind each server, one after the other.

    Routes that take every request stand at the end (istio.io: splitting large virtual services). None where no rule
    comes to a route here: such a host must not hide a wider one.
    """
    routes: dict[Route, None] = {}
    origins: set[ObjectKey] = set()
    port, require_tls = 0, False
    for server in servers_behind(db, table, client):
        offered = [each for _, each in server.hosts]
        if not any(matches(each, host) for each in offered):
            continue
        said = _reader(server.gateway).routes(db, server, host, client)
        redirected = server.https_redirect and (bool(said.routes) or host in offered)
        if not said.routes and not redirected:
            continue
        port = port or server.service_port
        if redirected:
            require_tls = True
            origins.add(server.gateway)
        routes |= dict.fromkeys(said.routes)
        origins |= said.origins
    if not routes and not require_tls:
        return None
    return VirtualHost(
        name=f"{host}:{port}",
        domains=(host,),
        routes=tuple(sorted(routes, key=_takes_all)),
        origins=frozenset(origins),
        require_tls=require_tls,
    )


def gateway_virtual_hosts(db: Engine, table: str, client: ClientTraits) -> tuple[VirtualHost, ...]:
    """All virtual hosts of one route table, sorted by host."""
    found = (gateway_virtual_host(db, table, host, client) for host in gateway_hosts(db, table, client))
    return tuple(host for host in found if host is not None)


def no_virtual_host(servers: tuple[GatewayServer, ...]) -> VirtualHost:
    """What stands in a table of which nothing is said yet: every request is answered with 404."""
    return VirtualHost(f"blackhole:{servers[0].service_port}", ("*",), (), frozenset())


def _takes_all(route: Route) -> bool:
    everywhere = route.match.path in (None, StringMatch(MatchKind.PREFIX, "/"))
    return everywhere and route.match._replace(path=None, ignore_case=False) == RequestMatch()


def is_http_server(server: GatewayServer) -> bool:
    """Whether a gateway reads a server's requests, so that it has a route table: plain HTTP, or TLS that ends here."""
    if server.tls is None:
        return server.protocol.is_http
    return server.tls.ends_here and (server.protocol.is_http or server.protocol is Protocol.HTTPS)
