"""The settings of a DestinationRule in the mesh's own words; which rule they are read from `destinations` decides.

See https://istio.io/latest/docs/reference/config/networking/destination-rule/.
"""

from __future__ import annotations

from ostria.base.durations import Duration
from ostria.mesh.model import (
    ClientTls,
    ConnectionPool,
    HashKey,
    LoadBalancing,
    LocalityBalancing,
    OutlierDetection,
    RetryBudget,
    TlsMode,
    Tunnel,
    Warmup,
)
from ostria.resources import destination_rule as api

BALANCING = {
    "ROUND_ROBIN": LoadBalancing.ROUND_ROBIN,
    "RANDOM": LoadBalancing.RANDOM,
    "PASSTHROUGH": LoadBalancing.PASSTHROUGH,
}


def balancing_of(
    balancer: api.LoadBalancerSettings | None,
) -> tuple[LoadBalancing, HashKey | None, int | None, int | None]:
    """How an endpoint is chosen, by which key, on a ring or in a table of which size."""
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
        attributes = tuple((each.name, each.value) for each in cookie.attributes)
        return HashKey("cookie", cookie.name, milliseconds(cookie.ttl), cookie.path, attributes)
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


def outliers_of(outliers: api.OutlierDetection | None) -> OutlierDetection | None:
    """When an endpoint is set aside."""
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


def client_tls(tls: api.ClientTLSSettings) -> ClientTls:
    """How a connection is protected."""
    return ClientTls(
        mode=TlsMode(tls.mode.lower()),
        sni=tls.sni,
        subject_alt_names=tuple(tls.subject_alt_names),
        credential=tls.credential_name,
        certificate=tls.client_certificate,
        key=tls.private_key,
        authorities=tls.ca_certificates,
        insecure_skip_verify=bool(tls.insecure_skip_verify),
        revoked=tls.ca_crl,
    )


def warmup_of(balancer: api.LoadBalancerSettings | None) -> Warmup | None:
    """How the share of a new endpoint grows."""
    if balancer is None:
        return None
    if balancer.warmup is not None:
        slow = balancer.warmup
        return Warmup(milliseconds(slow.duration) or 0, slow.minimum_percent, slow.aggression)
    old = milliseconds(balancer.warmup_duration_secs)
    return Warmup(old) if old is not None else None


def locality_of(setting: api.LocalityLoadBalancerSetting | None) -> LocalityBalancing | None:
    """What a client's locality means for its choice of endpoints; None where it means nothing."""
    if setting is None or setting.enabled is False:
        return None
    return LocalityBalancing(
        distribute=tuple((share.from_, tuple(sorted(share.to.items()))) for share in setting.distribute),
        failover=tuple((each.from_, each.to) for each in setting.failover),
        failover_priority=setting.failover_priority,
    )


def budget_of(budget: api.RetryBudget | None) -> RetryBudget | None:
    """How many retries may be under way at a time."""
    if budget is None:
        return None
    percent = budget.percent if budget.percent is not None else 20.0
    return RetryBudget(percent, budget.min_retry_concurrency if budget.min_retry_concurrency is not None else 3)


def tunnel_of(tunnel: api.TunnelSettings | None) -> Tunnel | None:
    """Through which HTTP proxy connections are carried."""
    return Tunnel(tunnel.target_host, tunnel.target_port, tunnel.protocol or "CONNECT") if tunnel else None


def milliseconds(duration: Duration | None) -> int | None:
    """A duration in whole milliseconds; what is more than nothing stays more than nothing."""
    if duration is None:
        return None
    return max(1, round(duration.milliseconds)) if duration > 0 else 0


def seconds(duration: Duration | None) -> int | None:
    """A duration in whole seconds, rounded up."""
    return None if duration is None else -(-int(duration) // 1_000_000_000)
