"""EnvoyFilter, as the API has it: https://istio.io/latest/docs/reference/config/networking/envoy-filter/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.shapes import Int32, Labels, Object, OneOf, Strict, UInt32

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
Context = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"]
Operation = Literal[
    "INVALID",
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]
FilterClass = Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"]
RouteActionKind = Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"]


class WorkloadLabels(Strict, frozen=True):
    """The workloads that have all these labels."""

    labels: Labels = {}


class ProxyMatch(Strict, frozen=True):
    """Which proxies: a regular expression (RE2) for ISTIO_VERSION, and exact values of the node's metadata."""

    proxy_version: str = ""
    metadata: Mapping[str, str] = {}


class SubFilterMatch(Strict, frozen=True):
    """A filter within a filter."""

    name: str = ""


class FilterMatch(Strict, frozen=True):
    """A network filter by name."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Strict, frozen=True):
    """A filter chain of a listener; `application_protocols` are separated by commas."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: UInt32 = 0


class ListenerMatch(Strict, frozen=True):
    """A listener, and what of it. `port_name` has no effect, in Istio neither."""

    port_number: UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class RouteMatch(Strict, frozen=True):
    """A route by name and by what it does."""

    name: str = ""
    action: RouteActionKind = "ANY"


class VirtualHostMatch(Strict, frozen=True):
    """A virtual host by name or by one of its domains, and what of it."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Strict, frozen=True):
    """A route table, and what of it; `gateway` is namespace/name."""

    port_number: UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class ClusterMatch(Strict, frozen=True):
    """A cluster by its name, or by the service that it is of."""

    port_number: UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class WaypointFilterMatch(Strict, frozen=True):
    """A filter of a waypoint."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class WaypointRouteMatch(Strict, frozen=True):
    """A route of a waypoint."""

    name: str = ""


class WaypointMatch(Strict, frozen=True):
    """What of a waypoint. There are no waypoints here: such a patch matches nothing."""

    port_number: UInt32 = 0
    filter: WaypointFilterMatch | None = None
    route: WaypointRouteMatch | None = None


class EnvoyConfigObjectMatch(OneOf, frozen=True):
    """Where a patch applies."""

    MEMBERS = (("listener", "routeConfiguration", "cluster", "waypoint"),)

    context: Context = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class Patch(Strict, frozen=True):
    """What is done: `value` is Envoy's own message as JSON, kept as it was written."""

    operation: Operation = "INVALID"
    value: Mapping[str, Any] | None = None
    filter_class: FilterClass = "UNSPECIFIED"


class EnvoyConfigObjectPatch(Strict, frozen=True):
    """One change of what proxies are sent."""

    apply_to: ApplyTo = "INVALID"
    match: EnvoyConfigObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Strict, frozen=True):
    """Patches in their order, for the selected proxies. A lower `priority` is applied earlier."""

    workload_selector: WorkloadLabels | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    config_patches: tuple[EnvoyConfigObjectPatch, ...] = ()
    priority: Int32 = 0


class EnvoyFilter(Object, frozen=True):
    """Changes of the configuration that is generated for Envoy."""

    spec: EnvoyFilterSpec = EnvoyFilterSpec()
