"""Fields that are read and validated and have no effect: said of each object, so that nobody waits in vain.

Some are not acted on yet: this part of the table shrinks as they are built. Others stand in the API and mean nothing
by its own words. What has an effect is never here; tests/analysis/test_every_field.py holds that every field of these
kinds either has one or is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, query
from ostria.resources import gateway_api, objects
from ostria.resources.authorization_policy import AuthorizationPolicy
from ostria.resources.destination_rule import ConnectionPoolSettings
from ostria.resources.envoy_filter import EnvoyFilter
from ostria.resources.extensions import TrafficExtension, WasmConfig, WasmPlugin
from ostria.resources.gateway import Gateway
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.request_authentication import RequestAuthentication
from ostria.resources.service_entry import ServiceEntry
from ostria.resources.sidecar import Sidecar
from ostria.resources.virtual_service import VirtualService
from ostria.resources.workload_entry import WorkloadEntry
from ostria.resources.workload_group import WorkloadGroup

Fields = Iterator[tuple[str, object, str]]
"""Field paths, their values, and what to do; one that is false in Python's sense is not written."""

NOT_YET = "the rest of the object takes effect"
DEPRECATED = "take it out: it is deprecated, and Istio ignores it too"
IGNORED = "take it out: Istio ignores it too"
ONE_NETWORK = "take it out: all workloads are taken to be in one network"
NO_WAYPOINTS = "there are no waypoints here: name the workloads, or a gateway"


# --- Istio's ------------------------------------------------------------------------------------------------------


def _virtual_service(value: VirtualService) -> Fields:
    for number, rule in enumerate(value.spec.tcp):
        for place, match in enumerate(rule.match):
            yield f"spec.tcp[{number}].match[{place}].sourceSubnet", match.source_subnet, IGNORED


def _gateway(value: Gateway) -> Fields:
    for number, server in enumerate(value.spec.servers):
        yield f"spec.servers[{number}].name", server.name, IGNORED
        yield f"spec.servers[{number}].port.targetPort", server.port.target_port, DEPRECATED
        yield f"spec.servers[{number}].defaultEndpoint", server.default_endpoint, IGNORED


def _service_entry(value: ServiceEntry) -> Fields:
    for number, endpoint in enumerate(value.spec.endpoints):
        yield f"spec.endpoints[{number}].network", endpoint.network, ONE_NETWORK


def _workload_entry(value: WorkloadEntry) -> Fields:
    yield "spec.network", value.spec.network, ONE_NETWORK


def _workload_group(value: WorkloadGroup) -> Fields:
    yield "spec", value.spec, NOT_YET


def _sidecar(value: Sidecar) -> Fields:
    for number, ingress in enumerate(value.spec.ingress):
        field = f"spec.ingress[{number}]"
        captured = ingress.capture_mode != "NONE"
        yield f"{field}.bind", ingress.bind if captured else "", "what is captured comes to any address of the workload"
        if ingress.port is not None:
            yield f"{field}.port.targetPort", ingress.port.target_port, DEPRECATED
        if ingress.connection_pool is not None:
            yield from _inbound_pool(f"{field}.connectionPool", ingress.connection_pool)
    if value.spec.inbound_connection_pool is not None:
        yield from _inbound_pool("spec.inboundConnectionPool", value.spec.inbound_connection_pool)
    for number, listener in enumerate(value.spec.egress):
        field = f"spec.egress[{number}]"
        yield f"{field}.port.targetPort", listener.port and listener.port.target_port, DEPRECATED


def _inbound_pool(field: str, pool: ConnectionPoolSettings) -> Fields:
    upgrades = pool.http is not None and pool.http.h2_upgrade_policy != "DEFAULT"
    yield f"{field}.http.h2UpgradePolicy", upgrades, "a workload is spoken to as its port's protocol says"


# --- Istio's patches and extensions -------------------------------------------------------------------------------

# What only waypoints have, of which there are none here.
_AT_WAYPOINTS = ("Service", "ServiceEntry")


def _targets(targets: Iterable[PolicyTargetReference]) -> Fields:
    for number, target in enumerate(targets):
        yield f"spec.targetRefs[{number}]", target.kind in _AT_WAYPOINTS, NO_WAYPOINTS


