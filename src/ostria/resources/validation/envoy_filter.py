"""EnvoyFilter: https://istio.io/latest/docs/reference/config/networking/envoy-filter/."""

from __future__ import annotations

from ostria.resources.envoy_filter import EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, FilterMatch
from ostria.resources.validation.findings import (
    CONFLICT,
    DEPRECATED,
    INVALID,
    MISSING,
    NO_EFFECT,
    Findings,
    check_regex,
    check_selector,
    entry,
    error,
    warning,
)
from ostria.resources.validation.policy_targets import check_targets

CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"

# Names that Envoy's filters had before version 1.14, and have lost since.
_RENAMED = {
    "envoy.buffer": "envoy.filters.http.buffer",
    "envoy.client_ssl_auth": "envoy.filters.network.client_ssl_auth",
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.csrf": "envoy.filters.http.csrf",
    "envoy.echo": "envoy.filters.network.echo",
    "envoy.ext_authz": "envoy.filters.http.ext_authz",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.grpc_http1_bridge": "envoy.filters.http.grpc_http1_bridge",
    "envoy.grpc_json_transcoder": "envoy.filters.http.grpc_json_transcoder",
    "envoy.grpc_web": "envoy.filters.http.grpc_web",
    "envoy.gzip": "envoy.filters.http.gzip",
    "envoy.health_check": "envoy.filters.http.health_check",
    "envoy.http_connection_manager": CONNECTION_MANAGER,
    "envoy.ip_tagging": "envoy.filters.http.ip_tagging",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.mongo_proxy": "envoy.filters.network.mongo_proxy",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    "envoy.ratelimit": "envoy.filters.network.ratelimit",
    "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
    "envoy.router": "envoy.filters.http.router",
    "envoy.squash": "envoy.filters.http.squash",
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
}

_LISTENER = ("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER")
_ROUTES = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_MERGES = ("MERGE", "MERGE_AND_REPLACE_LIST")
_INSERTS = ("INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST")
# What each object can have done to it (istio.io, EnvoyFilter.Patch.Operation); the rest is passed over.
POSSIBLE = {
    "LISTENER": (*_MERGES, "ADD", "REMOVE"),
    "FILTER_CHAIN": (*_MERGES, "ADD", "REMOVE"),
    "LISTENER_FILTER": (*_MERGES, "ADD", "REMOVE", "REPLACE", *_INSERTS),
    "NETWORK_FILTER": (*_MERGES, "ADD", "REMOVE", "REPLACE", *_INSERTS),
    "HTTP_FILTER": (*_MERGES, "ADD", "REMOVE", "REPLACE", *_INSERTS),
    "ROUTE_CONFIGURATION": _MERGES,
    "VIRTUAL_HOST": (*_MERGES, "ADD", "REMOVE", "REPLACE"),
    "HTTP_ROUTE": (*_MERGES, "ADD", "REMOVE", *_INSERTS),
    "CLUSTER": (*_MERGES, "ADD", "REMOVE"),
    "EXTENSION_CONFIG": ("ADD", "REPLACE"),
    "BOOTSTRAP": _MERGES,
}


def validate_envoy_filter(filter_: EnvoyFilter) -> Findings:
    """Everything that is wrong with one filter."""
    spec = filter_.spec
    if spec.workload_selector is not None:
        yield from check_selector("spec.workloadSelector.labels", spec.workload_selector.labels)
    selector = spec.workload_selector is not None
    yield from check_targets("spec.targetRefs", spec.target_refs, selector=selector)
    for index, patch in enumerate(spec.config_patches):
        yield from _patch(f"spec.configPatches[{index}]", patch)


