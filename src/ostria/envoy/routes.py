"""Where a request goes: virtual hosts with their routes, each encoded once, and route configurations joined from them.

    VirtualHost --virtual_host()--> bytes --member()--> framed bytes --route_configuration()--> RouteConfiguration

What a destination wants of the *route* (consistent hashing, the protocol to offer) is passed beside the virtual host,
because one host's routes name many destinations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from functools import lru_cache
from typing import Any as Untyped

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import (
    RedirectAction,
    RetryPolicy,
    RouteAction,
    WeightedCluster,
)
from envoy.config.route.v3.route_components_pb2 import (
    Route as RouteMessage,
)
from envoy.config.route.v3.route_components_pb2 import (
    VirtualHost as VirtualHostMessage,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.retry.host.previous_hosts.v3.previous_hosts_pb2 import PreviousHostsPredicate
from envoy.extensions.retry.priority.previous_priorities.v3.previous_priorities_config_pb2 import (
    PreviousPrioritiesConfig,
)
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from ostria.envoy.matches import route_match
from ostria.envoy.origins import config_path
from ostria.envoy.route_filters import apply_cors, apply_faults, apply_mesh_alpn, apply_session, fraction
from ostria.envoy.wire import duration, encode, framed, metadata, packed
from ostria.mesh.model import (
    DirectResponse,
    HashKey,
    HeaderChanges,
    MatchKind,
    Mirror,
    Redirect,
    RequestMatch,
    Retries,
    Rewrite,
    Route,
    StringMatch,
    VirtualHost,
    WeightedTarget,
)

# Envoy's own limit for answers given by a route is 4 kB; Istio allows this much.
_LARGEST_DIRECT_RESPONSE = 1024 * 1024

_REDIRECT_CODES = {
    301: RedirectAction.MOVED_PERMANENTLY,
    302: RedirectAction.FOUND,
    303: RedirectAction.SEE_OTHER,
    307: RedirectAction.TEMPORARY_REDIRECT,
    308: RedirectAction.PERMANENT_REDIRECT,
}

_AUTHORITY_HEADERS = (":authority", "host")


# --- configurations -----------------------------------------------------------------------------------------------


def route_configuration(
    name: str, members: Iterable[bytes], *, ignore_port: bool = True, on_demand: bool = False
) -> bytes:
    """A RouteConfiguration of virtual hosts, each as `member` frames it.

    `ignore_port` strips the port of a request's authority before it is compared with domains, as in Istio; domains
    then stand without ports. `on_demand` asks the control plane for hosts that are not here (VHDS); it then must hold
    no route that would take their requests.
    """
    return framed(1, name.encode()) + b"".join(members) + _TAILS[ignore_port, on_demand]


def member(virtual_host: bytes) -> bytes:
    """An encoded virtual host, framed as a part of a route configuration."""
    return framed(2, virtual_host)


def _tail(*, ignore_port: bool, on_demand: bool) -> bytes:
    message = RouteConfiguration(ignore_port_in_host_matching=ignore_port)
    # Clusters come and go by themselves; a route whose cluster is missing answers 503 and harms no other route.
    message.validate_clusters.value = False
    message.max_direct_response_body_size_bytes.value = _LARGEST_DIRECT_RESPONSE
    if on_demand:
        source = message.vhds.config_source
        source.ads.SetInParent()
        source.resource_api_version = 2  # V3
        source.initial_fetch_timeout.CopyFrom(duration(1))
    return encode(message)


_TAILS = {
    (ignore_port, on_demand): _tail(ignore_port=ignore_port, on_demand=on_demand)
    for ignore_port in (False, True)
    for on_demand in (False, True)
}


# --- virtual hosts ------------------------------------------------------------------------------------------------


def virtual_host(host: VirtualHost, *, sniffed: Set[str] = frozenset()) -> bytes:
    """One virtual host.

    `sniffed` are the clusters in the mesh whose port names no protocol, so that it is the request that must say that
    it is HTTP.
    """
    return b"".join(
        (
            framed(1, host.name.encode()),
            *(framed(2, domain.encode()) for domain in host.domains),
            *(framed(3, _route(route, sniffed)) for route in host.routes),
            _HOST_TAILS[host.require_tls],
        )
    )


def only_for(authority: StringMatcher, virtual_host: bytes) -> bytes:
    """The virtual host with its routes for requests of such an authority only: for all others it has none."""
    message = VirtualHostMessage.FromString(virtual_host)
    for route in message.routes:
        route.match.headers.add(name=":authority", string_match=authority)
    return encode(message)


def inbound_virtual_host(port: int, operation: str, cluster: str) -> Untyped:
    """The virtual host of one of the workload's own ports: everything goes to the workload."""
    message = VirtualHostMessage(name=f"inbound|http|{port}", domains=["*"])
    route = message.routes.add(name="default")
    route.match.prefix = "/"
    route.decorator.operation = operation
    route.route.cluster = cluster
    _no_timeout(route.route)
    return message


