"""How an agent was started: its arguments and its environment, as Istio's injection writes both, read once.

Frozen values come out; what is wrong is told in words (SettingsError). The resident agent and its children read the
same environment with the same code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SIDECAR, ROUTER = "sidecar", "router"

# Flags that take a value, as Istio's templates pass them. Those without a use here are taken and left aside, so that
# a template written for Istio starts this agent too.
_FLAGS = frozenset(
    (
        "domain", "proxyLogLevel", "proxyComponentLogLevel", "concurrency", "log_output_level", "log_as_json",
        "drainDuration", "parentShutdownDuration", "discoveryAddress", "serviceCluster", "meshConfig", "stsPort",
        "tokenManagerPlugin", "templateFile", "outlierLogPath", "profiling", "ip", "binaryPath", "configPath",
    )
)  # fmt: skip
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}


class SettingsError(ValueError):
    """Arguments or environment that cannot be understood; the message says which and why."""


class Drain(NamedTuple):
    """How a proxy ends, in seconds.

    `lasts` is how long it goes on serving; with `until_idle` it ends once no connection is left, after `at_least`.
    `discourages` is how long Envoy keeps its listeners open while it sends connections away.
    """

    lasts: float = 5.0
    until_idle: bool = False
    at_least: float = 5.0
    discourages: float = 45.0


class Prober(NamedTuple):
    """What Kubernetes would have asked the application: exactly one of HTTP, TCP and gRPC.

    `host` "" is the pod itself; `headers` are pairs.
    """

    kind: str
    port: int
    host: str = ""
    path: str = "/"
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()
    service: str = ""
    timeout: float = 1.0


class Metrics(NamedTuple):
    """Where the application's own metrics are, on its port in the pod."""

    port: int
    path: str = "/metrics"


class Settings(NamedTuple):
    """Everything that an agent goes by."""

    role: str = SIDECAR
    pod: str = ""
    namespace: str = ""
    service_account: str = "default"
    addresses: tuple[str, ...] = ("127.0.0.1",)
    domain_suffix: str = "cluster.local"
    trust_domain: str = "cluster.local"
    workload: str = ""
    cluster: str = "Kubernetes"
    mesh: str = "cluster.local"
    node_name: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    discovery_address: str = "istiod.istio-system.svc:15012"
    discovery_name: str = "istiod.istio-system.svc"
    authority_address: str = "istiod.istio-system.svc:15012"
    authority_name: str = "istiod.istio-system.svc"
    certificate_lifetime: int = 24 * 3600
    agent_port: int = 15020
    admin_port: int = 15000
    dns_capture: bool = False
    dns_port: int = 15053
    probes_loopback: bool = False
    concurrency: int = 2
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    drain: Drain = Drain()
    probers: tuple[tuple[str, Prober], ...] = ()
    metrics: Metrics | None = None
    mark: int | None = None
    asks_for_bootstrap: bool = False
    credentials: str = "/var/run/secrets/workload-spiffe-credentials"
    secret_files: str = "/etc/istio/proxy"  # noqa: S105 - A path.
    token_file: str = "/var/run/secrets/tokens/istio-token"  # noqa: S105 - A path.
    root_file: str = "/var/run/secrets/istio/root-cert.pem"
    labels_file: str = "/etc/istio/pod/labels"
    annotations_file: str = "/etc/istio/pod/annotations"
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    proxy_config: Mapping[str, Any] = {}

    @property
    def probed(self) -> str:
        """The address at which the application is asked: the pod's own, as the kubelet would."""
        return "127.0.0.1" if self.probes_loopback else self.addresses[0]

    @property
    def bootstrap_file(self) -> str:
        """Where Envoy's bootstrap is written."""
        return f"{self.secret_files}/envoy-rev.json"

    @property
    def names_socket(self) -> str:
        """Where Envoy takes the agent's own questions to the control plane."""
        return f"{self.secret_files}/names.sock"


