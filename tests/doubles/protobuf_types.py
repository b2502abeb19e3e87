"""Make every Envoy message known to protobuf, so that an Any of any type can be shown as JSON."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata


@functools.cache
def import_all() -> None:
    """Import the modules whose messages our configuration packs into Any."""
    for name in (
        "envoy.extensions.access_loggers.file.v3.file_pb2",
        "envoy.extensions.clusters.dns.v3.dns_cluster_pb2",
        "envoy.extensions.filters.http.cors.v3.cors_pb2",
        "envoy.extensions.filters.http.fault.v3.fault_pb2",
        "envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2",
        "envoy.extensions.filters.http.router.v3.router_pb2",
        "envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2",
        "envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2",
        "envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2",
        "envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2",
        "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2",
        "envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2",
        "envoy.extensions.internal_redirect.previous_routes.v3.previous_routes_config_pb2",
        "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2",
        "envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2",
        "envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer_pb2",
        "envoy.extensions.transport_sockets.tls.v3.tls_pb2",
        "envoy.extensions.upstreams.http.v3.http_protocol_options_pb2",
    ):
        importlib.import_module(name)
