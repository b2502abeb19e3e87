"""MeshConfig, the settings of the whole mesh: key `mesh` of the ConfigMap `istio` in the root namespace.

See https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/. The fields that Ostria acts on have types here.
The others that Istio has are accepted and named in `ACCEPTED`, so that people's own files load; anything else is
reported. Nothing here knows where the ConfigMap lies or which one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import lru_cache
from typing import Literal

import msgspec

from ostria.base import Level, Problem
from ostria.base.durations import Duration
from ostria.base.yaml import Document, Path, field_path, read_documents
from ostria.resources.cipher_suites import CURVES, nearest_suites, suite_name
from ostria.resources.destination_rule import LocalityLoadBalancerSetting, TcpKeepalive
from ostria.resources.fields import check, decode_duration, fields_of, nearest
from ostria.resources.shapes import Int32, Labels, Lenient, Strict, UInt32
from ostria.resources.virtual_service import HTTPRetry

_DEPRECATED = "take it out: it is deprecated, and Istio ignores it too"
_NOT_YET = "nothing depends on it in this version"
_CAPTURED = "15001 and 15006 stand in every pod's capture rules"

# What Istio has and has no effect here, and what to do.
ACCEPTED: Mapping[str, str] = {
    "ca": "name the authority's files with `ostria install`",
    "certificates": _DEPRECATED,
    "configSources": "objects come from the Kubernetes API, and on one machine from `ostria up --apply`",
    "defaultProviders": _NOT_YET,
    "defaultTrafficPolicy": _DEPRECATED,
    "disableEnvoyListenerLog": _NOT_YET,
    "enableClientSidePolicyCheck": _DEPRECATED,
    "enableEnvoyAccessLogService": _NOT_YET,
    "enableTracing": _NOT_YET,
    "inboundClusterStatName": _NOT_YET,
    "mixerCheckServer": _DEPRECATED,
    "mixerReportServer": _DEPRECATED,
    "outboundClusterStatName": _NOT_YET,
    "policyCheckFailOpen": _DEPRECATED,
    "proxyInboundListenPort": _CAPTURED,
    "proxyListenPort": _CAPTURED,
    "serviceScopeConfigs": "take it out: it is for ambient meshes",
    "serviceSettings": "take it out: a mesh is one cluster here, in which every service is local",
    "verifyCertificateAtClient": "servers are verified always, unless a DestinationRule says insecureSkipVerify",
}

ACCEPTED_OF_PROXIES = frozenset(
    (
        "availabilityZone",
        "binaryPath",
        "caCertificatesPem",
        "configPath",
        "controlPlaneAuthPolicy",
        "customConfigFile",
        "fileFlushInterval",
        "fileFlushMinSizeKb",
        "gatewayTopology",
        "meshId",
        "parentShutdownDuration",
        "privateKeyProvider",
        "proxyBootstrapTemplatePath",
        "proxyHeaders",
        "readinessProbe",
        "sds",
        "tracingServiceName",
        "zipkinAddress",
    )
)


class TrafficMode(Strict, frozen=True):
    """What becomes of calls to hosts that the mesh does not know."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    egress_proxy: Mapping[str, object] | None = None


class InboundMode(Strict, frozen=True):
    """Where a sidecar forwards what it receives."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"


class PathNormalization(Strict, frozen=True):
    """What is done to paths before they are matched."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"


class TLSConfig(Strict, frozen=True):
    """The TLS that proxies speak."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    ecdh_curves: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()


class CertificateData(Strict, frozen=True):
    """An authority whose certificates workloads take beside those of the mesh's own: PEM, or where a bundle is."""

    pem: str = ""
    spiffe_bundle_url: str = ""
    cert_signers: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


