"""What ProxyConfig, a pod's annotations and its environment ask of how Envoy is started.

    ProxyConfig (JSON), annotations, node metadata -> read_options -> Options -> apply_options(bootstrap)

See https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig and
https://istio.io/latest/docs/reference/config/annotations/. What cannot be read is passed over: a proxy that starts
without a histogram's buckets is better than none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any as Untyped
from typing import NamedTuple

from ostria.base import durations
from ostria.envoy.addresses import ADMIN_PORT

Json = dict[str, Untyped]

_TYPE = "type.googleapis.com/"
_ANNOTATION = "sidecar.istio.io/"
_FLUSH_INTERVAL = 5_000_000_000  # Envoy's own, in ns.
_MOST_CONNECTIONS = "overload.global_downstream_max_connections"


class Upstream(NamedTuple):
    """A server that the proxy itself calls: where it is, and how the connection is protected (ClientTLSSettings)."""

    host: str
    port: int
    tls: Mapping[str, Untyped] = {}


class Options(NamedTuple):
    """Everything here is optional; see the API for each. Intervals are Envoy's text, such as "10s"."""

    admin_port: int = ADMIN_PORT
    service_cluster: str = ""
    max_connections: int = 0x7FFFFFFF
    runtime: tuple[tuple[str, Untyped], ...] = ()
    kept_prefixes: tuple[str, ...] = ()
    kept_suffixes: tuple[str, ...] = ()
    kept_patterns: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    buckets: tuple[tuple[str, tuple[float, ...]], ...] = ()
    flush_interval: str = ""
    eviction_interval: str = ""
    compressed_stats: bool = True
    statsd: Upstream | None = None
    metrics_service: Upstream | None = None
    access_log_service: Upstream | None = None
    zipkin: Upstream | None = None
    datadog: Upstream | None = None
    load_stats: Mapping[str, Untyped] = {}


def read_options(
    config: Mapping[str, Untyped],
    annotations: Mapping[str, str],
    metadata: Mapping[str, str],
    addresses: Sequence[str],
) -> Options:
    """The options that a proxy's ProxyConfig (as JSON), its pod's annotations and its node's metadata come to.

    What an annotation names goes before ProxyConfig; "{pod_ip}" in a statistic's name is each of the addresses.
    """
    matcher = _map(config.get("proxyStatsMatcher"))
    tracing = _map(config.get("tracing"))
    runtime = {name: _runtime(value) for name, value in _map(config.get("runtimeValues")).items()}

    def kept(annotation: str, field: str) -> tuple[str, ...]:
        text = annotations.get(_ANNOTATION + annotation)
        names = text.split(",") if text else _texts(matcher.get(field))
        return tuple(dict.fromkeys(each for name in names if name for each in _of_each_address(name, addresses)))

    limit = metadata.get("GLOBAL_DOWNSTREAM_MAX_CONNECTIONS") or str(runtime.get(_MOST_CONNECTIONS, ""))
    extra = (*_texts(config.get("extraStatTags")), *annotations.get(f"{_ANNOTATION}extraStatTags", "").split(","))
    flush = _interval(annotations.get(f"{_ANNOTATION}statsFlushInterval"))
    evict = _interval(annotations.get(f"{_ANNOTATION}statsEvictionInterval"))
    # Envoy evicts at a flush, and refuses what is not a whole number of them.
    evicts = evict is not None and evict % (flush or _FLUSH_INTERVAL) == 0
    return Options(
        admin_port=_number(config.get("proxyAdminPort")) or ADMIN_PORT,
        service_cluster=str(config.get("serviceCluster") or ""),
        max_connections=int(limit) if limit.isascii() and limit.isdigit() else Options().max_connections,
        runtime=tuple(sorted(runtime.items())),
        kept_prefixes=kept("statsInclusionPrefixes", "inclusionPrefixes"),
        kept_suffixes=kept("statsInclusionSuffixes", "inclusionSuffixes"),
        kept_patterns=kept("statsInclusionRegexps", "inclusionRegexps"),
        tags=tuple(dict.fromkeys(name for name in extra if name)),
        buckets=_buckets(annotations.get(f"{_ANNOTATION}statsHistogramBuckets", "")),
        flush_interval=f"{flush / 1e9:g}s" if flush else "",
        eviction_interval=f"{evict / 1e9:g}s" if evict and evicts else "",
        compressed_stats=config.get("statsCompression") is not False,
        statsd=_address(config.get("statsdUdpAddress")),
        metrics_service=_service(config.get("envoyMetricsService")),
        access_log_service=_service(config.get("envoyAccessLogService")),
        zipkin=_address(_map(tracing.get("zipkin")).get("address")),
        datadog=_address(_map(tracing.get("datadog")).get("address")),
        load_stats=_load(metadata.get("LOAD_STATS_CONFIG_JSON", "")),
    )


# --- reading ------------------------------------------------------------------------------------------------------


def _map(value: object) -> Mapping[str, Untyped]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else ()


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _runtime(value: object) -> Untyped:
    return {"true": True, "false": False}.get(str(value), value)


def _of_each_address(name: str, addresses: Sequence[str]) -> Iterable[str]:
    return [name.replace("{pod_ip}", address) for address in addresses] if "{pod_ip}" in name else [name]


def _interval(text: str | None) -> int | None:
    """A duration in nanoseconds, None where there is none or it cannot be read."""
    try:
        return int(durations.parse(text)) if text else None
    except ValueError:
        return None


def _load(text: str) -> Mapping[str, Untyped]:
    try:
        return _map(json.loads(text)) if text else {}
    except ValueError:
        return {}


