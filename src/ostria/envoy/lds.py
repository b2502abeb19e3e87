"""Listeners by name: a sidecar's two that catch everything, those for what it calls, and a gateway's ports."""

from __future__ import annotations

import msgspec

from ostria.engine import Engine, query
from ostria.envoy.access_log import LogFile
from ostria.envoy.addresses import ANY_V4
from ostria.envoy.clusters import BLACK_HOLE, connections_elsewhere
from ostria.envoy.fragments import Fragment, ResourceType, fragment
from ostria.envoy.gateways import gateway_listener
from ostria.envoy.guards import Guards, guards_of, request_guards
from ostria.envoy.inbound import BOUND, VIRTUAL_INBOUND, bound_inbound, bound_name, virtual_inbound
from ostria.envoy.listeners import (
    DETECTION_TIMEOUT,
    VIRTUAL_OUTBOUND,
    listener_name,
    outbound_listener,
    virtual_outbound,
)
from ostria.mesh.gateway_chains import gateway_listeners
from ostria.mesh.gateways import bind_addresses
from ostria.mesh.http_proxies import LOOPBACK
from ostria.mesh.inbound import inbound_of
from ostria.mesh.listeners import (
    anywhere_scope,
    listener_anywhere,
    listener_at,
    listener_scope,
    outbound_places,
    outbound_places_scope,
)
from ostria.mesh.model import (
    ClusterRef,
    GatewayListener,
    Inbound,
    InboundPort,
    MissingDestination,
    OutboundListener,
    OutboundMode,
    OutboundPolicy,
)
from ostria.mesh.services import looks_up_any
from ostria.mesh.settings import (
    access_log,
    detection_timeout,
    http_proxy_port,
    mesh_handshakes,
    path_normalization,
    settings,
    trust_domains,
)
from ostria.mesh.sidecar_egress import listener_of_sidecar
from ostria.mesh.sidecars import bound_addresses, outbound_policy
from ostria.mesh.traits import EACH, ClientTraits, ProxyType, Scope

ClusterNames = frozenset[tuple[ResourceType, str]]


def names(db: Engine, client: ClientTraits) -> tuple[str, ...]:
    """All listeners of a proxy."""
    if client.proxy_type is ProxyType.GATEWAY:
        return tuple(_gateway_name(found) for found in gateway_listeners(db, client))
    bound = (bound_name(port) for port in inbound_of(db, client).ports if port.bind)
    return (VIRTUAL_OUTBOUND, VIRTUAL_INBOUND, *bound, *_outbound_names(db, outbound_places_scope(db).project(client)))


@query
def _outbound_names(db: Engine, client: ClientTraits) -> tuple[str, ...]:
    return tuple(listener_name(place.address or ANY_V4, place.port) for place in outbound_places(db, client))


def _gateway_name(listener: GatewayListener) -> str:
    return listener_name(listener.bind or ANY_V4, listener.port)


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one listener.

    A gateway's port and a sidecar's may have one name, and a gateway's is its own; a listener for one service's
    address can only be a sidecar's, unless a Gateway binds to that address.
    """
    address = name.rpartition("_")[0]
    if not address or name.startswith(BOUND) or address == ANY_V4:
        return EACH
    if address in bind_addresses(db) or _is_named(db, address):
        return EACH
    return Scope(proxy_type=True) | listener_scope(db, address)


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One listener, as far as the client has it."""
    if client.proxy_type is ProxyType.GATEWAY:
        return _gateway(db, name, client)
    if name == VIRTUAL_OUTBOUND:
        return _virtual_outbound(db, outbound_policy(db, client.sidecar, client.namespace))
    if name == VIRTUAL_INBOUND:
        return _virtual_inbound(db, inbound_of(db, client), guards_of(db, client))
    if name.startswith(BOUND):
        side = inbound_of(db, client)
        port = next((each for each in side.ports if each.bind and bound_name(each) == name), None)
        return _bound_inbound(db, side, port, guards_of(db, client)) if port else None
    address, _, number = name.rpartition("_")
    if not address or not number.isdigit():
        return None
    policy = outbound_policy(db, client.sidecar, client.namespace)
    if _is_named(db, address):
        own = listener_of_sidecar(db, "" if address == ANY_V4 else address, int(number), client)
        if own is not None:
            return _outbound(db, own, policy)
    if address != ANY_V4:
        caught = listener_at(db, address, int(number), listener_scope(db, address).project(client))
        return _outbound(db, caught, policy) if caught else None
    return _outbound(db, listener_anywhere(db, int(number), anywhere_scope(db, int(number)).project(client)), policy)


def _is_named(db: Engine, address: str) -> bool:
    """Whether some proxies have listeners on an address because it is named for them."""
    if address == LOOPBACK and http_proxy_port(db):
        return True
    return ("" if address == ANY_V4 else address) in bound_addresses(db)