@lru_cache(maxsize=256)
def elsewhere(cluster: str) -> bytes:
    """The virtual host `allow_any`: requests for hosts that nobody knows go to this cluster."""
    message = VirtualHostMessage(name="allow_any", domains=["*"], include_request_attempt_count=True)
    route = message.routes.add(name="allow_any")
    route.match.prefix = "/"
    route.route.cluster = cluster
    _no_timeout(route.route)
    return encode(message)


def _block_all() -> bytes:
    message = VirtualHostMessage(name="block_all", domains=["*"], include_request_attempt_count=True)
    route = message.routes.add(name="block_all")
    route.match.prefix = "/"
    route.direct_response.status = 502
    return encode(message)


def _no_timeout(action: Untyped) -> None:
    """No limit but the one that a gRPC caller sets in its grpc-timeout header.

    Envoy looks at that header only where `max_stream_duration` is there, and then no more at `timeout`; so a route
    with a timeout of its own must not have it.
    """
    action.timeout.SetInParent()
    action.max_stream_duration.grpc_timeout_header_max.SetInParent()


_HOST_TAILS = {
    False: encode(VirtualHostMessage(include_request_attempt_count=True)),
    True: encode(VirtualHostMessage(require_tls=VirtualHostMessage.ALL, include_request_attempt_count=True)),
}

# What happens to a request for a host that the mesh does not know where it may not pass: it is refused with 502.
BLOCK_ALL: bytes = _block_all()


# --- routes -------------------------------------------------------------------------------------------------------


def _route(route: Route, sniffed: Set[str]) -> bytes:
    message = RouteMessage(name=route.name, match=route_match(route.match), stat_prefix=route.stat_prefix)
    if route.redirect is not None:
        _redirect(message.redirect, route.redirect, route.match)
    elif route.response is not None:
        _respond(message.direct_response, route.response)
    else:
        _forward(message, route)
    _change_headers(message, route.headers.request, route.headers.response)
    apply_faults(message, route.delay, route.abort)
    if not sniffed.isdisjoint(target.cluster.name for target in route.targets):
        apply_mesh_alpn(message)
    if route.session is not None:
        apply_session(message, route.session)
    if route.cors is not None:
        apply_cors(message, route.cors)
    message.decorator.operation = _operation(route)
    if route.origin is not None:
        message.metadata.MergeFromString(metadata({"istio": {"config": config_path(route.origin)}}))
    return encode(message)


def _operation(route: Route) -> str:
    """What traces call the request: the destination, or the rule where there are several, and the matched path."""
    path = route.match.path
    if path is None:
        pattern = "/*"
    else:
        pattern = f"{path.value}*" if path.kind in (MatchKind.PREFIX, MatchKind.PATH_PREFIX) else path.value
    if len(route.targets) == 1:
        cluster = route.targets[0].cluster
        return f"{cluster.host}:{cluster.port}{pattern}"
    return f"{route.origin.name}{pattern}" if route.origin is not None else pattern


