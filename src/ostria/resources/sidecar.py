"""Sidecar, as the API has it: https://istio.io/latest/docs/reference/config/networking/sidecar/."""

from __future__ import annotations

from typing import Literal

from ostria.resources.destination_rule import ConnectionPoolSettings
from ostria.resources.gateway import ServerTLSSettings
from ostria.resources.service_entry import EndpointSelector
from ostria.resources.shapes import Object, Strict, UInt32
from ostria.resources.virtual_service import Destination

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]
OutboundMode = Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"]


class SidecarPort(Strict, frozen=True):
    """A port of a listener; `number` 0 stands with a Unix socket. `target_port` is deprecated and without effect."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IngressListener(Strict, frozen=True):
    """Where the workload is called, and where its proxy passes that on."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class EgressListener(Strict, frozen=True):
    """What the workload may call: hosts as "namespace/host"; without a port, on every port that no other names."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    hosts: tuple[str, ...] = ()


class OutboundTrafficPolicy(Strict, frozen=True):
    """What becomes of calls to hosts that the workload does not know."""

    mode: OutboundMode = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class SidecarSpec(Strict, frozen=True):
    """What the proxies of some workloads, or of a namespace, take in and know."""

    workload_selector: EndpointSelector | None = None
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None


class Sidecar(Object, frozen=True):
    """What a workload's proxy listens for and what it can reach."""

    spec: SidecarSpec = SidecarSpec()
