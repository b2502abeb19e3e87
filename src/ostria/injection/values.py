"""The values of Istio's charts that say how a revision injects, and what they come to.

    values (JSON, key `values` of the ConfigMap `istio-sidecar-injector`) -> Injected -> Settings

The fields have Istio's names (https://istio.io/latest/docs/reference/config/istio.operator.v1alpha1/#Values).
`install` reads people's files by these types and writes the ConfigMap; istiod reads it back at its start.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from ostria.base.selectors import Selector, of_expressions
from ostria.capture.settings import Capture
from ostria.injection.select import Policy
from ostria.injection.settings import Settings
from ostria.resources.mesh_config import LabelSelector
from ostria.resources.shapes import Int32, Labels, Strict

HUB = "ostria"
"""Where our images are, unless `hub` says otherwise; on one machine they are names of programs."""


class StartupProbe(Strict, frozen=True):
    """How often a proxy is asked for before its pod is given up; not at all if it is not enabled."""

    enabled: bool = True
    failure_threshold: Int32 = 600


class Proxy(Strict, frozen=True):
    """`global.proxy`: what every proxy is. Ports are comma-separated lists, ranges CIDRs or "*"."""

    ACCEPTED: ClassVar = frozenset(
        ("enableCoreDump", "includeOutboundPorts", "lifecycle", "outlierLogPath", "privileged", "seccompProfile",
         "tracer")
    )  # fmt: skip

    auto_inject: Literal["enabled", "disabled"] = "enabled"
    cluster_domain: str = "cluster.local"
    component_log_level: str = "misc:error"
    exclude_ip_ranges: str = msgspec.field(name="excludeIPRanges", default="")
    exclude_inbound_ports: str = ""
    exclude_outbound_ports: str = ""
    image: str = "proxy"
    include_ip_ranges: str = msgspec.field(name="includeIPRanges", default="*")
    include_inbound_ports: str = "*"
    log_level: str = "warning"
    readiness_failure_threshold: Int32 = 4
    readiness_initial_delay_seconds: Int32 = 0
    readiness_period_seconds: Int32 = 15
    resources: Mapping[str, Any] | None = None
    startup_probe: StartupProbe = StartupProbe()
    status_port: Int32 = 15020


class ProxyInit(Strict, frozen=True):
    """`global.proxy_init`: the step that redirects a pod's traffic."""

    ACCEPTED: ClassVar = frozenset(("forceApplyIptables", "resources"))

    image: str = ""


class MultiCluster(Strict, frozen=True):
    """`global.multiCluster`: the name of this cluster."""

    ACCEPTED: ClassVar = frozenset(("enabled", "globalDomainSuffix", "includeEnvoyFilter"))

    cluster_name: str = ""


class DisruptionBudget(Strict, frozen=True):
    """Whether the installed Deployments have a PodDisruptionBudget."""

    enabled: bool = False


class Global(Strict, frozen=True):
    """`global`: what holds for every part of the mesh."""

    ACCEPTED: ClassVar = frozenset(
        ("arch", "caAddress", "caName", "certSigners", "configCluster", "configRootNamespace", "configValidation",
         "defaultConfigVisibilitySettings", "defaultNodeSelector", "defaultResources", "defaultTolerations",
         "externalIstiod", "imagePullSecretsFromEnv", "ipFamilies", "ipFamilyPolicy", "istiod", "jwtPolicy",
         "logAsJson", "logging", "meshNetworks", "mountMtlsCerts", "nativeNftables", "networkPolicy",
         "omitSidecarInjectorConfigMap", "oneNamespace", "operatorManageWebhooks", "pilotCertProvider", "platform",
         "podDNSSearchNamespaces", "priorityClassName", "remotePilotAddress", "resourceScope", "sds", "sts", "tracer",
         "trustBundleName", "useMCP", "variant", "waypoint")
    )  # fmt: skip

    default_pod_disruption_budget: DisruptionBudget = DisruptionBudget()
    hub: str = ""
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    istio_namespace: str = ""
    mesh_id: str = msgspec.field(name="meshID", default="")
    multi_cluster: MultiCluster = MultiCluster()
    network: str = ""
    proxy: Proxy = Proxy()
    proxy_init: ProxyInit = msgspec.field(name="proxy_init", default=ProxyInit())
    # A version may be written without quotes: 1.20 is a number then.
    tag: Any = ""