def read(argv: Sequence[str], env: Mapping[str, str]) -> Settings:
    """`sidecar --domain …` and the environment as settings; raises SettingsError."""
    role, flags = _flags(argv)
    config = _json(env, "PROXY_CONFIG")
    # What ProxyConfig.proxyMetadata says, Istio's injection repeats in the environment, which goes first.
    metadata = config.get("proxyMetadata") or {}
    if not isinstance(metadata, dict):
        raise SettingsError("PROXY_CONFIG: proxyMetadata is no JSON object")
    env = {**{name: str(value) for name, value in metadata.items()}, **env}
    discovery = flags.get("discoveryAddress") or config.get("discoveryAddress") or Settings().discovery_address
    authority = env.get("CA_ADDR") or discovery
    domain = flags.get("domain", "")
    return Settings(
        role=role,
        pod=_required(env, "POD_NAME"),
        namespace=_required(env, "POD_NAMESPACE"),
        service_account=env.get("SERVICE_ACCOUNT") or "default",
        addresses=tuple(filter(None, (env.get("INSTANCE_IPS") or env.get("INSTANCE_IP", "")).split(",")))
        or ("127.0.0.1",),
        domain_suffix=domain.partition(".svc.")[2] or "cluster.local",
        trust_domain=env.get("TRUST_DOMAIN") or "cluster.local",
        workload=env.get("ISTIO_META_WORKLOAD_NAME", ""),
        cluster=env.get("ISTIO_META_CLUSTER_ID") or "Kubernetes",
        mesh=env.get("ISTIO_META_MESH_ID") or env.get("TRUST_DOMAIN") or "cluster.local",
        node_name=env.get("ISTIO_META_NODE_NAME", ""),
        metadata=tuple(
            (name.removeprefix("ISTIO_META_"), value)
            for name, value in sorted(env.items())
            if name.startswith("ISTIO_META_") and value
        ),
        discovery_address=discovery,
        discovery_name=_server_name(env, discovery),
        authority_address=authority,
        authority_name=_server_name(env, authority),
        certificate_lifetime=int(seconds(env.get("SECRET_TTL") or "24h", "SECRET_TTL")),
        admin_port=_port(config.get("proxyAdminPort") or Settings().admin_port, "proxyAdminPort"),
        labels=tuple((name, str(value)) for name, value in sorted(_json(env, "ISTIO_METAJSON_LABELS").items())),
        annotations=tuple(
            (name, str(value)) for name, value in sorted(_json(env, "ISTIO_METAJSON_ANNOTATIONS").items())
        ),
        proxy_config=config,
        agent_port=_port(config.get("statusPort") or Settings().agent_port, "statusPort"),
        dns_capture=role == SIDECAR and env.get("ISTIO_META_DNS_CAPTURE", "").lower() == "true",
        dns_port=_port((env.get("DNS_PROXY_ADDR") or "localhost:15053").rpartition(":")[2], "DNS_PROXY_ADDR"),
        probes_loopback=env.get("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "").lower() == "true",
        concurrency=_concurrency(flags, config, env),
        log_level=flags.get("proxyLogLevel") or "warning",
        component_log_level=flags.get("proxyComponentLogLevel") or "misc:error",
        drain=_drain(flags, config, env),
        probers=tuple((path, _prober(path, probe)) for path, probe in _json(env, "ISTIO_KUBE_APP_PROBERS").items()),
        metrics=_metrics(_json(env, "ISTIO_PROMETHEUS_ANNOTATIONS")),
        asks_for_bootstrap=env.get("BOOTSTRAP_XDS_AGENT", "").lower() == "true",
        mark=_number(env["OSTRIA_SOCKET_MARK"], "OSTRIA_SOCKET_MARK") if env.get("OSTRIA_SOCKET_MARK") else None,
    )


def seconds(text: str, what: str) -> float:
    """A duration as Go and protobuf write it ("1m30s", "0.5s") in seconds; raises SettingsError."""
    total, rest = 0.0, text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = digits + len(rest[digits:]) - len(rest[digits:].lstrip("hmsun"))
        try:
            total += float(rest[:digits]) * _UNITS[rest[digits:unit]]
        except (ValueError, KeyError):
            raise SettingsError(f'{what}: "{text[:40]}" is not a duration such as "10s" or "1m30s"') from None
        rest = rest[unit:]
    if not text:
        raise SettingsError(f"{what}: a duration is missing")
    return total


def _flags(argv: Sequence[str]) -> tuple[str, dict[str, str]]:
    words: list[str] = []
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in _FLAGS:
            raise SettingsError(f"unknown flag: {word}")
        if not equals:
            if not rest:
                raise SettingsError(f"flag needs a value: {word}")
            value = rest.pop(0)
        flags[name] = value
    role = words[0] if words else SIDECAR
    if role not in (SIDECAR, ROUTER) or len(words) > 1:
        raise SettingsError(f'"{" ".join(words)}" is no role: say sidecar or router')
    return role, flags


def _json(env: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(env.get(name) or "{}")
    except ValueError as error:
        raise SettingsError(f"{name} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{name} is no JSON object")
    return value


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        raise SettingsError(f"{name} is not set: the pod's own name and namespace are needed")
    return env[name]


def _server_name(env: Mapping[str, str], address: str) -> str:
    """The name that a control plane's certificate must show: what is asked for, else the host that is called."""
    host = "" if address.startswith("unix:") else address.rpartition(":")[0].strip("[]")
    is_name = any(character.isalpha() for character in host) and ":" not in host
    return env.get("ISTIOD_SAN") or (host if is_name else Settings().discovery_name)


def _concurrency(flags: Mapping[str, str], config: Mapping[str, Any], env: Mapping[str, str]) -> int:
    """Worker threads; 0 is one a core. Istio: what is said, else the processor's limit, else two."""
    for value, what in ((flags.get("concurrency"), "--concurrency"), (config.get("concurrency"), "concurrency")):
        if value is not None and value != "":
            return _number(value, what)
    limit = env.get("ISTIO_CPU_LIMIT", "")
    return max(1, _number(limit, "ISTIO_CPU_LIMIT")) if limit else 2


def _drain(flags: Mapping[str, str], config: Mapping[str, Any], env: Mapping[str, str]) -> Drain:
    usual = Drain()
    lasts = str(config.get("terminationDrainDuration") or "5s")
    if env.get("TERMINATION_DRAIN_DURATION_SECONDS"):
        lasts = f"{env['TERMINATION_DRAIN_DURATION_SECONDS']}s"
    return Drain(
        seconds(lasts, "terminationDrainDuration"),
        env.get("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "").lower() in ("true", "1"),
        seconds(env.get("MINIMUM_DRAIN_DURATION") or f"{usual.at_least}s", "MINIMUM_DRAIN_DURATION"),
        seconds(flags.get("drainDuration") or str(config.get("drainDuration") or "45s"), "drainDuration"),
    )


def _prober(path: str, probe: Any) -> Prober:
    what = f"ISTIO_KUBE_APP_PROBERS {path}"
    if not isinstance(probe, dict):
        raise SettingsError(f"{what}: no object")
    timeout = float(_number(probe.get("timeoutSeconds") or 1, what))
    for kind in ("httpGet", "tcpSocket", "grpc"):
        asked = probe.get(kind)
        if isinstance(asked, dict):
            return Prober(
                kind,
                _port(asked.get("port"), what),
                str(asked.get("host") or ""),
                "/" + str(asked.get("path") or "").lstrip("/"),
                str(asked.get("scheme") or "HTTP").upper(),
                tuple((str(one.get("name")), str(one.get("value", ""))) for one in asked.get("httpHeaders") or ()),
                str(asked.get("service") or ""),
                timeout,
            )
    raise SettingsError(f"{what}: neither httpGet nor tcpSocket nor grpc")


def _metrics(annotations: Mapping[str, Any]) -> Metrics | None:
    # Istio: a port or a path alone says that there is something to scrape.
    if not annotations or str(annotations.get("scrape", "")).lower() == "false":
        return None
    path = "/" + str(annotations.get("path") or "/metrics").lstrip("/")
    return Metrics(_port(annotations.get("port") or 80, "ISTIO_PROMETHEUS_ANNOTATIONS"), path)


def _port(value: object, what: str) -> int:
    number = _number(value, what)
    if not 0 < number < 65_536:
        raise SettingsError(f"{what}: {number} is no port")
    return number


def _number(value: object, what: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise SettingsError(f'{what}: "{value}" is no number') from None
