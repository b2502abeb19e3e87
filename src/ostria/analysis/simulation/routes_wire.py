"""Route tables, read from a RouteConfiguration's bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Untyped

from envoy.config.route.v3.route_components_pb2 import FilterConfig, RedirectAction, RouteAction
from envoy.config.route.v3.route_components_pb2 import VirtualHost as VirtualHostMessage
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config as FilterStateConfig

from ostria.analysis.simulation.model import (
    AppendAction,
    Changes,
    ClaimRule,
    CorsRule,
    Fault,
    Forward,
    HeaderChange,
    HeaderChanges,
    HeaderRule,
    HostEntry,
    MirrorTo,
    PathKind,
    QueryRule,
    RedirectTo,
    RegexRewrite,
    RequireTls,
    Respond,
    Retry,
    RouteEntry,
    RouteRule,
    RouteTable,
    Target,
    Text,
    TextKind,
)
from ostria.envoy.matches import JWT_FILTER, JWT_PAYLOAD

_FAULT, _CORS, _ALPN = "envoy.filters.http.fault", "envoy.filters.http.cors", "istio.alpn"
_OFFERED = "envoy.network.application_protocols"  # The filter state that says what is offered.
_DENOMINATORS = (100, 10_000, 1_000_000)
_STATUS = {
    RedirectAction.MOVED_PERMANENTLY: 301,
    RedirectAction.FOUND: 302,
    RedirectAction.SEE_OTHER: 303,
    RedirectAction.TEMPORARY_REDIRECT: 307,
    RedirectAction.PERMANENT_REDIRECT: 308,
}
_NOT_FOUND = {RouteAction.SERVICE_UNAVAILABLE: 503, RouteAction.NOT_FOUND: 404, RouteAction.INTERNAL_SERVER_ERROR: 500}
_APPEND = (
    AppendAction.APPEND,
    AppendAction.ADD_IF_ABSENT,
    AppendAction.OVERWRITE,
    AppendAction.OVERWRITE_IF_EXISTS,
)
_TLS = {
    VirtualHostMessage.NONE: RequireTls.NO,
    VirtualHostMessage.EXTERNAL_ONLY: RequireTls.EXTERNAL,
    VirtualHostMessage.ALL: RequireTls.ALL,
}

# What a route may say that has no bearing on where a call goes, or that is read elsewhere.
_QUIET_FILTERS = {_FAULT, _CORS, _ALPN}
_READ_MATCH = {
    "prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher", "case_sensitive", "runtime_fraction",
    "headers", "query_parameters", "grpc", "dynamic_metadata",
}  # fmt: skip
_DEFAULT_TIMEOUT = 15_000  # Envoy: RouteAction.timeout.


def route_table(body: bytes) -> RouteTable:
    """An encoded RouteConfiguration."""
    return table(RouteConfiguration.FromString(body))


def table(message: Untyped) -> RouteTable:
    """A RouteConfiguration."""
    return RouteTable(
        name=message.name,
        hosts=tuple(map(_host, message.virtual_hosts)),
        ignore_port=message.ignore_port_in_host_matching,
        changes=_changes(message),
        specific_last=message.most_specific_header_mutations_wins,
    )


def _host(message: Untyped) -> HostEntry:
    return HostEntry(
        name=message.name,
        domains=tuple(message.domains),
        routes=tuple(map(_route, message.routes)),
        require_tls=_TLS[message.require_tls],
        changes=_changes(message),
    )


def _route(message: Untyped) -> RouteEntry:
    kind = message.WhichOneof("action")
    action: Forward | RedirectTo | Respond | None = None
    if kind == "route":
        action = _forward(message.route)
    elif kind == "redirect":
        action = _redirect(message.redirect)
    elif kind == "direct_response":
        body = message.direct_response.body
        action = Respond(message.direct_response.status, body.inline_bytes or body.inline_string.encode())
    filters = message.typed_per_filter_config
    istio = message.metadata.filter_metadata
    return RouteEntry(
        name=message.name,
        rule=_rule(message.match),
        action=action,
        changes=_changes(message),
        fault=_fault(filters[_FAULT]) if _FAULT in filters else None,
        cors=_cors(filters[_CORS]) if _CORS in filters else None,
        config=istio["istio"]["config"] if "istio" in istio and "config" in istio["istio"] else "",
        alpn=_alpn(filters[_ALPN]) if _ALPN in filters else (),
        unread=tuple(sorted(set(filters) - _QUIET_FILTERS)),
    )


# --- comparisons --------------------------------------------------------------------------------------------------


def _rule(message: Untyped) -> RouteRule:
    claims = tuple(map(_claim, message.dynamic_metadata))
    kind = message.WhichOneof("path_specifier")
    path, value = PathKind.PREFIX, ""
    if kind == "path":
        path, value = PathKind.EXACT, message.path
    elif kind == "prefix":
        value = message.prefix
    elif kind == "safe_regex":
        path, value = PathKind.REGEX, message.safe_regex.regex
    elif kind == "path_separated_prefix":
        path, value = PathKind.ELEMENTS, message.path_separated_prefix
    elif kind == "connect_matcher":
        path = PathKind.CONNECT
    fraction = message.runtime_fraction
    return RouteRule(
        path=path,
        value=value,
        ignore_case=message.HasField("case_sensitive") and not message.case_sensitive.value,
        headers=tuple(map(header_rule, message.headers)),
        query=tuple(map(_query_rule, message.query_parameters)),
        grpc=message.HasField("grpc"),
        share=share(fraction.default_value) if message.HasField("runtime_fraction") else 1.0,
        claims=tuple(claim for claim in claims if claim is not None),
        unread=(
            *sorted({field.name for field, _ in message.ListFields()} - _READ_MATCH),
            *(("dynamic_metadata",) if None in claims else ()),
        ),
    )


def _claim(message: Untyped) -> ClaimRule | None:
    """What is asked of the metadata; None where that is anything but a claim, as this mesh asks for one."""
    path = tuple(each.key for each in message.path)
    if message.filter != JWT_FILTER or path[:1] != (JWT_PAYLOAD,):
        return None
    value = message.value
    if value.present_match:
        return ClaimRule(path[1:], None, message.invert)
    either = value.or_match.value_matchers
    if [each.WhichOneof("match_pattern") for each in either] != ["string_match", "list_match"]:
        return None
    return ClaimRule(path[1:], text(either[0].string_match), message.invert)


def text(message: Untyped) -> Text:
    """A StringMatcher."""
    kind = message.WhichOneof("match_pattern")
    if kind == "safe_regex":
        return Text(TextKind.REGEX, message.safe_regex.regex)
    if kind in ("exact", "prefix", "suffix", "contains"):
        return Text(TextKind[kind.upper()], getattr(message, kind), message.ignore_case)
    return Text(TextKind.EXACT, "")


def header_rule(message: Untyped) -> HeaderRule:
    """A HeaderMatcher."""
    kind = message.WhichOneof("header_match_specifier")
    found = HeaderRule(
        message.name, invert=message.invert_match, missing_as_empty=message.treat_missing_header_as_empty
    )
    if kind == "string_match":
        return found._replace(text=text(message.string_match))
    if kind == "present_match":
        return found._replace(present=message.present_match)
    if kind == "range_match":
        return found._replace(range=(message.range_match.start, message.range_match.end))
    if kind == "safe_regex_match":
        return found._replace(text=Text(TextKind.REGEX, message.safe_regex_match.regex))
    if kind is not None:
        return found._replace(text=Text(TextKind[kind.removesuffix("_match").upper()], getattr(message, kind)))
    return found


def _query_rule(message: Untyped) -> QueryRule:
    given = message.WhichOneof("query_parameter_match_specifier") == "string_match"
    return QueryRule(message.name, text(message.string_match) if given else None)


# --- actions ------------------------------------------------------------------------------------------------------


def _forward(message: Untyped) -> Forward:
    kind = message.WhichOneof("cluster_specifier")
    if kind == "weighted_clusters":
        targets = tuple(map(_target, message.weighted_clusters.clusters))
    elif kind == "cluster_header":
        targets = (Target("", header=message.cluster_header),)
    else:
        targets = (Target(message.cluster),)
    host = message.WhichOneof("host_rewrite_specifier")
    retry = message.retry_policy
    return Forward(
        targets=targets,
        prefix_rewrite=message.prefix_rewrite,
        regex_rewrite=_regex_rewrite(message),
        host_rewrite=message.host_rewrite_literal,
        host_rewrite_header=message.host_rewrite_header,
        auto_host=host == "auto_host_rewrite" and message.auto_host_rewrite.value,
        timeout=_milliseconds(message.timeout) if message.HasField("timeout") else _DEFAULT_TIMEOUT,
        retry=(
            Retry(retry.num_retries.value if retry.HasField("num_retries") else 1, retry.retry_on)
            if message.HasField("retry_policy")
            else None
        ),
        mirrors=tuple(map(_mirror, message.request_mirror_policies)),
        hash_on=tuple(map(_hash, message.hash_policy)),
        not_found=_NOT_FOUND[message.cluster_not_found_response_code],
        unread=tuple(
            name
            for name in ("host_rewrite_path_regex", "path_rewrite_policy", "cluster_specifier_plugin")
            if message.HasField(name)
        ),
    )


def _target(message: Untyped) -> Target:
    return Target(
        message.name,
        message.weight.value,
        _changes(message),
        message.host_rewrite_literal,
        message.cluster_header,
    )


def _mirror(message: Untyped) -> MirrorTo:
    given = message.HasField("runtime_fraction")
    return MirrorTo(message.cluster, share(message.runtime_fraction.default_value) if given else 1.0)


def _hash(message: Untyped) -> str:
    kind = message.WhichOneof("policy_specifier")
    if kind == "connection_properties":
        return "source ip"
    named = getattr(message, kind)
    return f"{kind} {named.header_name if kind == 'header' else getattr(named, 'name', '')}".strip()


def _redirect(message: Untyped) -> RedirectTo:
    return RedirectTo(
        status=_STATUS[message.response_code],
        https=message.https_redirect,
        scheme=message.scheme_redirect,
        host=message.host_redirect,
        port=message.port_redirect,
        path=message.path_redirect,
        prefix_rewrite=message.prefix_rewrite,
        regex_rewrite=_regex_rewrite(message),
        strip_query=message.strip_query,
    )


def _regex_rewrite(message: Untyped) -> RegexRewrite | None:
    if not message.HasField("regex_rewrite"):
        return None
    return RegexRewrite(message.regex_rewrite.pattern.regex, message.regex_rewrite.substitution)


def _changes(message: Untyped) -> Changes:
    return Changes(
        HeaderChanges(_added(message.request_headers_to_add), tuple(message.request_headers_to_remove)),
        HeaderChanges(_added(message.response_headers_to_add), tuple(message.response_headers_to_remove)),
    )


def _added(options: Iterable[Untyped]) -> tuple[HeaderChange, ...]:
    return tuple(
        HeaderChange(each.header.key, each.header.value, _APPEND[each.append_action])
        for each in options
        if each.header.value or each.keep_empty_value
    )


# --- what filters do for a route ----------------------------------------------------------------------------------


def _unwrapped(config: Untyped, message_type: Untyped) -> Untyped:
    """A filter's configuration on a route, which may stand inside a FilterConfig."""
    if config.type_url.endswith(".FilterConfig"):
        config = FilterConfig.FromString(config.value).config
    return message_type.FromString(config.value)


