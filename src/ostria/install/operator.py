"""What people may say of an installation: IstioOperator's spec, as types with Istio's field names.

https://istio.io/latest/docs/reference/config/istio.operator.v1alpha1/. A field that stands here is acted on. One that
only `ACCEPTED` names is Istio's and has no effect here, which is said; any other is a mistake. The parts that are
Kubernetes' own (resources, affinity, a Service's spec, ...) are passed on as they are: the API server judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from ostria.injection.values import Global, SidecarInjectorWebhook
from ostria.resources.shapes import Int32, Labels, Strict

API_VERSION, KIND = "install.istio.io/v1alpha1", "IstioOperator"
Json = Mapping[str, Any]


ENVIRONMENT = frozenset(
    (
        "BLOCKED_CIDRS_IN_JWKS_URIS",
        "CA_TRUSTED_NODE_ACCOUNTS",
        "CERT_SIGNER_DOMAIN",
        "CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR",
        "CITADEL_SELF_SIGNED_CA_CERT_TTL",
        "CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL",
        "CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE",
        "CLUSTER_ID",
        "DEFAULT_WORKLOAD_CERT_TTL",
        "DOMAIN_SUFFIX",
        "ENABLE_NATIVE_SIDECARS",
        "EXTERNAL_CA",
        "ISTIOD_CUSTOM_HOST",
        "K8S_SIGNER",
        "MAX_WORKLOAD_CERT_TTL",
        "OSTRIA_ALLOWED_CIDRS_IN_JWKS_URIS",
        "OSTRIA_ALLOWED_CIDRS_IN_MODULE_URLS",
        "OSTRIA_CA_ANNOUNCE",
        "OSTRIA_ENVOY_VERSION",
        "OSTRIA_IPV6",
        "OSTRIA_LOG",
        "OSTRIA_ON_DEMAND_XDS",
        "OSTRIA_SOCKET_MARK",
        "OSTRIA_STRICT_TENANCY",
        "PILOT_HTTP10",
        "PILOT_JWT_ENABLE_REMOTE_JWKS",
        "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL",
        "PILOT_SCOPE_GATEWAY_TO_NAMESPACE",
        "POD_NAMESPACE",
        "REVISION",
        "ROOT_CA_DIR",
        "WASM_INSECURE_REGISTRIES",
    )
)
"""What istiod reads of its environment; a test holds this against what it does read."""


class Kubernetes(Strict, frozen=True):
    """`k8s` of a component: what its Deployment, Service and autoscaler are to be otherwise."""

    ACCEPTED: ClassVar = frozenset(("overlays",))

    affinity: Json | None = None
    env: tuple[Json, ...] = ()
    hpa_spec: Json | None = None
    image_pull_policy: str = ""
    node_selector: Labels = {}
    pod_annotations: Labels = {}
    pod_disruption_budget: Json | None = None
    priority_class_name: str = ""
    readiness_probe: Json | None = None
    replica_count: Int32 | None = None
    resources: Json | None = None
    security_context: Json | None = None
    service: Json | None = None
    service_annotations: Labels = {}
    strategy: Json | None = None
    tolerations: tuple[Json, ...] = ()
    volume_mounts: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()


class Component(Strict, frozen=True):
    """`components.base` and `components.pilot`."""

    ACCEPTED: ClassVar = frozenset(("spec",))

    enabled: bool = True
    hub: str = ""
    k8s: Kubernetes = Kubernetes()
    namespace: str = ""
    tag: Any = ""


class GatewayComponent(Strict, frozen=True):
    """One of `components.ingressGateways` or `components.egressGateways`; `name` is its Deployment's."""

    ACCEPTED: ClassVar = frozenset(("hub", "spec", "tag"))

    enabled: bool = True
    k8s: Kubernetes = Kubernetes()
    label: Labels = {}
    name: str = ""
    namespace: str = ""


class Components(Strict, frozen=True):
    """`components`."""

    ACCEPTED: ClassVar = frozenset(("cni", "istiodRemote", "ztunnel"))

    base: Component = Component()
    egress_gateways: tuple[GatewayComponent, ...] = ()
    ingress_gateways: tuple[GatewayComponent, ...] = ()
    pilot: Component = Component()


class Autoscaling(Strict, frozen=True):
    """Of a chart's values: how many replicas there are. Without an autoscaler, `replica_count`."""

    autoscale_enabled: bool = False
    autoscale_max: Int32 = 5
    autoscale_min: Int32 = 1
    cpu: Json = {}
    memory: Json = {}
    replica_count: Int32 | None = None


