"""What Envoy is started with: who it is, where its configuration comes from, and what it serves about itself.

A bootstrap is JSON that the agent writes to a file. Everything else comes over one stream to the control plane, for
which Envoy sends a token from a file; it is read again for each new stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any as Untyped
from typing import NamedTuple

from ostria.envoy.addresses import (
    AGENT_PORT,
    ANY_V4,
    ANY_V6,
    HEALTH_PORT,
    INBOUND_SOURCE_V4,
    STATS_PORT,
    XDS_PORT,
    mark_option,
)
from ostria.envoy.bootstrap_options import Options, apply_options, compressors, extra_tag

# Where a pod finds what it needs to speak to the control plane (as Istio's injected volumes have it).
TOKEN_FILE = "/var/run/secrets/tokens/istio-token"  # noqa: S105 - A path.
ROOT_FILE = "/var/run/secrets/istio/root-cert.pem"
CONTROL_PLANE = "istiod.istio-system.svc"

_TYPE = "type.googleapis.com/"
_HTTP = f"{_TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_TYPE}envoy.extensions.filters.http.router.v3.Router"

# The way of the agent's own stream, and all that may be asked on it.
_NAMES, _ADS = "names", "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

# The statistics that every proxy keeps, as Istio; the others cost memory for each cluster.
_KEPT_PREFIXES = (
    "cluster_manager",
    "listener_manager",
    "server",
    "cluster.xds-grpc",
    "grpc.xds-grpc",
    "istio",
    "reporter=",
    "component",
)
_KEPT_SUFFIXES = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied")

_ROUTES = r"vhost\..*\.route\..*"

# What of a statistic's name becomes a label. A name within it ends at ";", because names of clusters hold dots.
_STATS_TAGS = (
    ("cluster_name", r"^cluster(\.([^;]+);)"),
    ("http_conn_manager_prefix", r"^http(\.([^;]+);)"),
    ("tcp_prefix", r"^tcp(\.([^;]+);)"),
    ("response_code", r"_rq(_(\d{3}))$"),
    ("response_code_class", r"_rq(_(\dxx))$"),
    ("listener_address", r"^listener(\.(.+?_\d+))\."),
)


class Proxy(NamedTuple):
    """Who a proxy is: `type` is "sidecar" or "router", as in its node's id.

    `addresses` are its pod's, the preferred first; `metadata` adds to what its node says. `annotations` are its
    pod's, and `config` is the ProxyConfig that it was started with, as JSON; both are only told here.
    """

    type: str
    addresses: tuple[str, ...]
    pod: str
    namespace: str
    service_account: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    workload: str = ""
    cluster: str = "Kubernetes"
    mesh: str = "cluster.local"
    domain_suffix: str = "cluster.local"
    locality: str = ""
    version: str = ""
    node_name: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    config: Mapping[str, Untyped] = {}

    @property
    def node_id(self) -> str:
        """The id that the control plane and its tools know the proxy by."""
        address = self.addresses[0] if self.addresses else INBOUND_SOURCE_V4
        home = f"{self.namespace}.svc.{self.domain_suffix}"
        return f"{self.type}~{address}~{self.pod}.{self.namespace}~{home}"


class ControlPlane(NamedTuple):
    """Where the control plane is, by which name it must show a certificate, and what a proxy shows it."""

    address: str = f"{CONTROL_PLANE}:{XDS_PORT}"
    name: str = CONTROL_PLANE
    token_file: str = TOKEN_FILE
    root_file: str = ROOT_FILE


def bootstrap(
    proxy: Proxy,
    control_plane: ControlPlane = ControlPlane(),  # noqa: B008 - Frozen.
    *,
    mark: int | None = None,
    concurrency: int = 2,
    kept_stats: Sequence[str] = (),
    ipv6: bool = True,
    agent_port: int = AGENT_PORT,
    names_socket: str = "",
    options: Options = Options(),  # noqa: B008 - Frozen.
) -> dict[str, Untyped]:
    """A bootstrap as JSON-able values.

    `mark` is set on the proxy's own packets where capture goes by it (SO_MARK); inbound clusters have to be built
    with the same. `concurrency` is the number of worker threads, which the command line has to repeat.
    `kept_stats` are prefixes of further statistics to keep. `names_socket` is the path of a Unix socket by which the
    agent beside the proxy asks the control plane for names; "" is none. `options` are what people ask of the start.
    """
    manager: dict[str, Untyped] = {"outlier_detection": {"event_log_path": "/dev/stdout"}}
    if mark is not None:
        option = mark_option(mark)
        manager["upstream_bind_config"] = {
            "socket_options": [
                {
                    "description": option.description,
                    "level": option.level,
                    "name": option.name,
                    "int_value": option.int_value,
                    "state": "STATE_PREBIND",
                }
            ]
        }
    made = {
        "node": _node(proxy, concurrency, options.service_cluster),
        "admin": {"address": _socket("127.0.0.1", options.admin_port)},
        "dynamic_resources": _dynamic_resources(control_plane),
        "static_resources": {
            "listeners": [
                _stats_listener(options, ipv6=ipv6),
                _listener(HEALTH_PORT, "agent", "/healthz/ready", "agent", ipv6=ipv6),
                *([_names_listener(names_socket)] if names_socket else ()),
            ],
            "clusters": [
                _static_cluster("prometheus_stats", "127.0.0.1", options.admin_port),
                _static_cluster("agent", "127.0.0.1", agent_port),
                *([_names_cluster(control_plane)] if names_socket else ()),
            ],
        },
        "cluster_manager": manager,
        "stats_config": _stats_config(kept_stats, options),
        "layered_runtime": {
            "layers": [
                {"name": "global config", "static_layer": {**_RUNTIME, **dict(options.runtime)}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPE}envoy.extensions.resource_monitors.downstream_connections.v3."
                        "DownstreamConnectionsConfig",
                        "max_active_downstream_connections": options.max_connections,
                    },
                }
            ]
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {"@type": f"{_TYPE}envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
            }
        ],
    }
    return apply_options(made, options)


# Long generated regular expressions are somebody's wish, and a path with a fragment is what browsers never send
# but some clients do; both as Istio.
_RUNTIME: Mapping[str, Untyped] = {
    "re2.max_program_size.error_level": 32768,
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
}


def _node(proxy: Proxy, concurrency: int, service_cluster: str) -> dict[str, Untyped]:
    region, _, rest = proxy.locality.partition("/")
    zone, _, sub_zone = rest.partition("/")
    labels = dict(proxy.labels)
    metadata: dict[str, Untyped] = {
        "NAME": proxy.pod,
        "NAMESPACE": proxy.namespace,
        "LABELS": labels,
        "SERVICE_ACCOUNT": proxy.service_account,
        "WORKLOAD_NAME": proxy.workload,
        "MESH_ID": proxy.mesh,
        "CLUSTER_ID": proxy.cluster,
        "INSTANCE_IPS": ",".join(proxy.addresses),
        "ISTIO_VERSION": proxy.version,
        "NODE_NAME": proxy.node_name,
        "ANNOTATIONS": dict(proxy.annotations) or "",
        "PROXY_CONFIG": {**proxy.config, "concurrency": concurrency},
        "ENVOY_STATUS_PORT": HEALTH_PORT,
        "ENVOY_PROMETHEUS_PORT": STATS_PORT,
        **dict(proxy.metadata),
    }
    app = labels.get("app") or proxy.workload or "istio-proxy"
    cluster = service_cluster if service_cluster and "app" not in labels else f"{app}.{proxy.namespace}"
    return {
        "id": proxy.node_id,
        "cluster": cluster,
        "locality": {
            name: value for name, value in (("region", region), ("zone", zone), ("sub_zone", sub_zone)) if value
        },
        "metadata": {name: value for name, value in metadata.items() if value != ""},
    }


def _dynamic_resources(control_plane: ControlPlane) -> dict[str, Untyped]:
    source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {
        "lds_config": source,
        "cds_config": source,
        "ads_config": {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"google_grpc": _control_plane_stream(control_plane)}],
        },
    }


def _control_plane_stream(control_plane: ControlPlane) -> dict[str, Untyped]:
    token = {
        "@type": f"{_TYPE}envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
        "secret_data": {"filename": control_plane.token_file},
        "header_key": "authorization",
        "header_prefix": "Bearer ",
    }
    return {
        "target_uri": control_plane.address,
        "stat_prefix": "xds-grpc",
        "credentials_factory_name": "envoy.grpc_credentials.file_based_metadata",
        "channel_credentials": {"ssl_credentials": {"root_certs": {"filename": control_plane.root_file}}},
        "call_credentials": [
            {"from_plugin": {"name": "envoy.grpc_credentials.file_based_metadata", "typed_config": token}}
        ],
        "channel_args": {
            "args": {
                "grpc.ssl_target_name_override": {"string_value": control_plane.name},
                "grpc.default_authority": {"string_value": control_plane.name},
                # A control plane that comes back is found again at once; gRPC would wait up to two minutes.
                "grpc.initial_reconnect_backoff_ms": {"int_value": 200},
                "grpc.min_reconnect_backoff_ms": {"int_value": 200},
                "grpc.max_reconnect_backoff_ms": {"int_value": 1000},
                # A dead connection is noticed although nothing is said on it.
                "grpc.keepalive_time_ms": {"int_value": 30_000},
                "grpc.keepalive_timeout_ms": {"int_value": 10_000},
                "grpc.http2.max_pings_without_data": {"int_value": 0},
                "grpc.max_receive_message_length": {"int_value": -1},
            }
        },
    }


def _stats_config(kept: Sequence[str], options: Options) -> dict[str, Untyped]:
    prefixes = (*_KEPT_PREFIXES, *kept, *options.kept_prefixes)
    patterns: list[dict[str, Untyped]] = [{"prefix": prefix} for prefix in prefixes]
    patterns += [{"suffix": suffix} for suffix in (*_KEPT_SUFFIXES, *options.kept_suffixes)]
    patterns += [{"safe_regex": {"regex": regex}} for regex in (_ROUTES, *options.kept_patterns)]
    config: dict[str, Untyped] = {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _STATS_TAGS],
        "stats_matcher": {"inclusion_list": {"patterns": patterns}},
    }
    config["stats_tags"] += map(extra_tag, options.tags)
    if options.buckets:
        config["histogram_bucket_settings"] = [
            {"match": {"prefix": prefix}, "buckets": list(bounds)} for prefix, bounds in options.buckets
        ]
    return config


def _socket(host: str, port: int) -> dict[str, Untyped]:
    return {"socket_address": {"address": host, "port_value": port}}


def _static_cluster(name: str, host: str, port: int) -> dict[str, Untyped]:
    endpoint = {"endpoint": {"address": _socket(host, port)}}
    return {
        "name": name,
        "alt_stat_name": f"{name};",
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _names_listener(path: str) -> dict[str, Untyped]:
    """The agent speaks HTTP/1.1 here, and the control plane hears HTTP/2 with TLS. Streams last."""
    route = {"cluster": _NAMES, "timeout": "0s"}
    manager = {
        "@type": _HTTP,
        "codec_type": "HTTP1",
        "stat_prefix": f"{_NAMES};",
        "stream_idle_timeout": "0s",
        "route_config": {
            "virtual_hosts": [
                {"name": _NAMES, "domains": ["*"], "routes": [{"match": {"prefix": _ADS}, "route": route}]}
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    # Only who runs as the proxy may use it.
    pipe = {"path": path, "mode": 0o600}
    return {
        "name": _NAMES,
        "address": {"pipe": pipe},
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [chain],
    }


def _names_cluster(control_plane: ControlPlane) -> dict[str, Untyped]:
    address = control_plane.address
    if address.startswith("unix:"):
        place: dict[str, Untyped] = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        place = _socket(host.strip("[]"), int(port))
    roots = {"trusted_ca": {"filename": control_plane.root_file}}
    names = [{"san_type": "DNS", "matcher": {"exact": control_plane.name}}]
    context = {"validation_context": {**roots, "match_typed_subject_alt_names": names}, "alpn_protocols": ["h2"]}
    options = {
        "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "10s"}}
        },
    }
    return {
        "name": _NAMES,
        "alt_stat_name": f"{_NAMES};",
        "type": "STATIC" if "pipe" in place else "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": _NAMES,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": control_plane.name,
                "common_tls_context": context,
            },
        },
    }


def _stats_listener(options: Options, *, ipv6: bool) -> dict[str, Untyped]:
    """The port of Envoy's own statistics."""
    listener = _listener(STATS_PORT, "stats", "/stats/prometheus", "prometheus_stats", ipv6=ipv6)
    if options.compressed_stats:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [*compressors(), *manager["http_filters"]]
    return listener


def _listener(port: int, stat_prefix: str, path: str, cluster: str, *, ipv6: bool) -> dict[str, Untyped]:
    """A port that tells about the proxy itself; limits for the workload's connections do not shut it."""
    manager = {
        "@type": _HTTP,
        "codec_type": "AUTO",
        "stat_prefix": f"{stat_prefix};",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "backend",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": path}, "route": {"cluster": cluster}}],
                }
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    listener: dict[str, Untyped] = {
        "name": f"{ANY_V4}_{port}",
        "address": _socket(ANY_V4, port),
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    if ipv6:
        listener["additional_addresses"] = [{"address": _socket(ANY_V6, port)}]
    return listener