def _alpn(config: Untyped) -> tuple[str, ...]:
    values = _unwrapped(config, FilterStateConfig).on_request_headers
    texts = [each.format_string.text_format_source.inline_string for each in values if each.object_key == _OFFERED]
    return tuple(texts[0].split(",")) if texts else ()


def _fault(config: Untyped) -> Fault:
    message = _unwrapped(config, HTTPFault)
    delays, aborts = message.HasField("delay"), message.HasField("abort")
    grpc = message.abort.WhichOneof("error_type") == "grpc_status"
    return Fault(
        delay=_milliseconds(message.delay.fixed_delay) if delays else 0,
        delay_share=share(message.delay.percentage) if delays else 0.0,
        status=message.abort.http_status if aborts else 0,
        grpc_status=message.abort.grpc_status if aborts and grpc else None,
        abort_share=share(message.abort.percentage) if aborts else 0.0,
    )


def _cors(config: Untyped) -> CorsRule | None:
    message = _unwrapped(config, CorsPolicy)
    if message.HasField("filter_enabled") and share(message.filter_enabled.default_value) <= 0:
        return None
    return CorsRule(
        origins=tuple(map(text, message.allow_origin_string_match)),
        methods=message.allow_methods,
        headers=message.allow_headers,
        expose=message.expose_headers,
        max_age=message.max_age,
        credentials=message.allow_credentials.value,
        forward_unmatched=not message.HasField("forward_not_matching_preflights")
        or message.forward_not_matching_preflights.value,
    )


def share(message: Untyped) -> float:
    """A FractionalPercent as 0.0 to 1.0."""
    return min(float(message.numerator) / _DENOMINATORS[message.denominator], 1.0)


def _milliseconds(message: Untyped) -> int:
    return int(message.seconds) * 1000 + int(message.nanos) // 1_000_000
