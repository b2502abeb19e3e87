"""How a revision injects: what its operator has set for every pod, and what pods may say otherwise.

Values here are what Istio's Helm values of the same meaning are (`global.proxy.*`, `sidecarInjectorWebhook.*`); pods
differ from them by annotations, which `parameters` reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ostria.base.durations import Duration, format_proto
from ostria.capture.settings import Capture
from ostria.injection.select import Policy
from ostria.mesh.proxy_configs import ProxyStart
from ostria.resources.mesh_config import MeshConfig

AGENT_PORT = 15020
"""Where the agent answers unless ProxyConfig's statusPort says otherwise."""

Resources = Mapping[str, Mapping[str, str]]

# global.proxy.resources of Istio's charts.
DEFAULT_RESOURCES: Resources = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"cpu": "2000m", "memory": "1024Mi"},
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a revision injects. `revision` "" is the default one.

    `image` is run with arguments only: its entry point is the agent, and `agent` is the same program as a command for
    hooks. `capture` is what of the traffic is redirected where a pod says nothing else; `cni` "default" or "multus"
    leaves redirection to a plugin, and the init step only checks it. `native_sidecars` makes the proxy an init
    container that stays (Kubernetes 1.29 and later). `proxy_config` is MeshConfig's defaultConfig as JSON, and
    `proxy_starts` are what ProxyConfig objects say, the oldest first.
    `templates` are overlays of a pod in YAML that pods may name beside "sidecar" and "gateway".
    """

    revision: str = ""
    image: str = "ostria/proxy"
    init_image: str = ""
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    agent: tuple[str, ...] = ("ostria", "agent")
    native_sidecars: bool = True
    domain_suffix: str = "cluster.local"
    trust_domain: str = "cluster.local"
    mesh_id: str = ""
    cluster: str = "Kubernetes"
    network: str = ""
    discovery_address: str = "istiod.istio-system.svc:15012"
    proxy_config: Mapping[str, Any] = {}
    proxy_starts: tuple[ProxyStart, ...] = ()
    status_port: int = AGENT_PORT
    readiness_initial_delay: int = 0
    readiness_period: int = 15
    readiness_failures: int = 4
    startup_failures: int = 600
    hold_application: bool = False
    rewrite_probes: bool = True
    local_inbound: bool = False
    merge_metrics: bool = True
    resources: Resources = msgspec.field(default_factory=lambda: DEFAULT_RESOURCES)
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    agent_log_level: str = "default:info"
    capture: Capture = Capture()
    cni: str = ""
    policy: Policy = Policy()
    default_templates: tuple[str, ...] = ("sidecar",)
    templates: Mapping[str, str] = {}


def with_mesh_config(settings: Settings, mesh: MeshConfig) -> Settings:
    """The settings with what MeshConfig decides about injection, which may change while the webhook serves."""
    config = msgspec.to_builtins(mesh.default_config, enc_hook=_duration)
    return msgspec.structs.replace(
        settings,
        trust_domain=mesh.trust_domain,
        proxy_config={**settings.proxy_config, **config},
        merge_metrics=mesh.enable_prometheus_merge,
        local_inbound=mesh.inbound_traffic_policy.mode == "LOCALHOST",
    )


def supports_native_sidecars(versions: Iterable[str]) -> bool:
    """Whether init containers that stay work on every node, by the kubelets' versions ("v1.33.0"): from 1.29 on."""
    found = [re.match(r"v?(\d{1,4})\.(\d{1,4})", version) for version in versions]
    return bool(found) and all(each is not None and (int(each[1]), int(each[2])) >= (1, 29) for each in found)


def _duration(value: object) -> str:
    if isinstance(value, Duration):
        return format_proto(value)
    raise NotImplementedError(type(value).__name__)
