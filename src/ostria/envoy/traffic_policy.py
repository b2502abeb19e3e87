"""How a cluster treats its endpoints: connections, protocol, failures, balancing. What a DestinationRule says of them.

Where nothing is said Istio's defaults hold, not Envoy's: no limit on connections, requests and retries, ten seconds
to connect, the least loaded of two endpoints.
"""

from __future__ import annotations

from typing import Any as Untyped

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.proxy_protocol_pb2 import ProxyProtocolConfig
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions

from ostria.envoy.tls import plaintext
from ostria.envoy.wire import duration, packed
from ostria.mesh.model import (
    ConnectionPool,
    LoadBalancing,
    OutlierDetection,
    Protocol,
    RetryBudget,
    TrafficPolicy,
    Warmup,
)

CONNECT_TIMEOUT = 10_000
UNLIMITED = 0xFFFFFFFF

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_BALANCING = {
    LoadBalancing.LEAST_REQUEST: Cluster.LEAST_REQUEST,
    LoadBalancing.ROUND_ROBIN: Cluster.ROUND_ROBIN,
    LoadBalancing.RANDOM: Cluster.RANDOM,
    LoadBalancing.RING_HASH: Cluster.RING_HASH,
    LoadBalancing.MAGLEV: Cluster.MAGLEV,
    LoadBalancing.PASSTHROUGH: Cluster.CLUSTER_PROVIDED,
}

_SMALLEST_RING = 1024  # Istio's default for minimumRingSize, which is Envoy's too.


def speaks_http2(protocol: Protocol, pool: ConnectionPool) -> bool:
    """Whether every request goes out as HTTP/2, whatever the caller spoke."""
    if not (protocol.is_http or protocol is Protocol.AUTO) or pool.use_client_protocol:
        return False
    # Where the protocol is to be found out, what is upgraded might be no HTTP at all.
    return protocol.is_http2 or (pool.h2_upgrade is True and protocol.is_http)


def apply_connection_pool(cluster: Untyped, protocol: Protocol, pool: ConnectionPool) -> None:
    """Limits, timeouts and the HTTP version towards the endpoints; the cluster has the defaults already."""
    if pool.connect_timeout is not None:
        cluster.connect_timeout.CopyFrom(duration(pool.connect_timeout))
    limits = cluster.circuit_breakers.thresholds[0]
    if pool.max_connections:
        limits.max_connections.value = pool.max_connections
    if pool.max_pending_requests:
        limits.max_pending_requests.value = pool.max_pending_requests
    if pool.max_requests:
        limits.max_requests.value = pool.max_requests
    if pool.max_retries:
        limits.max_retries.value = pool.max_retries
    if pool.tcp_keepalive is not None:
        probes, time, interval = pool.tcp_keepalive
        keepalive = cluster.upstream_connection_options.tcp_keepalive
        keepalive.SetInParent()
        if probes:
            keepalive.keepalive_probes.value = probes
        if time:
            keepalive.keepalive_time.value = time
        if interval:
            keepalive.keepalive_interval.value = interval


def http_options(protocol: Protocol, pool: ConnectionPool) -> Untyped:
    """The HTTP options of a cluster, or None for one that carries bytes only."""
    if not (protocol.is_http or protocol is Protocol.AUTO):
        return None
    options = HttpProtocolOptions()
    common = options.common_http_protocol_options
    idle_timeout = pool.http_idle_timeout if pool.http_idle_timeout is not None else pool.idle_timeout
    if idle_timeout is not None:
        common.idle_timeout.CopyFrom(duration(idle_timeout))
    if pool.max_requests_per_connection:
        common.max_requests_per_connection.value = pool.max_requests_per_connection
    if pool.max_connection_duration is not None:
        common.max_connection_duration.CopyFrom(duration(pool.max_connection_duration))
    http2: Untyped = None
    if speaks_http2(protocol, pool):
        http2 = options.explicit_http_config.http2_protocol_options
    elif protocol is Protocol.AUTO or pool.use_client_protocol:
        options.use_downstream_protocol_config.http_protocol_options.SetInParent()
        http2 = options.use_downstream_protocol_config.http2_protocol_options
    else:
        options.explicit_http_config.http_protocol_options.SetInParent()
    if http2 is not None:
        http2.SetInParent()
        if pool.max_concurrent_streams:
            http2.max_concurrent_streams.value = pool.max_concurrent_streams
    return options