class PilotValues(Autoscaling, frozen=True):
    """`values.pilot`: istiod. `env` are variables of its process."""

    ACCEPTED: ClassVar = frozenset(
        ("autoscaleBehavior", "cni", "configMap", "configSource", "deploymentLabels",
         "enableProtocolSniffingForInbound", "enableProtocolSniffingForOutbound", "enabled",
         "extraContainerArgs", "initContainers", "ipFamilies", "ipFamilyPolicy", "istiodRemote",
         "jwksResolverExtraRootCA", "keepaliveMaxServerConnectionAge", "podLabels", "replicas", "rollingMaxSurge",
         "rollingMaxUnavailable", "seccompProfile", "serviceAccountAnnotations", "topologySpreadConstraints",
         "traceSampling", "trustedZtunnelName", "trustedZtunnelNamespace", "variant")
    )  # fmt: skip

    affinity: Json | None = None
    env: Json = {}
    env_var_from: tuple[Json, ...] = ()
    hub: str = ""
    image: str = "pilot"
    node_selector: Labels = {}
    pod_annotations: Labels = {}
    resources: Json | None = None
    service_annotations: Labels = {}
    tag: Any = ""
    tolerations: tuple[Json, ...] = ()
    volume_mounts: tuple[Json, ...] = ()
    volumes: tuple[Json, ...] = ()


class SecretVolume(Strict, frozen=True):
    """A Secret of a gateway's namespace that is mounted if it is there."""

    name: str
    secret_name: str
    mount_path: str


class GatewayValues(Autoscaling, frozen=True):
    """`values.gateways.istio-ingressgateway` and `istio-egressgateway`: what their charts take.

    `enabled` wins over the component's: it is how older command lines switch a gateway on.
    """

    ACCEPTED: ClassVar = frozenset(
        ("additionalContainers", "configVolumes", "customService", "externalIPs", "injectionTemplate", "ipFamilies",
         "ipFamilyPolicy", "podAntiAffinityLabelSelector", "podAntiAffinityTermLabelSelector", "rollingMaxSurge",
         "rollingMaxUnavailable", "runAsRoot", "securityContext")
    )  # fmt: skip

    enabled: bool | None = None
    env: Json = {}
    external_traffic_policy: str = ""
    secret_volumes: tuple[SecretVolume, ...] | None = None
    ingress_ports: tuple[Json, ...] = msgspec.field(name="ingressPorts", default=())
    labels: Labels = {}
    load_balancer_ip: str = msgspec.field(name="loadBalancerIP", default="")
    load_balancer_source_ranges: tuple[str, ...] = ()
    name: str = ""
    namespace: str = ""
    node_selector: Labels = {}
    pod_annotations: Labels = {}
    ports: tuple[Json, ...] = ()
    resources: Json | None = None
    service_annotations: Labels = {}
    tolerations: tuple[Json, ...] = ()
    type: Literal["", "ClusterIP", "NodePort", "LoadBalancer"] = ""


class GatewaysValues(Strict, frozen=True):
    """`values.gateways`."""

    ACCEPTED: ClassVar = frozenset(("enabled", "seccompProfile", "securityContext"))

    egress: GatewayValues = msgspec.field(name="istio-egressgateway", default=GatewayValues())
    ingress: GatewayValues = msgspec.field(name="istio-ingressgateway", default=GatewayValues())


class Values(Strict, frozen=True):
    """`values`: those of Istio's charts."""

    ACCEPTED: ClassVar = frozenset(
        ("base", "clusterResources", "cni", "compatibilityVersion", "experimental", "grafana", "istio_cni", "kiali",
         "mixer", "ownerName", "profile", "prometheus", "telemetry", "tracing", "ztunnel")
    )  # fmt: skip

    default_revision: str = ""
    gateways: GatewaysValues = GatewaysValues()
    global_: Global = msgspec.field(name="global", default=Global())
    mesh_config: Json = {}
    pilot: PilotValues = PilotValues()
    revision: str = ""
    revision_tags: tuple[str, ...] = ()
    sidecar_injector_webhook: SidecarInjectorWebhook = SidecarInjectorWebhook()


class Operator(Strict, frozen=True):
    """An IstioOperator's `spec`."""

    ACCEPTED: ClassVar = frozenset(
        ("addonComponents", "compatibilityVersion", "installPackagePath", "unvalidatedValues")
    )

    components: Components = Components()
    hub: str = ""
    mesh_config: Json = {}
    namespace: str = ""
    profile: str = ""
    revision: str = ""
    tag: Any = ""
    values: Values = Values()
