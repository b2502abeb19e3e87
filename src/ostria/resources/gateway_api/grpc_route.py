"""GRPCRoute: https://gateway-api.sigs.k8s.io/api-types/grpcroute/."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ostria.resources.gateway_api.http_route import HTTPHeaderFilter, HTTPRequestMirrorFilter
from ostria.resources.gateway_api.shapes import (
    BackendRef,
    HeaderName,
    HeaderValue,
    Hostname,
    LocalObjectReference,
    ParentReference,
    Reporting,
    SectionName,
    SessionPersistence,
)
from ostria.resources.shapes import Strict


class GRPCMethodMatch(Strict, frozen=True):
    """A comparison of service and method, one of which may be left open: Exact, the default, or RegularExpression."""

    DEFAULTS = {"type": "Exact"}

    type: str | None = None
    service: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    method: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class GRPCHeaderMatch(Strict, frozen=True):
    """A comparison of one header: Exact, the default, or RegularExpression."""

    DEFAULTS = {"type": "Exact"}

    name: HeaderName
    value: HeaderValue
    type: str | None = None


class GRPCRouteMatch(Strict, frozen=True):
    """When a rule applies; everything given must hold."""

    method: GRPCMethodMatch | None = None
    headers: Annotated[tuple[GRPCHeaderMatch, ...], msgspec.Meta(max_length=16)] = ()


class GRPCRouteFilter(Strict, frozen=True):
    """One step of what is done with a call; `type` says which of the fields stands."""

    type: str
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    extension_ref: LocalObjectReference | None = None


class GRPCBackendRef(BackendRef, frozen=True):
    """One of a rule's backends, its share, and what is done with its calls alone."""

    filters: Annotated[tuple[GRPCRouteFilter, ...], msgspec.Meta(max_length=16)] = ()


class GRPCRouteRule(Strict, frozen=True):
    """Matches, of which one must hold, and what is done with such calls."""

    name: SectionName | None = None
    matches: Annotated[tuple[GRPCRouteMatch, ...], msgspec.Meta(max_length=64)] = ()
    filters: Annotated[tuple[GRPCRouteFilter, ...], msgspec.Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[GRPCBackendRef, ...], msgspec.Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None


class GRPCRouteSpec(Strict, frozen=True):
    """Rules, for these host names, at these parents."""

    parent_refs: Annotated[tuple[ParentReference, ...], msgspec.Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=16)] = ()
    rules: Annotated[tuple[GRPCRouteRule, ...], msgspec.Meta(max_length=16)] = ()
    use_default_gateways: str | None = None


class GRPCRoute(Reporting, frozen=True):
    """What is done with gRPC calls."""

    spec: GRPCRouteSpec = GRPCRouteSpec()
