"""The one table of kinds: what each is called, where it is served, which type it has.

A kind is one thing in all its API versions; `ObjectKey.kind` is its `name` here. Everything that enumerates kinds
(sources, CRDs, command lines, documentation) enumerates this table, and none keeps a list of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ostria.base import Problem
from ostria.resources import gateway_api, ingress, kubernetes, validation
from ostria.resources.authorization_policy import AuthorizationPolicy
from ostria.resources.destination_rule import DestinationRule
from ostria.resources.envoy_filter import EnvoyFilter
from ostria.resources.extensions import TrafficExtension, WasmPlugin
from ostria.resources.gateway import Gateway
from ostria.resources.peer_authentication import PeerAuthentication
from ostria.resources.proxy_config import ProxyConfig
from ostria.resources.request_authentication import RequestAuthentication
from ostria.resources.service_entry import ServiceEntry
from ostria.resources.shapes import Object
from ostria.resources.sidecar import Sidecar
from ostria.resources.virtual_service import VirtualService
from ostria.resources.workload_entry import WorkloadEntry
from ostria.resources.workload_group import WorkloadGroup


class Column(NamedTuple):
    """One column that `kubectl get` prints."""

    name: str
    path: str
    type: str = "string"
    description: str = ""


class Kind(NamedTuple):
    """One kind. `versions` lists all that are served, the preferred one first; `storage` is the stored one.

    `ours` says that the mesh defines the kind: its CRD is generated here, unknown fields are mistakes, and its
    objects can be set aside when Envoy refuses what they lead to. For all others the mesh is a reader. `standard` says
    that the API is not the mesh's alone: a cluster may have its CRDs already, and keeps them.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    storage: str
    plural: str
    singular: str
    shape: type[Object]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    ours: bool = False
    standard: bool = False
    columns: tuple[Column, ...] = ()
    validate: Callable[[Any], Iterable[Problem]] | None = None

    @property
    def api_version(self) -> str:
        """The preferred version, as `apiVersion` has it."""
        return f"{self.group}/{self.versions[0]}" if self.group else self.versions[0]


AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since the object was made")
ISTIO = ("istio-io", "networking-istio-io")
NETWORKING = "networking.istio.io"
EXTENSIONS = "extensions.istio.io"
STANDARD = gateway_api.GROUP


def _standard(
    shape: type[Object],
    versions: tuple[str, ...],
    plural: str,
    short_names: tuple[str, ...] = (),
    columns: tuple[Column, ...] = (),
    *,
    name: str = "",
    namespaced: bool = True,
    validate: Callable[[Any], Iterable[Problem]] | None = None,
) -> Kind:
    """A kind of the Gateway API."""
    kind = shape.__name__
    return Kind(
        name or kind, STANDARD, versions, versions[0], plural, kind.lower(), shape, short_names, ("gateway-api",),
        namespaced=namespaced, ours=True, standard=True, columns=(*columns, AGE), validate=validate,
    )  # fmt: skip


_HOSTNAMES = Column("Hostnames", ".spec.hostnames", description="The hosts that requests name")
_CLASS = Column("Class", ".spec.gatewayClassName", description="The class, and so who acts on it")
_ADDRESS = Column("Address", ".status.addresses[*].value", description="Where it is served")
_CONTROLLER = Column("Controller", ".spec.controllerName", description="Who acts on its Gateways")


def _condition(type_: str) -> Column:
    return Column(type_, f'.status.conditions[?(@.type=="{type_}")].status', description=f"Whether it is {type_}")


