"""Where a workload asks its sidecar by name: HTTP proxies, and Unix sockets, behind which all ports are one table.

    MeshConfig.proxyHttpPort, Sidecar.egress (HTTP_PROXY, unix://) -> egress_of_table(name) -> hosts_in_table
                                                                  -> host_in_table(host, port)

A request there says itself which host and port it is for. Its authority is compared as a whole, with the port; without
one, HTTP's own port is meant or, where a service has none, its first.
"""

from __future__ import annotations

from ostria.engine import Engine, query
from ostria.mesh.model import EVERYTHING, Egress, Protocol, VirtualHost
from ostria.mesh.routes import host_as_known, is_claimed, virtual_host_scope
from ostria.mesh.services import declarations, hosts_in, service, service_namespaces
from ostria.mesh.settings import http_proxy_port
from ostria.mesh.sidecars import egress_of, knows
from ostria.mesh.traits import ClientTraits, Scope
from ostria.mesh.undeclared import PORT_OF_UNDECLARED, undeclared_hosts

HTTP_PROXY_TABLE = "http_proxy"
"""The table of the proxy that MeshConfig asks for; a Sidecar's are `http_proxy.PORT`, a socket's its address."""

LOOPBACK = "127.0.0.1"


def table_of(egress: Egress) -> str:
    """The name of the route table of a listener that is asked by name."""
    return egress.bind if egress.is_socket else f"{HTTP_PROXY_TABLE}.{egress.port}"


def is_named_table(name: str) -> bool:
    """Whether a route table's name is one of these."""
    return name.partition(".")[0] == HTTP_PROXY_TABLE or name.startswith("unix:")


def is_asked_by_name(db: Engine, client: ClientTraits) -> bool:
    """Whether a sidecar has any such listener."""
    listeners = egress_of(db, client.sidecar, client.namespace) if client.sidecar else ()
    return bool(http_proxy_port(db)) or any(each.names_all for each in listeners)


def egress_of_table(db: Engine, name: str, client: ClientTraits) -> Egress | None:
    """What is known behind one of these tables; None where the client has no such listener."""
    listeners = egress_of(db, client.sidecar, client.namespace) if client.sidecar else (EVERYTHING,)
    if name == HTTP_PROXY_TABLE:
        rest = next((each for each in listeners if each.takes_the_rest), None)
        return rest if http_proxy_port(db) else None
    return next((each for each in listeners if each.names_all and table_of(each) == name), None)


@query
def hosts_in_table(db: Engine, namespace: str, egress: Egress) -> tuple[tuple[str, int], ...]:
    """The hosts of a namespace, each with its ports, that are known behind such a listener and speak HTTP."""
    found = {
        (host, port.number)
        for host in hosts_in(db, namespace)
        if knows(db, egress, host)
        for declared in declarations(db, host)
        for port in declared.ports
        if port.protocol.is_http or port.protocol is Protocol.AUTO
    }
    return tuple(sorted(found))


def undeclared_in_table(db: Engine, egress: Egress) -> tuple[tuple[str, int], ...]:
    """The hosts that only VirtualServices know."""
    known = None if egress == EVERYTHING else egress
    return tuple((host, PORT_OF_UNDECLARED) for host in sorted(undeclared_hosts(db, PORT_OF_UNDECLARED, known)))


@query
def host_in_table(db: Engine, host: str, port: int, client: ClientTraits, egress: Egress) -> VirtualHost | None:
    """The virtual host of a host on a port in such a table. Ask with traits projected on `virtual_host_scope`."""
    known = None if egress == EVERYTHING else egress
    found = host_as_known(db, host, port, client, known)
    if found is None:
        return None
    domains = tuple(f"{domain}:{port}" for domain in found.domains)
    usual = _usual_port(db, host, client.namespace)
    if port == usual == PORT_OF_UNDECLARED:
        domains += found.domains
    elif port == usual:
        # What somebody says of such a name on HTTP's own port goes first.
        domains += tuple(
            domain
            for domain in found.domains
            if not is_claimed(db, domain.strip("[]"), PORT_OF_UNDECLARED, client, known)
        )
    return found._replace(domains=domains)


def _usual_port(db: Engine, host: str, namespace: str) -> int:
    """The port that is meant by a host without one."""
    found = service(db, host, namespace)
    ports = [port.number for port in found.ports if port.protocol.is_http] if found else []
    return PORT_OF_UNDECLARED if not ports or PORT_OF_UNDECLARED in ports else ports[0]


@query
def named_table_scope(db: Engine) -> Scope:
    """What tells clients apart in such a table."""
    scope = Scope(sidecar=True)
    for namespace in service_namespaces(db):
        scope |= named_scope_in(db, namespace)
    for host, port in undeclared_in_table(db, EVERYTHING):
        scope |= virtual_host_scope(db, host, port)
    return scope


@query
def named_scope_in(db: Engine, namespace: str) -> Scope:
    """What tells clients apart in the part of such a table that a namespace's hosts make up."""
    scope = Scope(sidecar=True)
    for host, port in hosts_in_table(db, namespace, EVERYTHING):
        scope |= virtual_host_scope(db, host, port)
    return scope