def _envoy_filter(value: EnvoyFilter) -> Fields:
    yield from _targets(value.spec.target_refs)
    for number, patch in enumerate(value.spec.config_patches):
        match = patch.match
        if match is None:
            continue
        field = f"spec.configPatches[{number}]"
        yield field, match.context == "WAYPOINT" or match.waypoint, NO_WAYPOINTS
        yield f"{field}.match.listener.portName", match.listener and match.listener.port_name, IGNORED


def _policy(value: RequestAuthentication | AuthorizationPolicy) -> Fields:
    yield from _targets(value.spec.target_refs)


def _module(field: str, wasm: WasmConfig) -> Fields:
    yield f"{field}.verificationKey", wasm.verification_key, "take it out, and name the module by its sha256"


def _wasm_plugin(value: WasmPlugin) -> Fields:
    yield from _targets(value.spec.target_refs)
    yield from _module("spec", value.spec)


def _traffic_extension(value: TrafficExtension) -> Fields:
    yield from _targets(value.spec.target_refs)
    if value.spec.wasm is not None:
        yield from _module("spec.wasm", value.spec.wasm)


# --- the Gateway API's --------------------------------------------------------------------------------------------

_NO_DEFAULTS = "name the Gateways in parentRefs"


def _http_route(value: gateway_api.HTTPRoute | gateway_api.GRPCRoute) -> Fields:
    yield from _route(value)
    rules: tuple[gateway_api.HTTPRouteRule | gateway_api.GRPCRouteRule, ...] = value.spec.rules
    for number, rule in enumerate(rules):
        session = rule.session_persistence
        if session is None:
            continue
        field = f"spec.rules[{number}].sessionPersistence"
        yield f"{field}.idleTimeout", session.idle_timeout, "Envoy ends no session that is merely idle"
        stays = session.cookie_config is not None and session.cookie_config.lifetime_type == "Permanent"
        ends = stays and session.type != "Header"
        hint = "only a cookie that is to stay (lifetimeType: Permanent) has an end"
        yield f"{field}.absoluteTimeout", None if ends else session.absolute_timeout, hint


def _route(
    value: gateway_api.HTTPRoute | gateway_api.GRPCRoute | gateway_api.TLSRoute | gateway_api.TCPRoute,
) -> Fields:
    yield "spec.useDefaultGateways", value.spec.use_default_gateways, _NO_DEFAULTS


def _standard_gateway(value: gateway_api.Gateway) -> Fields:
    yield "spec.defaultScope", value.spec.default_scope, "name the Gateway in the parentRefs of routes"


def _gateway_class(value: gateway_api.GatewayClass) -> Fields:
    hint = "write what all Gateways of a class have into a ConfigMap labelled gateway.istio.io/defaults-for-class"
    yield "spec.parametersRef", value.spec.parameters_ref, hint


def _backend_tls(value: gateway_api.BackendTLSPolicy) -> Fields:
    yield "spec.options", value.spec.options, "there are no options here"


_SUBJECTS: dict[str, Callable[..., Fields]] = {
    "VirtualService": _virtual_service,
    "Gateway": _gateway,
    "ServiceEntry": _service_entry,
    "WorkloadEntry": _workload_entry,
    "WorkloadGroup": _workload_group,
    "Sidecar": _sidecar,
    "EnvoyFilter": _envoy_filter,
    "RequestAuthentication": _policy,
    "AuthorizationPolicy": _policy,
    "WasmPlugin": _wasm_plugin,
    "TrafficExtension": _traffic_extension,
    "HTTPRoute": _http_route,
    "GRPCRoute": _http_route,
    "TLSRoute": _route,
    "TCPRoute": _route,
    gateway_api.GATEWAY: _standard_gateway,
    "GatewayClass": _gateway_class,
    "BackendTLSPolicy": _backend_tls,
}
KINDS_WITH_GAPS = tuple(_SUBJECTS)
"""The kinds of which something may be said here."""


@query
def unsupported(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """The fields of one object that have no effect."""
    value, fields = objects(db, key), _SUBJECTS.get(key.kind)
    if value is None or fields is None:
        return ()
    return tuple(
        Problem("not-acted-on", Level.WARNING, "this is read but not acted on in this version", key, path, hint=hint)
        for path, written, hint in fields(value)
        if written
    )
