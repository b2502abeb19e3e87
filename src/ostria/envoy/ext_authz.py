"""Whom CUSTOM policies ask: Envoy's ext_authz filters, for requests and for connections.

An RBAC filter in front says without consequence (shadow rules) whether a CUSTOM policy matches, and leaves the name of
the policy in the metadata; ext_authz asks only if the name is there (istio.io: External Authorization).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Untyped

from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.network.ext_authz.v3.ext_authz_pb2 import ExtAuthz as NetworkExtAuthz
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.string_pb2 import ListStringMatcher

from ostria.envoy.rbac import text
from ostria.envoy.wire import duration
from ostria.mesh.model import Authorizer

MARK = "istio_ext_authz_"
"""What stands before the names under which shadow rules leave their result in the metadata."""
_V3 = ApiVersion.Value("V3")


def prefix_of(provider: str) -> str:
    """What the names of the policies that ask a provider begin with."""
    return f"istio-ext-authz-{provider}-"


def for_requests(authorizer: Authorizer, marked_by: str) -> ExtAuthz:
    """Ask about requests that the RBAC filter of this name has marked."""
    made = ExtAuthz(
        failure_mode_allow=authorizer.fails_open,
        clear_route_cache=authorizer.clears_route,
        transport_api_version=_V3,
        filter_enabled_metadata=_marked(authorizer.name, marked_by),
    )
    if authorizer.status_on_error:
        made.status_on_error.code = authorizer.status_on_error
    if authorizer.body is not None:
        made.with_request_body.max_request_bytes = authorizer.body.most
        made.with_request_body.allow_partial_message = authorizer.body.partial
        made.with_request_body.pack_as_bytes = authorizer.body.as_bytes
    if authorizer.grpc:
        made.grpc_service.CopyFrom(_grpc(authorizer))
    else:
        _http(made, authorizer)
    return made


def for_connections(authorizer: Authorizer, marked_by: str) -> NetworkExtAuthz:
    """Ask about connections that the RBAC filter of this name has marked."""
    return NetworkExtAuthz(
        stat_prefix="tcp.",
        grpc_service=_grpc(authorizer),
        failure_mode_allow=authorizer.fails_open,
        transport_api_version=_V3,
        filter_enabled_metadata=_marked(authorizer.name, marked_by),
    )


def _marked(provider: str, marked_by: str) -> MetadataMatcher:
    made = MetadataMatcher(filter=marked_by)
    made.path.add(key=f"{MARK}shadow_effective_policy_id")
    made.value.string_match.prefix = prefix_of(provider).removesuffix("-")
    return made


def _grpc(authorizer: Authorizer) -> GrpcService:
    made = GrpcService(timeout=duration(authorizer.timeout))
    made.envoy_grpc.cluster_name = authorizer.cluster.name
    made.envoy_grpc.authority = authorizer.cluster.host
    return made


def _http(made: Untyped, authorizer: Authorizer) -> None:
    service = made.http_service
    service.path_prefix = authorizer.path_prefix
    service.server_uri.uri = f"http://{authorizer.cluster.host}"
    service.server_uri.cluster = authorizer.cluster.name
    service.server_uri.timeout.CopyFrom(duration(authorizer.timeout))
    if authorizer.request_headers:
        made.allowed_headers.CopyFrom(_headers(authorizer.request_headers))
    for name, value in authorizer.add_headers:
        service.authorization_request.headers_to_add.add(key=name, value=value)
    answer = service.authorization_response
    for names, patterns in (
        (authorizer.to_upstream_on_allow, "allowed_upstream_headers"),
        (authorizer.to_client_on_deny, "allowed_client_headers"),
        (authorizer.to_client_on_allow, "allowed_client_headers_on_success"),
    ):
        if names:
            getattr(answer, patterns).CopyFrom(_headers(names))


def _headers(names: Iterable[str]) -> ListStringMatcher:
    made = ListStringMatcher(patterns=[text(name) for name in names])
    for pattern in made.patterns:
        if not pattern.HasField("safe_regex"):
            pattern.ignore_case = True
    return made