class LabelExpression(Strict, frozen=True):
    """One condition on a label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()


class LabelSelector(Strict, frozen=True):
    """Conditions on labels, all of which must hold; see `ostria.base.selectors`."""

    match_labels: Labels = {}
    match_expressions: tuple[LabelExpression, ...] = ()


class ProxyConfig(Lenient, frozen=True):
    """How a proxy is started, as far as Ostria acts on it; others that Istio has are named in `ACCEPTED_OF_PROXIES`."""

    concurrency: int | None = None
    discovery_address: str = ""
    drain_duration: Duration | None = None
    termination_drain_duration: Duration | None = None
    hold_application_until_proxy_starts: bool | None = None
    interception_mode: str = ""
    proxy_admin_port: Int32 = 0
    status_port: Int32 = 0
    proxy_metadata: Labels = {}
    service_cluster: str = ""
    stat_name_length: Int32 = 0
    statsd_udp_address: str = ""
    extra_stat_tags: tuple[str, ...] = ()
    stats_compression: bool | None = None
    runtime_values: Labels = {}
    tracing: Mapping[str, object] | None = None
    proxy_stats_matcher: Mapping[str, object] | None = None
    envoy_metrics_service: Mapping[str, object] | None = None
    envoy_access_log_service: Mapping[str, object] | None = None
    image: Mapping[str, object] | None = None


class ExtAuthzBody(Strict, frozen=True):
    """How much of a request's body is sent along."""

    max_request_bytes: UInt32 = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class ExtAuthzHttp(Strict, frozen=True):
    """Somebody who is asked over HTTP whether a request is allowed; `service` is `host` or `namespace/host`."""

    service: str = ""
    port: UInt32 = 0
    timeout: Duration | None = None
    path_prefix: str = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: Labels = {}
    include_request_body_in_check: ExtAuthzBody | None = None
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class ExtAuthzGrpc(Strict, frozen=True):
    """Somebody who is asked over gRPC whether a request or a connection is allowed."""

    service: str = ""
    port: UInt32 = 0
    timeout: Duration | None = None
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: ExtAuthzBody | None = None


class ExtensionProvider(Lenient, frozen=True):
    """Somebody outside of the mesh whom policies name; of all kinds, those that authorize have types here."""

    name: str = ""
    envoy_ext_authz_http: ExtAuthzHttp | None = None
    envoy_ext_authz_grpc: ExtAuthzGrpc | None = None


class MeshConfig(Lenient, frozen=True):
    """The settings, with Istio's defaults."""

    proxy_http_port: Int32 = 0
    connect_timeout: Duration = Duration(10_000_000_000)
    protocol_detection_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    ingress_class: str = "istio"
    ingress_service: str = "istio-ingressgateway"
    ingress_controller_mode: Literal["UNSPECIFIED", "OFF", "DEFAULT", "STRICT"] = "STRICT"
    ingress_selector: str = "ingressgateway"
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    default_config: ProxyConfig = ProxyConfig()
    outbound_traffic_policy: TrafficMode = TrafficMode("ALLOW_ANY")
    inbound_traffic_policy: InboundMode = InboundMode()
    enable_auto_mtls: bool = True
    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    ca_certificates: tuple[CertificateData, ...] = ()
    default_service_export_to: tuple[str, ...] = ("*",)
    default_virtual_service_export_to: tuple[str, ...] = ("*",)
    default_destination_rule_export_to: tuple[str, ...] = ("*",)
    root_namespace: str = ""
    locality_lb_setting: LocalityLoadBalancerSetting = LocalityLoadBalancerSetting(enabled=True)
    dns_refresh_rate: Duration = Duration(60_000_000_000)
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = "DO_NOT_UPGRADE"
    enable_prometheus_merge: bool = True
    discovery_selectors: tuple[LabelSelector, ...] = ()
    extension_providers: tuple[ExtensionProvider, ...] = ()
    path_normalization: PathNormalization = PathNormalization()
    default_http_retry_policy: HTTPRetry | None = None
    mesh_mtls: TLSConfig | None = msgspec.field(name="meshMTLS", default=None)
    tls_defaults: TLSConfig | None = None


DEFAULT = MeshConfig()