def _forward(message: Untyped, route: Route) -> None:
    # A share of nothing is no destination, unless it is the only one (then there is nothing to share).
    targets = [target for target in route.targets if target.weight > 0] if len(route.targets) > 1 else route.targets
    if not targets:
        # Gateway API, HTTPRouteRule.backendRefs: when every weight is 0 the answer is 500.
        message.direct_response.status = 500
        return
    action = message.route
    if len(targets) == 1:
        action.cluster = targets[0].cluster.name
        headers = targets[0].headers
        _change_headers(message, headers.request, headers.response)
        authority = _authority(headers.request)
    else:
        action.weighted_clusters.clusters.extend(map(_share, targets))
        authority = None
    authority = (route.rewrite and route.rewrite.authority) or _authority(route.headers.request) or authority
    if authority:
        action.host_rewrite_literal = authority
    if route.rewrite is not None:
        _rewrite(action, route.match.path, route.rewrite, ignore_case=route.match.ignore_case)
    if route.timeout:
        action.timeout.CopyFrom(duration(route.timeout))
    else:
        _no_timeout(action)
    if route.retries.attempts > 0:
        action.retry_policy.CopyFrom(_RETRIES if route.retries == _DEFAULT_RETRIES else _retry_policy(route.retries))
    action.request_mirror_policies.extend(_mirror(mirror) for mirror in route.mirrors if mirror.percentage > 0)
    if route.missing_status == 500:
        action.cluster_not_found_response_code = RouteAction.INTERNAL_SERVER_ERROR
    action.hash_policy.extend(map(_hash_policy, route.hash_keys))


def _share(target: WeightedTarget) -> Untyped:
    message = WeightedCluster.ClusterWeight(name=target.cluster.name)
    message.weight.value = target.weight
    _change_headers(message, target.headers.request, target.headers.response)
    authority = _authority(target.headers.request)
    if authority:
        message.host_rewrite_literal = authority
    return message


def _redirect(action: Untyped, redirect: Redirect, match: RequestMatch) -> None:
    action.SetInParent()
    action.response_code = _REDIRECT_CODES.get(redirect.code, RedirectAction.MOVED_PERMANENTLY)
    if redirect.scheme is not None:
        action.scheme_redirect = redirect.scheme
    if redirect.authority is not None:
        action.host_redirect = redirect.authority
    if redirect.port is not None:
        action.port_redirect = redirect.port
    if redirect.path is not None:
        action.path_redirect = redirect.path
    elif redirect.path_prefix is not None:
        _rewrite(action, match.path, Rewrite(prefix=redirect.path_prefix), ignore_case=match.ignore_case)


def _respond(action: Untyped, response: DirectResponse) -> None:
    action.status = response.status
    if response.body:
        action.body.inline_bytes = response.body


def _rewrite(action: Untyped, path: StringMatch | None, rewrite: Rewrite, *, ignore_case: bool) -> None:
    if rewrite.regex is not None:
        action.regex_rewrite.pattern.regex, action.regex_rewrite.substitution = rewrite.regex
    elif rewrite.path is not None:
        action.regex_rewrite.pattern.regex = "^.*$"
        action.regex_rewrite.substitution = _literal(rewrite.path)
    elif rewrite.prefix is not None:
        prefix = _replaced_prefix(path)
        if prefix is None or not _needs_join(path, prefix, rewrite.prefix):
            action.prefix_rewrite = rewrite.prefix
            return
        # Envoy replaces just the letters of the prefix: "/v1" by "/" makes "//users" of "/v1/users". So the slash
        # after the prefix is replaced with it where the new one brings its own.
        case = "(?i)" if ignore_case else ""
        action.regex_rewrite.pattern.regex = f"^{case}{re.escape(prefix)}/?(.*)$"
        action.regex_rewrite.substitution = f"{_literal(rewrite.prefix.rstrip('/'))}/\\1"


