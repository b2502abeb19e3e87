"""Kubernetes' objects, with the fields that a mesh reads and no others: https://kubernetes.io/docs/reference/kubernetes-api/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ostria.resources.shapes import Labels, Lenient, Object


class Namespace(Object, frozen=True):
    """A namespace; its labels decide injection and discovery."""


class ServiceAccount(Object, frozen=True):
    """An identity that pods run under."""


class ConfigMap(Object, frozen=True):
    """Named texts."""

    data: Labels = {}


class Secret(Object, frozen=True):
    """Named bytes. `string_data` is how a file may write some of them; an API never serves it."""

    type: str = ""
    data: Mapping[str, bytes] = {}
    string_data: Labels = {}

    @property
    def content(self) -> Mapping[str, bytes]:
        """All of it, whichever way it is written."""
        return {**self.data, **{name: text.encode() for name, text in self.string_data.items()}}


class Deployment(Object, frozen=True):
    """Pods by number; the mesh makes some and reads of them only what stands on the outside."""


class HorizontalPodAutoscaler(Object, frozen=True):
    """How many pods a Deployment has; read as Deployments are."""


class PodDisruptionBudget(Object, frozen=True):
    """How many pods may be missing at once; read as Deployments are."""


class NodeAddress(Lenient, frozen=True):
    """One address of a machine."""

    type: str = ""
    address: str = ""


class NodeStatus(Lenient, frozen=True):
    """Of the status, what a gateway's NodePorts need; a heartbeat changes none of it."""

    addresses: tuple[NodeAddress, ...] = ()


class Node(Object, frozen=True):
    """A machine; its labels topology.kubernetes.io/region and /zone are the locality of its pods."""

    status: NodeStatus = NodeStatus()


class ServicePort(Lenient, frozen=True):
    """A port of a service. `target_port` None means the same number, a text the name of a container's port."""

    port: int
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    target_port: int | str | None = None
    node_port: int = 0
    app_protocol: str | None = None


class ServiceSpec(Lenient, frozen=True):
    """What a service selects and how it is reached; `cluster_ip` is "None" for a headless one."""

    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    ports: tuple[ServicePort, ...] = ()
    selector: Labels = {}
    external_name: str = ""
    external_ips: tuple[str, ...] = msgspec.field(name="externalIPs", default=())
    ip_families: tuple[str, ...] = ()
    publish_not_ready_addresses: bool = False
    session_affinity: str = "None"
    internal_traffic_policy: str | None = None
    external_traffic_policy: str = ""
    traffic_distribution: str | None = None


class LoadBalancerIngress(Lenient, frozen=True):
    """One address under which a load balancer is reached."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Lenient, frozen=True):
    """Where a load balancer is reached."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Lenient, frozen=True):
    """Of the status, the addresses of load balancers."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Object, frozen=True):
    """A name for a set of endpoints."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class ObjectReference(Lenient, frozen=True):
    """An object that an endpoint stands for."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class EndpointConditions(Lenient, frozen=True):
    """What is known of an endpoint; None means unknown, which for `ready` and `serving` is to be read as true."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Lenient, frozen=True):
    """One endpoint; all its addresses lead to the same place."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    zone: str | None = None


class EndpointPort(Lenient, frozen=True):
    """A port that all endpoints of the slice serve; None for `port` means every port."""

    name: str = ""
    protocol: str = "TCP"
    port: int | None = None
    app_protocol: str | None = None


class EndpointSlice(Object, frozen=True):
    """Some of a service's endpoints, in one IP family; label kubernetes.io/service-name says whose."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class ContainerPort(Lenient, frozen=True):
    """A port that a container says it listens on."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class HTTPGetAction(Lenient, frozen=True):
    """A probe by an HTTP request."""

    port: int | str
    path: str = ""
    host: str = ""
    scheme: str = "HTTP"


class TCPSocketAction(Lenient, frozen=True):
    """A probe by connecting."""

    port: int | str
    host: str = ""


class GRPCAction(Lenient, frozen=True):
    """A probe by gRPC's health service."""

    port: int
    service: str | None = None


class Probe(Lenient, frozen=True):
    """How a container's health is asked for; one that runs a command has none of the three."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None


class Container(Lenient, frozen=True):
    """One container of a pod."""

    name: str
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: str | None = None


class ReadinessGate(Lenient, frozen=True):
    """A condition that must hold besides the containers' readiness."""

    condition_type: str = ""


class PodSpec(Lenient, frozen=True):
    """What a pod is meant to be."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    readiness_gates: tuple[ReadinessGate, ...] = ()


class PodIP(Lenient, frozen=True):
    """One address of a pod."""

    ip: str = ""


class PodCondition(Lenient, frozen=True):
    """One thing that is known of a pod; `status` is "True", "False" or "Unknown"."""

    type: str
    status: str = "Unknown"


class PodStatus(Lenient, frozen=True):
    """What a pod is; times and counts that no one routes by have no field."""

    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())
    host_ip: str = msgspec.field(name="hostIP", default="")
    conditions: tuple[PodCondition, ...] = ()


class Pod(Object, frozen=True):
    """A pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class MutatingWebhookConfiguration(Object, frozen=True):
    """Webhooks that may change what is written. They are kept whole: who changes one writes all of them back."""

    webhooks: tuple[Mapping[str, Any], ...] = ()


class ValidatingWebhookConfiguration(Object, frozen=True):
    """Webhooks that may refuse what is written; kept whole, as above."""

    webhooks: tuple[Mapping[str, Any], ...] = ()