@lru_cache(maxsize=32)
def parse_mesh_config(text: str) -> tuple[MeshConfig, tuple[Problem, ...]]:
    """The settings that a `mesh` text spells, and what is wrong with it.

    With an error the settings are Istio's defaults: whoever has a last good text keeps it. Fields of problems and
    lines of origins are the text's own, from line 1.
    """
    documents = list(read_documents(text, "mesh"))
    problems = [document for document in documents if isinstance(document, Problem)]
    if problems:
        return DEFAULT, tuple(problems)
    if not documents:
        return DEFAULT, ()
    if len(documents) > 1 or not isinstance(documents[0], Document):
        return DEFAULT, (Problem("yaml-syntax", Level.ERROR, "expected one document"),)
    document = documents[0]
    checked, faults = check(MeshConfig, document.value)
    problems += [
        Problem(
            fault.code,
            Level.WARNING if fault.unknown else Level.ERROR,
            fault.message,
            field=field_path(fault.path),
            origin=document.origin(fault.path),
            hint=fault.hint,
        )
        for fault in faults
    ]
    problems += _unknown(document)
    if any(problem.level is Level.ERROR for problem in problems):
        return DEFAULT, tuple(problems)
    config = msgspec.convert(checked, MeshConfig, dec_hook=decode_duration)
    problems += _handshakes(document, "meshMTLS", config.mesh_mtls)
    problems += _handshakes(document, "tlsDefaults", config.tls_defaults)
    return config, tuple(problems)


def _handshakes(document: Document, field: str, config: TLSConfig | None) -> Iterator[Problem]:
    """The names of suites and curves that Envoy does not know; they are left out."""
    for name, values in (("cipherSuites", config.cipher_suites), ("ecdhCurves", config.ecdh_curves)) if config else ():
        for at, value in enumerate(values):
            if (suite_name(value) is None) if name == "cipherSuites" else (value not in CURVES):
                code = "unknown-cipher-suite" if name == "cipherSuites" else "invalid-value"
                near = " or ".join(nearest_suites(value)) if name == "cipherSuites" else ", ".join(sorted(CURVES))
                yield Problem(
                    code,
                    Level.WARNING,
                    f'"{value[:60]}" is not known to Envoy: it is left out',
                    field=field_path((field, name, at)),
                    origin=document.origin((field, name, at)),
                    hint=f"it knows {near}" if near else "",
                )


def _unknown(document: Document) -> list[Problem]:
    value = document.value if isinstance(document.value, Mapping) else {}
    written = value.get("defaultConfig")
    proxies = written if isinstance(written, Mapping) else {}
    return [
        *_without_effect(document, value, (), ACCEPTED),
        *_unknown_in(document, value, (), ACCEPTED.keys() | fields_of(MeshConfig).keys()),
        *_without_effect(document, proxies, ("defaultConfig",), dict.fromkeys(ACCEPTED_OF_PROXIES, _NOT_YET)),
        *_unknown_in(document, proxies, ("defaultConfig",), ACCEPTED_OF_PROXIES | fields_of(ProxyConfig).keys()),
    ]


def _without_effect(
    document: Document, value: Mapping[str, object], path: Path, known: Mapping[str, str]
) -> Iterator[Problem]:
    for name in value:
        if name in known:
            place = (*path, name)
            message = "this is read but not acted on in this version"
            origin, hint = document.origin(place), known[name]
            yield Problem("not-acted-on", Level.WARNING, message, field=field_path(place), origin=origin, hint=hint)


def _unknown_in(
    document: Document, value: Mapping[str, object], path: tuple[str, ...], known: Set[str]
) -> list[Problem]:
    return [
        Problem(
            "unknown-field",
            Level.WARNING,
            f'unknown field "{name[:60]}"',
            field=field_path((*path, name)),
            origin=document.origin((*path, name)),
            hint=nearest(name, known),
        )
        for name in value
        if name not in known
    ]