_GATEWAY_API = (
    _standard(gateway_api.GatewayClass, ("v1", "v1beta1"), "gatewayclasses", ("gc",),
              (_CONTROLLER, _condition("Accepted")), namespaced=False),
    _standard(gateway_api.Gateway, ("v1", "v1beta1"), "gateways", ("gtw",),
              (_CLASS, _ADDRESS, _condition("Programmed")),
              name=gateway_api.GATEWAY, validate=validation.validate_standard_gateway),
    _standard(gateway_api.ListenerSet, ("v1",), "listenersets", ("lset",),
              (_condition("Accepted"), _condition("Programmed")), validate=validation.validate_listener_set),
    _standard(gateway_api.HTTPRoute, ("v1", "v1beta1"), "httproutes", (), (_HOSTNAMES,),
              validate=validation.validate_http_route),
    _standard(gateway_api.GRPCRoute, ("v1", "v1alpha2"), "grpcroutes", (), (_HOSTNAMES,),
              validate=validation.validate_grpc_route),
    _standard(gateway_api.TLSRoute, ("v1", "v1alpha3", "v1alpha2"), "tlsroutes", (), (_HOSTNAMES,),
              validate=validation.validate_tls_route),
    _standard(gateway_api.TCPRoute, ("v1", "v1alpha2"), "tcproutes", validate=validation.validate_tcp_route),
    _standard(gateway_api.ReferenceGrant, ("v1", "v1beta1", "v1alpha2"), "referencegrants", ("refgrant",)),
    _standard(gateway_api.BackendTLSPolicy, ("v1", "v1alpha3"), "backendtlspolicies", ("btlspolicy",),
              validate=validation.validate_backend_tls_policy),
)  # fmt: skip

