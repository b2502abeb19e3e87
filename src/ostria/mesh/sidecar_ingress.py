"""What a Sidecar says of the inbound side: which ports, where they lead in the workload, under which limits.

    Inbound of the services, Sidecar.ingress -> governed(inbound) -> the ports that the proxy opens

A Sidecar with ingress listeners names all ports there are; what no listener names goes on as it comes, under the
workload's general mode (istio.io: Sidecar). Without any the ports stay those of the services.
"""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.destinations import traffic_policy
from ostria.mesh.model import (
    ConnectionPool,
    GatewayTls,
    Inbound,
    InboundPort,
    Labels,
    MutualTls,
)
from ostria.mesh.protocols import parse_protocol
from ostria.mesh.security import peer_mode_of
from ostria.mesh.server_tls import server_tls
from ostria.mesh.settings import forwards_to_localhost
from ostria.mesh.traffic_policies import pool_of
from ostria.resources import objects
from ostria.resources import sidecar as api
from ostria.resources.gateway import ServerTLSSettings

UNIX = "unix:"
ANY = ("0.0.0.0", "::")  # noqa: S104 - What a bind spells every address by.
OWN_ADDRESS = ("0.0.0.0", "[::]", "")  # noqa: S104 - What an endpoint spells the workload's own address by.


def _spec(db: Engine, sidecar: ObjectKey) -> api.SidecarSpec:
    value = objects(db, sidecar)
    return value.spec if isinstance(value, api.Sidecar) else api.SidecarSpec()


@query
def needs_address(db: Engine, sidecar: ObjectKey) -> bool:
    """Whether the proxies that a Sidecar governs have to be told their own address."""
    listeners = _spec(db, sidecar).ingress
    endpoints = (each.default_endpoint for each in listeners if each.default_endpoint)
    own = any(endpoint.rpartition(":")[0] in OWN_ADDRESS for endpoint in endpoints)
    return own or any(each.capture_mode == "NONE" for each in listeners)


@query
def governed(
    db: Engine, side: Inbound, sidecar: ObjectKey, namespace: str, labels: Labels, addresses: tuple[str, ...]
) -> Inbound:
    """The inbound side of workloads that a Sidecar governs, from what the services would have; see above."""
    listeners = [each for each in _spec(db, sidecar).ingress if each.port is not None]
    if not listeners:
        return side
    peers = peer_mode_of(db, namespace, labels)
    served = {port.port: port for port in side.ports}
    ports = []
    for listener in listeners:
        assert listener.port is not None
        number, bind = listener.port.number, _bind(listener, addresses)
        mode, pool = peers.of_port(number), _own_pool(_spec(db, sidecar), number)
        ports.append(
            InboundPort(
                port=number,
                protocol=parse_protocol(listener.port.protocol),
                mutual_tls=mode,
                services=served[number].services if number in served else (),
                endpoint=_endpoint(listener.default_endpoint, addresses) or (f"127.0.0.1:{number}" if bind else ""),
                # Mutual TLS of the mesh goes first: what is opened twice could be read by neither.
                bind=bind,
                idle_timeout=pool.idle_timeout if pool else None,
                tls=_opened(listener.tls) if mode is MutualTls.DISABLE else None,
            )
        )
    named = {port.port for port in ports}
    return Inbound(
        ports=tuple(sorted(ports, key=lambda port: port.port)),
        default=side.default,
        origins=side.origins | {sidecar},
        ports_tls=tuple((port, mode) for port, mode in peers.ports if port not in named),
    )


@query
def localized(db: Engine, side: Inbound) -> Inbound:
    """The inbound side where MeshConfig says that workloads listen on their loopback address only."""
    if not forwards_to_localhost(db):
        return side
    return side._replace(
        ports=tuple(port._replace(endpoint=port.endpoint or f"127.0.0.1:{port.port}") for port in side.ports)
    )


def _bind(listener: api.IngressListener, addresses: tuple[str, ...]) -> str:
    """Where a listener that nothing is captured for listens: its own address or, for any, the workload's.

    It never takes every address: what the workload calls on the same port would come to it as well.
    """
    if listener.capture_mode != "NONE":
        return ""
    return listener.bind if listener.bind not in ("", *ANY) else next(iter(addresses), "127.0.0.1")


def _opened(written: ServerTLSSettings | None) -> GatewayTls | None:
    """The TLS that a listener opens; None where it passes on what comes, as PASSTHROUGH (the default) does."""
    tls = server_tls(written, files_only=True) if written else None
    return tls if tls and tls.ends_here else None


def _endpoint(text: str, addresses: tuple[str, ...]) -> str:
    """Where a port leads, as `host:port` or a Unix path; "" is the address that the client had connected to."""
    host, _, port = text.rpartition(":")
    if not text or text.startswith(UNIX):
        return text
    if host in OWN_ADDRESS:
        family = [address for address in addresses if (":" in address) == (host == "[::]")]
        return f"{family[0]}:{port}" if family else ""
    return f"{host.strip('[]')}:{port}"


def _own_pool(spec: api.SidecarSpec, number: int) -> ConnectionPool | None:
    """What a Sidecar says of the connections to one port; None where it says nothing."""
    own = (each.connection_pool for each in spec.ingress if each.port and each.port.number == number)
    written = next((each for each in own if each is not None), None) or spec.inbound_connection_pool
    return pool_of(written) if written else None


@query
def inbound_pool(
    db: Engine, number: int, services: tuple[tuple[str, str, int], ...], sidecar: ObjectKey | None
) -> ConnectionPool:
    """The limits of connections to one port of the workload itself.

    Those of the Sidecar's listener, else of the Sidecar, else what a DestinationRule says of the first service behind
    the port: who calls and who is called keep the same limits.
    """
    own = _own_pool(_spec(db, sidecar), number) if sidecar else None
    if own is not None:
        return own
    for host, namespace, port in services:
        return traffic_policy(db, host, namespace, port, "").pool
    return ConnectionPool()
