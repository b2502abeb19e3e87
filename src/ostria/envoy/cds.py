"""Clusters by name: those of services and subsets, those of the workload's own ports, and the three all have."""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.envoy.clusters import (
    BLACK_HOLE,
    BLACK_HOLE_CLUSTER,
    DNS_REFRESH_RATE,
    DYNAMIC_DNS,
    DYNAMIC_DNS_CLUSTER,
    INBOUND_PASSTHROUGH,
    PASSTHROUGH,
    PASSTHROUGH_CLUSTER,
    inbound_cluster,
    inbound_name,
    inbound_passthrough,
    outbound_cluster,
)
from ostria.envoy.fragments import Fragment, ResourceType, fragment
from ostria.envoy.guards import guards_of
from ostria.mesh.backend_tls import REFUSED_CREDENTIAL, policies_for
from ostria.mesh.destinations import destination, destination_told_apart, names_credentials, traffic_policy
from ostria.mesh.endpoints import accounts, called
from ostria.mesh.gateway_chains import passed_to
from ostria.mesh.http_proxies import is_asked_by_name
from ostria.mesh.inbound import inbound_of
from ostria.mesh.localities import arranged
from ostria.mesh.model import (
    ClientTls,
    ClusterRef,
    ConnectionPool,
    Endpoint,
    InboundPort,
    OutboundMode,
    Protocol,
    Resolution,
    Subset,
    TlsMode,
)
from ostria.mesh.outbound import client_scope, outbound_clusters, outbound_scope
from ostria.mesh.services import declarations, differs_at_gateways, service
from ostria.mesh.settings import dns_refresh_rate, settings
from ostria.mesh.sidecar_ingress import inbound_pool
from ostria.mesh.sidecars import outbound_policy
from ostria.mesh.traits import EACH, ClientTraits, ProxyType, Scope

_PROTECTED = (TlsMode.SIMPLE, TlsMode.MUTUAL, TlsMode.ISTIO_MUTUAL)

FIXED = (BLACK_HOLE, PASSTHROUGH)


def names(db: Engine, client: ClientTraits) -> tuple[str, ...]:
    """All clusters of a proxy; on demand only those that are its own, to which delivery adds what it refers to."""
    own: tuple[str, ...]
    if client.proxy_type is ProxyType.SIDECAR:
        own = (INBOUND_PASSTHROUGH, *(inbound_name(port.port) for port in inbound_of(db, client).ports))
        policy = outbound_policy(db, client.sidecar, client.namespace)
        if policy.mode is OutboundMode.DYNAMIC_DNS or is_asked_by_name(db, client):
            own = (DYNAMIC_DNS, *own)
    else:
        own = tuple(cluster.name for cluster in passed_to(db, client))
    # Whoever is asked what is allowed, or for keys, is called by the proxy itself, whatever its workload may call.
    asked = sorted(cluster.name for cluster in guards_of(db, client).clusters)
    if client.on_demand:
        return (*FIXED, *own, *asked)
    called = (*FIXED, *own, *_outbound_names(db, outbound_scope(db).project(client)))
    return tuple(dict.fromkeys((*called, *asked))) if asked else called