def _buckets(text: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    found = {
        prefix: tuple(each for each in bounds if isinstance(each, int | float) and each > 0)
        for prefix, bounds in _load(text).items()
        if isinstance(bounds, list)
    }
    return tuple(sorted(found.items()))


def _address(value: object, tls: Mapping[str, Untyped] = {}) -> Upstream | None:
    host, colon, port = str(value or "").rpartition(":")
    return Upstream(host.strip("[]"), int(port), tls) if colon and port.isascii() and port.isdigit() else None


def _service(value: object) -> Upstream | None:
    service = _map(value)
    return _address(service.get("address"), _map(service.get("tlsSettings")))


# --- writing ------------------------------------------------------------------------------------------------------


def apply_options(bootstrap: Json, options: Options) -> Json:
    """A bootstrap with what the options add to it."""
    static = bootstrap["static_resources"]
    clusters = [*static["clusters"]]
    sinks: list[Json] = []
    tracing: Json = {}
    if options.zipkin:
        clusters.append(_cluster("zipkin", options.zipkin))
        tracing = _tracer("zipkin", "ZipkinConfig", collector_cluster="zipkin", **_ZIPKIN)
    elif options.datadog:
        clusters.append(_cluster("datadog_agent", options.datadog))
        service = bootstrap["node"]["cluster"]
        tracing = _tracer("datadog", "DatadogConfig", collector_cluster="datadog_agent", service_name=service)
    if options.metrics_service:
        clusters.append(_cluster("envoy_metrics_service", options.metrics_service, http2=True))
        sinks.append(_sink("metrics_service", "MetricsServiceConfig", **_METRICS_SERVICE))
    if options.access_log_service:
        clusters.append(_cluster("envoy_accesslog_service", options.access_log_service, http2=True))
    if options.statsd:
        sinks.append(_sink("statsd", "StatsdSink", address=_socket(options.statsd)))
    added: Json = {"static_resources": {**static, "clusters": clusters}}
    if sinks:
        added["stats_sinks"] = sinks
    if tracing:
        added["tracing"] = tracing
    if options.flush_interval:
        added["stats_flush_interval"] = options.flush_interval
    if options.eviction_interval:
        added["stats_eviction_interval"] = options.eviction_interval
    if options.load_stats:
        added["cluster_manager"] = {**bootstrap["cluster_manager"], "load_stats_config": dict(options.load_stats)}
    return {**bootstrap, **added}


_ZIPKIN = {
    "collector_endpoint": "/api/v2/spans",
    "collector_endpoint_version": "HTTP_JSON",
    "trace_id_128bit": True,
    "shared_span_context": False,
}
_METRICS_SERVICE = {
    "transport_api_version": "V3",
    "grpc_service": {"envoy_grpc": {"cluster_name": "envoy_metrics_service"}},
}


def compressors() -> list[Json]:
    """The filters by which whoever asks for statistics may have them packed; the best way first."""
    return [
        {
            "name": f"envoy.filters.http.compressor.{name}",
            "typed_config": {
                "@type": f"{_TYPE}envoy.extensions.filters.http.compressor.v3.Compressor",
                "compressor_library": {
                    "name": f"stats_{name}",
                    "typed_config": {
                        "@type": f"{_TYPE}envoy.extensions.compression.{name}.compressor.v3.{name.capitalize()}"
                    },
                },
            },
        }
        for name in ("brotli", "zstd", "gzip")
    ]


def extra_tag(name: str) -> Json:
    """What a metric's name holds of a tag that people have added."""
    return {"tag_name": name, "regex": rf"({name}=\.=(.*?);\.;)"}


def _tracer(name: str, message: str, **config: Untyped) -> Json:
    return {
        "http": {
            "name": f"envoy.tracers.{name}",
            "typed_config": {"@type": f"{_TYPE}envoy.config.trace.v3.{message}", **config},
        }
    }


def _sink(name: str, message: str, **config: Untyped) -> Json:
    return {
        "name": f"envoy.stat_sinks.{name}",
        "typed_config": {"@type": f"{_TYPE}envoy.config.metrics.v3.{message}", **config},
    }


def _socket(upstream: Upstream) -> Json:
    return {"socket_address": {"address": upstream.host, "port_value": upstream.port}}


def _cluster(name: str, upstream: Upstream, *, http2: bool = False) -> Json:
    cluster: Json = {
        "name": name,
        "alt_stat_name": f"{name};",
        "type": "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "dns_refresh_rate": "30s",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(upstream)}}]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    if upstream.tls.get("mode") in ("SIMPLE", "MUTUAL"):
        cluster["transport_socket"] = _tls(upstream.tls)
    return cluster


def _tls(tls: Mapping[str, Untyped]) -> Json:
    """TLS as ClientTLSSettings describe it, by files of the proxy's own."""
    common: Json = {"alpn_protocols": ["h2"]}
    validation: Json = {}
    if tls.get("caCertificates"):
        validation["trusted_ca"] = {"filename": tls["caCertificates"]}
    names = _texts(tls.get("subjectAltNames"))
    if names:
        validation["match_typed_subject_alt_names"] = [
            {"san_type": "URI" if "://" in name else "DNS", "matcher": {"exact": name}} for name in names
        ]
    if validation:
        common["validation_context"] = validation
    if tls.get("mode") == "MUTUAL":
        common["tls_certificates"] = [
            {
                "certificate_chain": {"filename": tls.get("clientCertificate", "")},
                "private_key": {"filename": tls.get("privateKey", "")},
            }
        ]
    context = {
        "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    }
    sni = tls.get("sni")
    return {"name": "envoy.transport_sockets.tls", "typed_config": {**context, **({"sni": sni} if sni else {})}}