class SidecarInjectorWebhook(Strict, frozen=True):
    """`sidecarInjectorWebhook`: which pods are injected, and by what."""

    ACCEPTED: ClassVar = frozenset(("injectedAnnotations", "neverInjectSelectorFromEnv", "reinvocationPolicy"))

    always_inject_selector: tuple[LabelSelector, ...] = ()
    default_templates: tuple[str, ...] = ()
    enable_namespaces_by_default: bool = False
    never_inject_selector: tuple[LabelSelector, ...] = ()
    rewrite_app_http_probe: bool = msgspec.field(name="rewriteAppHTTPProbe", default=True)
    templates: Labels = {}


class Injected(Strict, frozen=True):
    """The part of the values that injection reads."""

    global_: Global = msgspec.field(name="global", default=Global())
    sidecar_injector_webhook: SidecarInjectorWebhook = SidecarInjectorWebhook()


def read_values(text: str | bytes) -> Injected:
    """The values that the ConfigMap holds. Raises ValueError if it holds something else."""
    return msgspec.json.decode(text, type=Injected)


def write_values(values: Injected) -> str:
    """The values as the ConfigMap holds them."""
    return msgspec.json.encode(values).decode()


def image_of(name: str, values: Global) -> str:
    """An image by its name within the hub; a name with a slash is an image already."""
    if "/" in name:
        return name
    tag = f":{values.tag}" if values.tag not in ("", None) else ""
    return f"{values.hub or HUB}/{name}{tag}"


def settings_of(values: Injected, settings: Settings) -> Settings:
    """The settings with what the values decide. Raises ValueError, with a message for people."""
    given, proxy, webhook = values.global_, values.global_.proxy, values.sidecar_injector_webhook
    init = given.proxy_init.image
    return msgspec.structs.replace(
        settings,
        image=image_of(proxy.image, given),
        init_image=image_of(init, given) if init else "",
        pull_policy=given.image_pull_policy,
        pull_secrets=given.image_pull_secrets,
        domain_suffix=proxy.cluster_domain,
        mesh_id=given.mesh_id,
        cluster=given.multi_cluster.cluster_name or settings.cluster,
        network=given.network,
        status_port=proxy.status_port,
        readiness_initial_delay=proxy.readiness_initial_delay_seconds,
        readiness_period=proxy.readiness_period_seconds,
        readiness_failures=proxy.readiness_failure_threshold,
        startup_failures=proxy.startup_probe.failure_threshold if proxy.startup_probe.enabled else 0,
        rewrite_probes=webhook.rewrite_app_http_probe,
        resources=settings.resources if proxy.resources is None else _texts(proxy.resources),
        log_level=proxy.log_level,
        component_log_level=proxy.component_log_level,
        capture=_capture(proxy, settings.capture),
        policy=Policy(
            proxy.auto_inject == "enabled",
            tuple(map(_selector, webhook.never_inject_selector)),
            tuple(map(_selector, webhook.always_inject_selector)),
        ),
        default_templates=webhook.default_templates or settings.default_templates,
        templates=webhook.templates,
    )


def _texts(resources: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Quantities may be numbers in YAML: `cpu: 2`."""
    return {kind: {name: str(value) for name, value in (amounts or {}).items()} for kind, amounts in resources.items()}


def _selector(value: LabelSelector) -> Selector:
    return of_expressions(
        value.match_labels, ((each.key, each.operator, each.values) for each in value.match_expressions)
    )


def _capture(proxy: Proxy, capture: Capture) -> Capture:
    """What is captured of a pod that says nothing else; ranges that are captured anyway ("*") stay the settings'."""
    changes: dict[str, Any] = {}
    if proxy.include_ip_ranges != "*":
        changes["outbound_ranges"] = tuple(ipaddress.ip_network(each) for each in _items(proxy.include_ip_ranges))
    if proxy.exclude_ip_ranges:
        more = tuple(ipaddress.ip_network(each) for each in _items(proxy.exclude_ip_ranges))
        changes["outbound_ranges_exclude"] = (*capture.outbound_ranges_exclude, *more)
    if proxy.include_inbound_ports != "*":
        changes["inbound_ports"] = _ports(proxy.include_inbound_ports)
    if proxy.exclude_inbound_ports:
        changes["inbound_ports_exclude"] = (*capture.inbound_ports_exclude, *_ports(proxy.exclude_inbound_ports))
    if proxy.exclude_outbound_ports:
        changes["outbound_ports_exclude"] = (*capture.outbound_ports_exclude, *_ports(proxy.exclude_outbound_ports))
    return msgspec.structs.replace(capture, **changes)


def _ports(text: str) -> tuple[int, ...]:
    found = tuple(int(each) for each in _items(text))
    if any(not 0 < port < 65536 for port in found):
        raise ValueError(f'"{text[:60]}" is no list of ports')
    return found


def _items(text: str) -> Iterable[str]:
    return (each.strip() for each in text.split(",") if each.strip())
