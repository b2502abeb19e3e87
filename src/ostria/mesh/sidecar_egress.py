"""Outbound listeners that are named, by a Sidecar or by MeshConfig, and that workloads may connect to themselves.

    Sidecar.egress with a port or a socket, MeshConfig.proxyHttpPort -> listener_of_sidecar(address, port)

Where one is asked for any service, its requests say which they mean (`http_proxies`); bytes that go to a socket go to
the one service that is imported there.
"""

from __future__ import annotations

from ostria.engine import Engine, query
from ostria.mesh.http_proxies import HTTP_PROXY_TABLE, LOOPBACK, table_of
from ostria.mesh.listeners import connection_routes, connection_scope, disjoint
from ostria.mesh.model import ConnectionRoute, Egress, OutboundListener, Protocol
from ostria.mesh.services import service
from ostria.mesh.settings import http_proxy_port
from ostria.mesh.sidecars import egress_of, known_hosts
from ostria.mesh.traits import ClientTraits


@query
def listener_of_sidecar(db: Engine, address: str, port: int, client: ClientTraits) -> OutboundListener | None:
    """What a sidecar does on an address and port that are named for it; None where nobody names them."""
    if (address, port) == (LOOPBACK, http_proxy_port(db)):
        return OutboundListener(address, port, HTTP_PROXY_TABLE, bound=True, looks_up=True, asked=True)
    if client.sidecar is None:
        return None
    named = (each for each in egress_of(db, client.sidecar, client.namespace) if each.names_all or each.address)
    egress = next((each for each in named if (each.address, each.port) == (address, port)), None)
    if egress is None:
        return None
    reads = egress.proxied or egress.protocol.is_http
    if egress.names_all and reads:
        origins, bound = frozenset({client.sidecar}), egress.is_socket or not egress.captured
        return OutboundListener(address, port, table_of(egress), (), origins, looks_up=True, bound=bound, asked=True)
    guesses = egress.protocol is Protocol.AUTO and not egress.is_socket
    routes = () if reads else disjoint(_routes(db, egress, client, address))
    origins = frozenset(route.origin for route in routes if route.origin) | {client.sidecar}
    bound = egress.is_socket or not egress.captured
    return OutboundListener(address, port, str(port) if reads or guesses else "", routes, origins, bound=bound)


def _routes(db: Engine, egress: Egress, client: ClientTraits, address: str) -> list[ConnectionRoute]:
    """Where bytes go: by the rules for the listener's port or, from a socket, which has none, for each service's."""
    found: list[ConnectionRoute] = []
    for host in sorted(known_hosts(db, egress)):
        seen = connection_scope(db, host).project(client)
        if not egress.is_socket:
            found += connection_routes(db, host, egress.port, seen, address)
            continue
        declared = service(db, host, client.namespace)
        for port in declared.ports if declared else ():
            found += (route._replace(subnets=()) for route in connection_routes(db, host, port.number, seen, address))
    return found