def _replaced_prefix(path: StringMatch | None) -> str | None:
    """What of the path a prefix rewrite replaces; None where the whole path was compared."""
    if path is None:
        return ""
    if path.kind is MatchKind.PATH_PREFIX:
        return path.value.rstrip("/")
    return path.value if path.kind is MatchKind.PREFIX else None


def _needs_join(path: StringMatch | None, prefix: str, replacement: str) -> bool:
    if path is not None and path.kind is MatchKind.PATH_PREFIX and not prefix:
        return True  # "/" by "/v2" has to make "/v2/users" of "/users".
    return replacement.endswith("/") and bool(prefix) and not prefix.endswith("/")


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\")


def _retry_policy(retries: Retries) -> Untyped:
    conditions = retries.on
    if retries.status_codes and "retriable-status-codes" not in conditions:
        conditions = (*conditions, "retriable-status-codes")
    message = RetryPolicy(retry_on=",".join(conditions), retriable_status_codes=retries.status_codes)
    message.num_retries.value = retries.attempts
    message.host_selection_retry_max_attempts = 5
    if retries.ignore_previous_hosts:
        predicate = message.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
        predicate.typed_config.CopyFrom(_PREVIOUS_HOSTS)
    if retries.per_try_timeout:
        message.per_try_timeout.CopyFrom(duration(retries.per_try_timeout))
    if retries.backoff:
        message.retry_back_off.base_interval.CopyFrom(duration(retries.backoff))
    if retries.remote_localities:
        message.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        message.retry_priority.typed_config.CopyFrom(_PREVIOUS_PRIORITIES)
    return message


def _mirror(mirror: Mirror) -> Untyped:
    message = RouteAction.RequestMirrorPolicy(cluster=mirror.cluster.name)
    message.trace_sampled.value = False  # The request has its own trace; its copies are no part of it.
    message.runtime_fraction.default_value.CopyFrom(fraction(mirror.percentage))
    return message


def _hash_policy(key: HashKey) -> Untyped:
    message = RouteAction.HashPolicy()
    if key.source == "header":
        message.header.header_name = key.name
    elif key.source == "query":
        message.query_parameter.name = key.name
    elif key.source == "cookie":
        message.cookie.name = key.name
        if key.ttl is not None:
            message.cookie.ttl.CopyFrom(duration(key.ttl))
        message.cookie.path = key.path
        for name, value in key.attributes:
            message.cookie.attributes.add(name=name, value=value)
    else:
        message.connection_properties.source_ip = True
    return message


def _change_headers(message: Untyped, request: HeaderChanges, response: HeaderChanges) -> None:
    message.request_headers_to_add.extend(_additions(request))
    message.request_headers_to_remove.extend(filter(_is_ordinary, request.remove))
    message.response_headers_to_add.extend(_additions(response))
    message.response_headers_to_remove.extend(filter(_is_ordinary, response.remove))


def _additions(changes: HeaderChanges) -> Iterable[Untyped]:
    for name, value in changes.set:
        if _is_ordinary(name):
            yield _header(name, value, HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    for name, value in changes.add:
        if _is_ordinary(name):
            yield _header(name, value, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD)


def _is_ordinary(name: str) -> bool:
    """Whether Envoy lets a header be changed; of the others only the authority can be, and in another way."""
    return not name.startswith(":") and name.lower() not in _AUTHORITY_HEADERS


def _header(name: str, value: str, action: int) -> Untyped:
    option = HeaderValueOption(append_action=action)
    option.header.key = name
    option.header.value = value
    option.keep_empty_value = not value
    return option


def _authority(changes: HeaderChanges) -> str | None:
    """The host that a header change asks for; Envoy takes it only as a rewrite of the route."""
    return next((value for name, value in changes.set + changes.add if name.lower() in _AUTHORITY_HEADERS), None)


_PREVIOUS_HOSTS = packed(PreviousHostsPredicate())
_PREVIOUS_PRIORITIES = packed(PreviousPrioritiesConfig(update_frequency=2))
_DEFAULT_RETRIES = Retries()
_RETRIES = _retry_policy(_DEFAULT_RETRIES)