def _patch(field: str, config: EnvoyConfigObjectPatch) -> Findings:
    match, patch = config.match, config.patch
    if match is not None and match.context == "WAYPOINT":
        yield from _waypoint(f"{field}.match", match)
    if config.apply_to == "INVALID":
        yield error(MISSING, f"{field}.applyTo", "the patch needs applyTo")
        return
    if patch is None or patch.operation == "INVALID":
        place = f"{field}.patch" if patch is None else f"{field}.patch.operation"
        yield error(MISSING, place, "the patch needs an operation")
        return
    if patch.value is None and patch.operation != "REMOVE":
        yield error(MISSING, f"{field}.patch.value", f"the operation {patch.operation} needs a value")
        return
    if patch.operation in _INSERTS and config.apply_to in ("LISTENER", "FILTER_CHAIN", "CLUSTER", "VIRTUAL_HOST"):
        message = f"{config.apply_to} has no order: {patch.operation} is taken for ADD"
        yield warning(NO_EFFECT, f"{field}.patch.operation", message)
    elif patch.operation not in POSSIBLE[config.apply_to]:
        message = f"{patch.operation} has no effect on {config.apply_to}"
        yield warning(NO_EFFECT, f"{field}.patch.operation", message)
    if match is not None:
        yield from _match(f"{field}.match", config.apply_to, match)
    if patch.value is not None:
        yield from _value(f"{field}.patch.value", config.apply_to, patch.operation, patch.value)


def _waypoint(field: str, match: EnvoyConfigObjectMatch) -> Findings:
    others = (match.listener, match.route_configuration, match.cluster)
    if any(other is not None for other in others):
        yield error(CONFLICT, field, "with context WAYPOINT only a waypoint match is possible")
    if match.waypoint is not None and match.waypoint.port_number > 65535:
        yield error(INVALID, f"{field}.waypoint.portNumber", f"{match.waypoint.port_number} is no port")


def _match(field: str, apply_to: str, match: EnvoyConfigObjectMatch) -> Findings:
    if match.proxy is not None and match.proxy.proxy_version:
        yield from check_regex(f"{field}.proxy.proxyVersion", match.proxy.proxy_version)
    present = {
        "listener": match.listener,
        "routeConfiguration": match.route_configuration,
        "cluster": match.cluster,
        "waypoint": match.waypoint,
    }
    if match.waypoint is not None and match.context != "WAYPOINT":
        yield error(CONFLICT, f"{field}.waypoint", "a waypoint match needs context: WAYPOINT")
        return
    wanted = (
        "listener"
        if apply_to in _LISTENER
        else "routeConfiguration"
        if apply_to in _ROUTES
        else "cluster"
        if apply_to == "CLUSTER"
        else ""
    )
    for name, given in present.items():
        if given is not None and wanted and name not in (wanted, "waypoint"):
            yield error(CONFLICT, f"{field}.{name}", f"{apply_to} is matched by {wanted}, not by {name}")
            return
    chain = match.listener.filter_chain if match.listener is not None else None
    if chain is not None and chain.filter is not None:
        yield from _filter(f"{field}.listener.filterChain.filter", apply_to, chain.filter)


def _filter(field: str, apply_to: str, match: FilterMatch) -> Findings:
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        yield warning(NO_EFFECT, field, f"a filter's name has no effect on {apply_to}")
    if not match.name:
        yield error(MISSING, f"{field}.name", "the filter to match needs a name")
        return
    inner = match.sub_filter
    if inner is not None:
        place = f"{field}.subFilter"
        if apply_to != "HTTP_FILTER":
            yield error(CONFLICT, place, "a subFilter is matched only with applyTo: HTTP_FILTER")
            return
        if _RENAMED.get(match.name, match.name) != CONNECTION_MANAGER:
            yield error(CONFLICT, place, f"only {CONNECTION_MANAGER} has filters within")
            return
        if not inner.name:
            yield error(MISSING, f"{place}.name", "the filter to match needs a name")
            return
    for place, name in ((f"{field}.name", match.name), (f"{field}.subFilter.name", inner.name if inner else "")):
        if name in _RENAMED:
            yield warning(DEPRECATED, place, f'Envoy has renamed "{name}"', f"use {_RENAMED[name]}")


def _value(field: str, apply_to: str, operation: str, value: object) -> Findings:
    # Envoy's descriptions are large, and most meshes have no EnvoyFilter.
    from ostria.resources.patch_wire import read_value

    assert isinstance(value, dict)
    merged = operation in _MERGES
    for path, message, hint, unknown in read_value(apply_to, value, to_merge=merged).mistakes:
        place = field
        for step in path:
            place = f"{place}[{step}]" if isinstance(step, int) else entry(place, str(step))
        if unknown:
            yield warning("unknown-field", place, message, hint)
        else:
            yield error(INVALID, place, message, hint)