@query
def _outbound_names(db: Engine, client: ClientTraits) -> tuple[str, ...]:
    return tuple(cluster.name for cluster in outbound_clusters(db, client))


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for one cluster."""
    ref = ClusterRef.parse(name)
    if ref is not None:
        return cluster_scope(db, ref.host)
    return EACH if name.startswith("inbound|") else Scope()


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """One cluster, as far as the client has it."""
    ref = ClusterRef.parse(name)
    if ref is not None:
        return _outbound(db, ref, client)
    if name.startswith("inbound|"):
        number = name.split("|")[1]
        return _inbound(db, int(number), client) if number.isdigit() else None
    return _fixed(db, name)


@query
def cluster_scope(db: Engine, host: str) -> Scope:
    """What tells clients apart for the clusters of a host. Where their endpoints are is told apart only by clusters
    that hold them themselves."""
    scope = client_scope(db, host) | Scope(proxy_type=differs_at_gateways(db, host) or names_credentials(db, host))
    inline = any(found.resolution is not Resolution.ENDPOINTS for found in declarations(db, host))
    return scope | destination_told_apart(db, host) if inline else scope


@query
def _outbound(db: Engine, ref: ClusterRef, client: ClientTraits) -> Fragment | None:
    namespace, labels = client.namespace, client.labels
    found = service(db, ref.host, namespace)
    port = found.port(ref.port) if found else None
    known = destination(db, ref.host, namespace, labels)
    subset = known.subset(ref.subset)
    if found is None or port is None or (ref.subset and subset is None):
        return None
    policy = traffic_policy(db, ref.host, namespace, ref.port, ref.subset, labels)
    if client.proxy_type is ProxyType.SIDECAR:
        policy = policy._replace(tls=_at_sidecars(policy.tls))
    if found.resolution is Resolution.ORIGINAL and client.proxy_type is ProxyType.GATEWAY:
        # The address that a gateway's client connected to is the gateway's own.
        found = found._replace(resolution=Resolution.ENDPOINTS)
    if ref.sealed:
        # What is passed on is mutual TLS already; only who takes it may get it.
        port, policy = port._replace(protocol=Protocol.TCP), policy._replace(tls=ClientTls(TlsMode.DISABLE))
    inline = found.resolution is not Resolution.ENDPOINTS
    held = called(db, ref, namespace) if inline else ()
    body = outbound_cluster(
        found,
        port,
        subset,
        policy,
        accounts(db, ref.host, namespace, ref.port),
        endpoints=held,
        groups=arranged(_of_subset(held, subset), policy.locality, client.locality, labels, client.node),
        sealed=ref.sealed,
        at_gateway=client.proxy_type is ProxyType.GATEWAY,
        origin=min(known.origins) if known.origins else None,
        dns_refresh_rate=dns_refresh_rate(db) if inline else DNS_REFRESH_RATE,
    )
    references = frozenset() if inline else frozenset({(ResourceType.ENDPOINTS, ref.name)})
    asked = frozenset(key for _, key in policies_for(db, found.origin))
    made = fragment(ref.name, body, known.origins | found.origins | asked, references)
    return made._replace(guards=True) if policy.tls.mode in _PROTECTED else made


def _at_sidecars(tls: ClientTls) -> ClientTls:
    """TLS without a credential that is for gateways only; what Envoy has refused stays closed everywhere."""
    for_gateways = bool(tls.credential) and not tls.selected and tls.credential != REFUSED_CREDENTIAL
    return tls._replace(credential="") if for_gateways and tls.mode is TlsMode.SIMPLE else tls


def _of_subset(held: tuple[Endpoint, ...], subset: Subset | None) -> tuple[Endpoint, ...]:
    if subset is None:
        return held
    return tuple(endpoint for endpoint in held if all(pair in endpoint.labels for pair in subset.labels))


def _inbound(db: Engine, number: int, client: ClientTraits) -> Fragment | None:
    if client.proxy_type is not ProxyType.SIDECAR:
        return None
    side = inbound_of(db, client)
    port = next((port for port in side.ports if port.port == number), None)
    if port is None:
        return None
    pool = inbound_pool(db, number, port.services, client.sidecar)
    return _inbound_cluster(db, port, pool, side.origins)


@query
def _inbound_cluster(db: Engine, port: InboundPort, pool: ConnectionPool, origins: frozenset[ObjectKey]) -> Fragment:
    body = inbound_cluster(port, pool, mark=settings(db).socket_mark)
    return fragment(inbound_name(port.port), body, origins)


@query
def _fixed(db: Engine, name: str) -> Fragment | None:
    if name == INBOUND_PASSTHROUGH:
        return fragment(name, inbound_passthrough(settings(db).socket_mark))
    bodies = {BLACK_HOLE: BLACK_HOLE_CLUSTER, PASSTHROUGH: PASSTHROUGH_CLUSTER, DYNAMIC_DNS: DYNAMIC_DNS_CLUSTER}
    body = bodies.get(name)
    return fragment(name, body) if body is not None else None
