"""How a destination is called: the DestinationRules that a client's namespace sees, merged and resolved per port.

    DestinationRule -> rules_for(host) -> chosen(host, client namespace) -> destination, traffic_policy

Which rule counts (istio.io: DestinationRule, Traffic Management Best Practices): one in the client's own namespace,
else one in the service's, else one in the root namespace; within a namespace the most specific host; rules for the
same host in the same namespace are merged, the oldest one's policy first.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.base.durations import Duration
from ostria.engine import Engine, Index, query
from ostria.mesh.model import (
    ClientTls,
    ConnectionPool,
    Destination,
    HashKey,
    LoadBalancing,
    OutlierDetection,
    Subset,
    TlsMode,
    TrafficPolicy,
)
from ostria.mesh.services import age, is_visible, reference, references_to, service, visibility, wildcards_over
from ostria.mesh.settings import auto_mtls, default_export_to, settings
from ostria.resources import Object, objects
from ostria.resources import destination_rule as api

BALANCING = {
    "ROUND_ROBIN": LoadBalancing.ROUND_ROBIN,
    "RANDOM": LoadBalancing.RANDOM,
    "PASSTHROUGH": LoadBalancing.PASSTHROUGH,
}


def _by_host(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, api.DestinationRule):
        yield reference(value.spec.host, key.namespace)


naming = Index("mesh.destinations.naming", objects, _by_host)


@query
def wildcard_rules(db: Engine, parent: str) -> tuple[tuple[ObjectKey, ...], ...]:
    """The rules for all hosts under a domain, the most specific first: one query, since every host under it asks."""
    groups = (naming(db, wildcard) for wildcard in wildcards_over(f"*.{parent}" if parent else "*"))
    return tuple(group for group in groups if group)


@query
def rules_for(db: Engine, host: str) -> tuple[tuple[ObjectKey, ...], ...]:
    """The rules that could apply to a host, in groups of one host name, the most specific first."""
    exact = tuple(key for form in references_to(db, host) for key in naming(db, form))
    wide = wildcard_rules(db, host.partition(".")[2])
    # A wildcard host is under itself.
    return (exact, *(group for group in wide if group != exact)) if exact else wide


@query
def destination_scope(db: Engine, host: str) -> frozenset[str]:
    """The client namespaces that may be told another destination than the rest for a host."""
    found = frozenset(key.namespace for group in rules_for(db, host) for key in group)
    exported = frozenset(
        namespace for group in rules_for(db, host) for key in group for namespace in _visible_in(db, key) - {"*"}
    )
    return found | exported


def _rule(db: Engine, key: ObjectKey) -> api.DestinationRule:
    value = objects(db, key)
    assert isinstance(value, api.DestinationRule), key
    return value


def _visible_in(db: Engine, key: ObjectKey) -> frozenset[str]:
    rule = _rule(db, key)
    if rule.spec.workload_selector and not rule.spec.export_to:
        return frozenset({key.namespace})
    return visibility(rule.spec.export_to or default_export_to(db, "DestinationRule"), key.namespace)


@query
def chosen(db: Engine, host: str, namespace: str) -> tuple[ObjectKey, ...]:
    """The rules that decide for a client in `namespace` ("" is none in particular), the oldest first."""
    groups = rules_for(db, host)
    if not groups:
        return ()
    found = service(db, host, namespace)
    root = settings(db).root_namespace
    places = [namespace] if namespace and namespace != root else []
    places += [found.namespace] if found else []
    places += [root]
    for place in places:
        for group in groups:
            keys = [
                key
                for key in group
                if key.namespace == place and (place == namespace or is_visible(_visible_in(db, key), namespace))
            ]
            if keys:
                return tuple(sorted(keys, key=lambda key: (age(db, key), key)))
    return ()


@query
def destination(db: Engine, host: str, namespace: str) -> Destination:
    """The subsets of a host as a client in `namespace` knows them; the oldest rule wins a name."""
    keys = chosen(db, host, namespace)
    subsets: dict[str, Subset] = {}
    for key in keys:
        for subset in _rule(db, key).spec.subsets:
            subsets.setdefault(subset.name, Subset(subset.name, tuple(sorted(subset.labels.items()))))
    return Destination(tuple(subsets.values()), frozenset(keys))


@query
def traffic_policy(db: Engine, host: str, namespace: str, port: int, subset: str) -> TrafficPolicy:
    """How a client in `namespace` treats one port of a host or of its subset.

    A subset's settings replace the host's, group by group; those of a port replace both, and what they leave out is
    the default (istio.io: PortTrafficPolicy).
    """
    rules = [_rule(db, key) for key in chosen(db, host, namespace)]
    general = next((rule.spec.traffic_policy for rule in rules if rule.spec.traffic_policy), None)
    special = next((each.traffic_policy for rule in rules for each in rule.spec.subsets if each.name == subset), None)
    layers = [layer for layer in (special, general) if layer]
    for layer in layers:
        for setting in layer.port_level_settings:
            if setting.port and setting.port.number == port:
                return _policy(
                    db, setting.load_balancer, setting.connection_pool, setting.outlier_detection, setting.tls
                )
    return _policy(
        db,
        next((layer.load_balancer for layer in layers if layer.load_balancer), None),
        next((layer.connection_pool for layer in layers if layer.connection_pool), None),
        next((layer.outlier_detection for layer in layers if layer.outlier_detection), None),
        next((layer.tls for layer in layers if layer.tls), None),
    )


def _policy(
    db: Engine,
    balancer: api.LoadBalancerSettings | None,
    pool: api.ConnectionPoolSettings | None,
    outliers: api.OutlierDetection | None,
    tls: api.ClientTLSSettings | None,
) -> TrafficPolicy:
    balancing, hash_key, ring_size, table_size = _balancing(balancer)
    warmup = None
    if balancer and (balancer.warmup or balancer.warmup_duration_secs is not None):
        warmup = milliseconds(balancer.warmup.duration if balancer.warmup else balancer.warmup_duration_secs)
    unspecified = TlsMode.AUTO if auto_mtls(db) else TlsMode.DISABLE
    return TrafficPolicy(
        balancing=balancing,
        hash_key=hash_key,
        ring_size=ring_size,
        table_size=table_size,
        warmup=warmup,
        pool=pool_of(pool),
        outliers=_outliers(outliers),
        tls=_tls(tls) if tls else ClientTls(unspecified),
    )


def _balancing(
    balancer: api.LoadBalancerSettings | None,
) -> tuple[LoadBalancing, HashKey | None, int | None, int | None]:
    if balancer is None:
        return LoadBalancing.LEAST_REQUEST, None, None, None
    if balancer.consistent_hash is None:
        return BALANCING.get(balancer.simple or "", LoadBalancing.LEAST_REQUEST), None, None, None
    hashing = balancer.consistent_hash
    if hashing.maglev:
        return LoadBalancing.MAGLEV, _hash_key(hashing), None, hashing.maglev.table_size or None
    size = hashing.ring_hash.minimum_ring_size if hashing.ring_hash else hashing.minimum_ring_size
    return LoadBalancing.RING_HASH, _hash_key(hashing), size or None, None


def _hash_key(hashing: api.ConsistentHashLB) -> HashKey | None:
    if hashing.http_header_name is not None:
        return HashKey("header", hashing.http_header_name)
    if hashing.http_cookie is not None:
        cookie = hashing.http_cookie
        return HashKey("cookie", cookie.name, milliseconds(cookie.ttl), cookie.path)
    if hashing.use_source_ip:
        return HashKey("source_ip")
    if hashing.http_query_parameter_name is not None:
        return HashKey("query", hashing.http_query_parameter_name)
    return None


def pool_of(pool: api.ConnectionPoolSettings | None) -> ConnectionPool:
    """Limits of connections and requests, as an object gives them."""
    tcp = pool.tcp if pool and pool.tcp else api.TCPSettings()
    http = pool.http if pool and pool.http else api.HTTPSettings()
    keepalive = tcp.tcp_keepalive
    upgrade = {"UPGRADE": True, "DO_NOT_UPGRADE": False}
    return ConnectionPool(
        connect_timeout=milliseconds(tcp.connect_timeout),
        max_connections=tcp.max_connections or None,
        idle_timeout=milliseconds(tcp.idle_timeout),
        max_connection_duration=milliseconds(tcp.max_connection_duration),
        tcp_keepalive=(keepalive.probes or None, seconds(keepalive.time), seconds(keepalive.interval))
        if keepalive
        else None,
        max_pending_requests=http.http1_max_pending_requests or None,
        max_requests=http.http2_max_requests or None,
        max_requests_per_connection=http.max_requests_per_connection or None,
        max_retries=http.max_retries or None,
        max_concurrent_streams=http.max_concurrent_streams or None,
        http_idle_timeout=milliseconds(http.idle_timeout),
        h2_upgrade=upgrade.get(http.h2_upgrade_policy),
        use_client_protocol=http.use_client_protocol,
    )


def _outliers(outliers: api.OutlierDetection | None) -> OutlierDetection | None:
    if outliers is None:
        return None
    return OutlierDetection(
        # `consecutiveErrors` is the deprecated name of what consecutive5xxErrors says now.
        consecutive_5xx=outliers.consecutive_5xx_errors
        if outliers.consecutive_5xx_errors is not None
        else outliers.consecutive_errors or None,
        consecutive_gateway=outliers.consecutive_gateway_errors,
        consecutive_local=outliers.consecutive_local_origin_failures,
        split_external_local=outliers.split_external_local_origin_errors,
        interval=milliseconds(outliers.interval),
        base_ejection_time=milliseconds(outliers.base_ejection_time),
        max_ejection_percent=outliers.max_ejection_percent or None,
        min_health_percent=outliers.min_health_percent,
    )


def _tls(tls: api.ClientTLSSettings) -> ClientTls:
    return ClientTls(
        mode=TlsMode(tls.mode.lower()),
        sni=tls.sni,
        subject_alt_names=tuple(tls.subject_alt_names),
        credential=tls.credential_name,
        certificate=tls.client_certificate,
        key=tls.private_key,
        authorities=tls.ca_certificates,
        insecure_skip_verify=bool(tls.insecure_skip_verify),
    )


def milliseconds(duration: Duration | None) -> int | None:
    """A duration in whole milliseconds; what is more than nothing stays more than nothing."""
    if duration is None:
        return None
    return max(1, round(duration.milliseconds)) if duration > 0 else 0


def seconds(duration: Duration | None) -> int | None:
    """A duration in whole seconds, rounded up."""
    return None if duration is None else -(-int(duration) // 1_000_000_000)