_TABLE = (
    Kind(
        "VirtualService", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "virtualservices", "virtualservice",
        VirtualService, ("vs",), ISTIO, ours=True, validate=validation.validate_virtual_service,
        columns=(
            Column("Gateways", ".spec.gateways", description="The gateways whose traffic is routed"),
            Column("Hosts", ".spec.hosts", description="The hosts that requests name"),
            AGE,
        ),
    ),
    Kind(
        "DestinationRule", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "destinationrules", "destinationrule",
        DestinationRule, ("dr",), ISTIO, ours=True, validate=validation.validate_destination_rule,
        columns=(Column("Host", ".spec.host", description="The service that is called"), AGE),
    ),
    Kind(
        "Gateway", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "gateways", "gateway",
        Gateway, ("gw",), ISTIO, ours=True, validate=validation.validate_gateway,
    ),
    Kind(
        "ServiceEntry", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "serviceentries", "serviceentry",
        ServiceEntry, ("se",), ISTIO, ours=True, validate=validation.validate_service_entry,
        columns=(
            Column("Hosts", ".spec.hosts", description="The hosts of the service"),
            Column("Location", ".spec.location", description="Outside the mesh (MESH_EXTERNAL) or in it"),
            Column("Resolution", ".spec.resolution", description="How the endpoints are found"),
            AGE,
        ),
    ),
    Kind(
        "ProxyConfig", NETWORKING, ("v1beta1",), "v1beta1", "proxyconfigs", "proxyconfig",
        ProxyConfig, (), ISTIO, ours=True, validate=validation.validate_proxy_config, columns=(AGE,),
    ),
    Kind(
        "Sidecar", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "sidecars", "sidecar",
        Sidecar, (), ISTIO, ours=True, validate=validation.validate_sidecar, columns=(AGE,),
    ),
    Kind(
        "EnvoyFilter", NETWORKING, ("v1alpha3",), "v1alpha3", "envoyfilters", "envoyfilter",
        EnvoyFilter, (), ISTIO, ours=True, validate=validation.validate_envoy_filter,
    ),
    Kind(
        "WorkloadEntry", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "workloadentries", "workloadentry",
        WorkloadEntry, ("we",), ISTIO, ours=True, validate=validation.validate_workload_entry,
        columns=(AGE, Column("Address", ".spec.address", description="Where the workload is reached")),
    ),
    Kind(
        "WorkloadGroup", NETWORKING, ("v1", "v1beta1", "v1alpha3"), "v1", "workloadgroups", "workloadgroup",
        WorkloadGroup, ("wg",), ISTIO, ours=True, validate=validation.validate_workload_group, columns=(AGE,),
    ),
    Kind(
        "WasmPlugin", EXTENSIONS, ("v1alpha1",), "v1alpha1", "wasmplugins", "wasmplugin",
        WasmPlugin, (), ("istio-io", "extensions-istio-io"), ours=True,
        validate=validation.validate_wasm_plugin, columns=(AGE,),
    ),
    Kind(
        "TrafficExtension", EXTENSIONS, ("v1alpha1",), "v1alpha1", "trafficextensions", "trafficextension",
        TrafficExtension, (), ("istio-io", "extensions-istio-io"), ours=True,
        validate=validation.validate_traffic_extension, columns=(AGE,),
    ),
    Kind(
        "PeerAuthentication", "security.istio.io", ("v1", "v1beta1"), "v1", "peerauthentications", "peerauthentication",
        PeerAuthentication, ("pa",), ("istio-io", "security-istio-io"), ours=True,
        validate=validation.validate_peer_authentication,
        columns=(Column("Mode", ".spec.mtls.mode", description="The mutual TLS mode"), AGE),
    ),
    Kind(
        "AuthorizationPolicy", "security.istio.io", ("v1", "v1beta1"), "v1", "authorizationpolicies",
        "authorizationpolicy", AuthorizationPolicy, ("ap",), ("istio-io", "security-istio-io"), ours=True,
        validate=validation.validate_authorization_policy,
        columns=(Column("Action", ".spec.action", description="What becomes of requests that match"), AGE),
    ),
    Kind(
        "RequestAuthentication", "security.istio.io", ("v1", "v1beta1"), "v1", "requestauthentications",
        "requestauthentication", RequestAuthentication, ("ra",), ("istio-io", "security-istio-io"), ours=True,
        validate=validation.validate_request_authentication,
    ),
    *_GATEWAY_API,
    Kind("Namespace", "", ("v1",), "v1", "namespaces", "namespace", kubernetes.Namespace, ("ns",), namespaced=False),
    Kind("Node", "", ("v1",), "v1", "nodes", "node", kubernetes.Node, ("no",), namespaced=False),
    Kind("Service", "", ("v1",), "v1", "services", "service", kubernetes.Service, ("svc",), ("all",)),
    Kind("Pod", "", ("v1",), "v1", "pods", "pod", kubernetes.Pod, ("po",), ("all",)),
    Kind("ConfigMap", "", ("v1",), "v1", "configmaps", "configmap", kubernetes.ConfigMap, ("cm",),
         validate=validation.validate_config_map),
    Kind("Secret", "", ("v1",), "v1", "secrets", "secret", kubernetes.Secret,
         validate=validation.validate_secret),
    Kind("Deployment", "apps", ("v1",), "v1", "deployments", "deployment", kubernetes.Deployment, ("deploy",)),
    Kind(
        "HorizontalPodAutoscaler", "autoscaling", ("v2",), "v2", "horizontalpodautoscalers", "horizontalpodautoscaler",
        kubernetes.HorizontalPodAutoscaler, ("hpa",),
    ),
    Kind(
        "PodDisruptionBudget", "policy", ("v1",), "v1", "poddisruptionbudgets", "poddisruptionbudget",
        kubernetes.PodDisruptionBudget, ("pdb",),
    ),
    Kind("ServiceAccount", "", ("v1",), "v1", "serviceaccounts", "serviceaccount", kubernetes.ServiceAccount, ("sa",)),
    Kind(
        "EndpointSlice", "discovery.k8s.io", ("v1",), "v1", "endpointslices", "endpointslice",
        kubernetes.EndpointSlice,
    ),
    Kind("Ingress", "networking.k8s.io", ("v1",), "v1", "ingresses", "ingress", ingress.Ingress, ("ing",)),
    Kind(
        "IngressClass", "networking.k8s.io", ("v1",), "v1", "ingressclasses", "ingressclass", ingress.IngressClass,
        namespaced=False,
    ),
    Kind(
        "MutatingWebhookConfiguration", "admissionregistration.k8s.io", ("v1",), "v1", "mutatingwebhookconfigurations",
        "mutatingwebhookconfiguration", kubernetes.MutatingWebhookConfiguration, namespaced=False,
    ),
    Kind(
        "ValidatingWebhookConfiguration", "admissionregistration.k8s.io", ("v1",), "v1",
        "validatingwebhookconfigurations", "validatingwebhookconfiguration",
        kubernetes.ValidatingWebhookConfiguration, namespaced=False,
    ),
)  # fmt: skip

KINDS = {kind.name: kind for kind in _TABLE}
_BY_API = {(kind.group, version, kind.name.rpartition("/")[2]): kind for kind in _TABLE for version in kind.versions}
_BY_SHAPE = {kind.shape: kind for kind in _TABLE}


def kind_of(api_version: str, kind: str) -> Kind | None:
    """The kind that a document's `apiVersion` and `kind` name, if the mesh reads it and serves that version."""
    group, _, version = api_version.rpartition("/")
    return _BY_API.get((group, version, kind))


def kind_of_shape(shape: type[Object]) -> Kind:
    """The kind that has this type."""
    return _BY_SHAPE[shape]