def set_http_options(cluster: Untyped, options: Untyped) -> None:
    """Put HTTP options into their place in a cluster."""
    cluster.typed_extension_protocol_options[_HTTP_OPTIONS].CopyFrom(packed(options))


def apply_balancing(cluster: Untyped, policy: TrafficPolicy) -> None:
    """How an endpoint is chosen among the healthy ones."""
    cluster.lb_policy = _BALANCING[policy.balancing]
    if policy.balancing is LoadBalancing.RING_HASH:
        cluster.ring_hash_lb_config.minimum_ring_size.value = policy.ring_size or _SMALLEST_RING
    elif policy.balancing is LoadBalancing.MAGLEV and policy.table_size:
        cluster.maglev_lb_config.table_size.value = policy.table_size
    elif policy.warmup is not None and policy.balancing in (LoadBalancing.LEAST_REQUEST, LoadBalancing.ROUND_ROBIN):
        least = policy.balancing is LoadBalancing.LEAST_REQUEST
        config = cluster.least_request_lb_config if least else cluster.round_robin_lb_config
        _slow_start(config.slow_start_config, policy.warmup)


def _slow_start(config: Untyped, warmup: Warmup) -> None:
    config.slow_start_window.CopyFrom(duration(warmup.duration))
    if warmup.aggression is not None:
        config.aggression.default_value = warmup.aggression
        config.aggression.runtime_key = "ostria.warmup.aggression"
    if warmup.minimum_percent is not None:
        config.min_weight_percent.value = warmup.minimum_percent


def apply_locality(cluster: Untyped, policy: TrafficPolicy) -> None:
    """Localities have shares of their own where a rule gives them or says who takes over; else they are one set."""
    setting = policy.locality
    if setting is not None and (setting.distribute or setting.failover or setting.failover_priority):
        cluster.common_lb_config.locality_weighted_lb_config.SetInParent()


def apply_retry_budget(cluster: Untyped, budget: RetryBudget) -> None:
    """How many retries may be under way, relative to all requests."""
    message = cluster.circuit_breakers.thresholds[0].retry_budget
    message.budget_percent.value = budget.percent
    message.min_retry_concurrency.value = budget.minimum


def apply_proxy_protocol(cluster: Untyped, version: str) -> None:
    """Tell the endpoint who the client is, ahead of what is sent and of TLS, if there is any."""
    if cluster.transport_socket_matches:
        for match in cluster.transport_socket_matches:
            match.transport_socket.CopyFrom(_behind_proxy_protocol(match.transport_socket, version))
    else:
        cluster.transport_socket.CopyFrom(_behind_proxy_protocol(cluster.transport_socket, version))


def _behind_proxy_protocol(socket: Untyped, version: str) -> TransportSocket:
    inner = socket if socket.name else plaintext()
    config = ProxyProtocolUpstreamTransport(
        config=ProxyProtocolConfig(version=ProxyProtocolConfig.Version.Value(version)), transport_socket=inner
    )
    return TransportSocket(name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=packed(config))


def apply_outliers(cluster: Untyped, outliers: OutlierDetection) -> None:
    """When an endpoint is set aside; only for the failures that are named, as in Istio."""
    detection = cluster.outlier_detection
    detection.enforcing_success_rate.value = 0
    if outliers.consecutive_5xx is not None:
        detection.consecutive_5xx.value = outliers.consecutive_5xx
        detection.enforcing_consecutive_5xx.value = 100 if outliers.consecutive_5xx else 0
    if outliers.consecutive_gateway is not None:
        detection.consecutive_gateway_failure.value = outliers.consecutive_gateway
        detection.enforcing_consecutive_gateway_failure.value = 100 if outliers.consecutive_gateway else 0
    if outliers.split_external_local:
        detection.split_external_local_origin_errors = True
        if outliers.consecutive_local is not None:
            detection.consecutive_local_origin_failure.value = outliers.consecutive_local
            detection.enforcing_consecutive_local_origin_failure.value = 100 if outliers.consecutive_local else 0
        detection.enforcing_local_origin_success_rate.value = 0
    if outliers.interval is not None:
        detection.interval.CopyFrom(duration(outliers.interval))
    if outliers.base_ejection_time is not None:
        detection.base_ejection_time.CopyFrom(duration(outliers.base_ejection_time))
    if outliers.max_ejection_percent is not None:
        detection.max_ejection_percent.value = outliers.max_ejection_percent
    cluster.common_lb_config.healthy_panic_threshold.value = outliers.min_health_percent or 0