@query
def log_file(db: Engine) -> LogFile | None:
    """The mesh's access log as Envoy is told of it."""
    log = access_log(db)
    if log is None or not log.format:
        return LogFile(log.path) if log else None
    if not log.json:
        return LogFile(log.path, log.format if log.format.endswith("\n") else log.format + "\n")
    try:
        fields = msgspec.json.decode(log.format, type=dict[str, str])
    except msgspec.DecodeError:
        return LogFile(log.path)
    return LogFile(log.path, json=tuple(fields.items()))


# --- a sidecar's --------------------------------------------------------------------------------------------------


@query
def _virtual_outbound(db: Engine, policy: OutboundPolicy) -> Fragment:
    body = virtual_outbound(connections_elsewhere(policy), ipv6=settings(db).ipv6, log=log_file(db))
    return fragment(VIRTUAL_OUTBOUND, body, references=_rest(policy))


@query
def _virtual_inbound(db: Engine, side: Inbound, guards: Guards) -> Fragment:
    captured = side._replace(ports=tuple(port for port in side.ports if not port.bind))
    body = _inbound_body(db, captured, guards)
    return fragment(VIRTUAL_INBOUND, body, side.origins | guards.origins, _asked(guards))


@query
def _bound_inbound(db: Engine, side: Inbound, port: InboundPort, guards: Guards) -> Fragment:
    whole = _inbound_body(db, side._replace(ports=(port,), ports_tls=()), guards)
    return fragment(bound_name(port), bound_inbound(whole, port), side.origins | guards.origins, _asked(guards))


def _inbound_body(db: Engine, side: Inbound, guards: Guards) -> bytes:
    return virtual_inbound(
        side,
        trust_domains=trust_domains(db),
        ipv6=settings(db).ipv6,
        log=log_file(db),
        detection_timeout=_detection_timeout(db),
        handshakes=mesh_handshakes(db),
        paths=path_normalization(db),
        guards=request_guards(db, guards, gateway=False),
        http10=settings(db).http10,
        access=guards.access,
    )


def _asked(guards: Guards) -> ClusterNames:
    """The clusters of those who are asked whether something is allowed."""
    return _clusters(*(cluster.name for cluster in guards.clusters))


@query
def _outbound(db: Engine, listener: OutboundListener, policy: OutboundPolicy) -> Fragment:
    """One of the listeners for what is called; equal for all clients that call the same there."""
    body = outbound_listener(
        listener,
        # Who connects to the listener itself has asked for no other address.
        BLACK_HOLE if listener.bound else connections_elsewhere(policy),
        ipv6=settings(db).ipv6,
        log=log_file(db),
        looks_up=policy.proxy is None and policy.mode is OutboundMode.DYNAMIC_DNS,
        detection_timeout=_detection_timeout(db),
        paths=path_normalization(db),
        http10=settings(db).http10,
    )
    targets = (target.cluster for route in listener.connections for target in route.targets)
    rest = _clusters(BLACK_HOLE) if listener.bound else _rest(policy)
    references = rest | _clusters(*(cluster.name for cluster in targets if isinstance(cluster, ClusterRef)))
    if listener.http:
        references |= {(ResourceType.ROUTES, listener.http)}
    name = listener_name(listener.address or ANY_V4, listener.port)
    return fragment(name, body, listener.origins, references)


def _detection_timeout(db: Engine) -> int:
    written = detection_timeout(db)
    return DETECTION_TIMEOUT if written is None else written


def _rest(policy: OutboundPolicy) -> ClusterNames:
    """What is referred to for connections that nobody knows where they are for."""
    return frozenset() if isinstance(policy.proxy, MissingDestination) else _clusters(connections_elsewhere(policy))


def _clusters(*names: str) -> ClusterNames:
    return frozenset((ResourceType.CLUSTER, name) for name in names)


# --- a gateway's --------------------------------------------------------------------------------------------------


def _gateway(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    listener = next((each for each in gateway_listeners(db, client) if _gateway_name(each) == name), None)
    return _gateway_listener(db, listener, guards_of(db, client)) if listener else None


@query
def _gateway_listener(db: Engine, listener: GatewayListener, guards: Guards) -> Fragment:
    body = gateway_listener(
        listener,
        trust_domains=trust_domains(db),
        ipv6=settings(db).ipv6,
        log=log_file(db),
        looks_up=looks_up_any(db),
        paths=path_normalization(db),
        http10=settings(db).http10,
        guards=request_guards(db, guards, gateway=True),
        access=guards.access,
    )
    tables = frozenset((ResourceType.ROUTES, chain.table) for chain in listener.chains if chain.table)
    targets = (target.cluster for chain in listener.chains if chain.route for target in chain.route.targets)
    clusters = _clusters(*(cluster.name for cluster in targets if isinstance(cluster, ClusterRef)))
    origins = frozenset(key for chain in listener.chains for key in chain.origins)
    return fragment(_gateway_name(listener), body, origins | guards.origins, tables | clusters | _asked(guards))
