"""HTTPRoute: https://gateway-api.sigs.k8s.io/api-types/httproute/."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ostria.resources.gateway_api.shapes import (
    BackendObjectReference,
    BackendRef,
    Fraction,
    HeaderName,
    HeaderValue,
    Hostname,
    LocalObjectReference,
    ParentReference,
    PortNumber,
    Reporting,
    SectionName,
    SessionPersistence,
)
from ostria.resources.shapes import Int32, Strict

Path = Annotated[str, msgspec.Meta(max_length=1024)]


class HTTPPathMatch(Strict, frozen=True):
    """A comparison of the path: Exact, PathPrefix (whole elements, the default) or RegularExpression (RE2)."""

    DEFAULTS = {"type": "PathPrefix", "value": "/"}

    type: str | None = None
    value: Path | None = None


class HTTPHeaderMatch(Strict, frozen=True):
    """A comparison of one header: Exact, the default, or RegularExpression."""

    DEFAULTS = {"type": "Exact"}

    name: HeaderName
    value: HeaderValue
    type: str | None = None


class HTTPQueryParamMatch(Strict, frozen=True):
    """A comparison of one query parameter: Exact, the default, or RegularExpression."""

    DEFAULTS = {"type": "Exact"}

    name: HeaderName
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    type: str | None = None


class HTTPRouteMatch(Strict, frozen=True):
    """When a rule applies; everything given must hold."""

    DEFAULTS = {"path": {"type": "PathPrefix", "value": "/"}}

    path: HTTPPathMatch | None = None
    headers: Annotated[tuple[HTTPHeaderMatch, ...], msgspec.Meta(max_length=16)] = ()
    query_params: Annotated[tuple[HTTPQueryParamMatch, ...], msgspec.Meta(max_length=16)] = ()
    method: str | None = None


class HTTPHeader(Strict, frozen=True):
    """A header and its value."""

    name: HeaderName
    value: HeaderValue


class HTTPHeaderFilter(Strict, frozen=True):
    """Changes of a message's headers."""

    set: Annotated[tuple[HTTPHeader, ...], msgspec.Meta(max_length=16)] = ()
    add: Annotated[tuple[HTTPHeader, ...], msgspec.Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()


class HTTPPathModifier(Strict, frozen=True):
    """A change of the path: ReplaceFullPath, or ReplacePrefixMatch of what a PathPrefix has matched."""

    type: str
    replace_full_path: Path | None = None
    replace_prefix_match: Path | None = None


class HTTPRequestRedirectFilter(Strict, frozen=True):
    """An answer that sends the client elsewhere; what is not given stays."""

    DEFAULTS = {"statusCode": 302}

    scheme: str | None = None
    hostname: Hostname | None = None
    path: HTTPPathModifier | None = None
    port: PortNumber | None = None
    status_code: Int32 | None = None


class HTTPURLRewriteFilter(Strict, frozen=True):
    """What is changed of a request before it is sent on."""

    hostname: Hostname | None = None
    path: HTTPPathModifier | None = None


class HTTPRequestMirrorFilter(Strict, frozen=True):
    """A copy of requests, all or a share, whose answers are thrown away."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class HTTPCORSFilter(Strict, frozen=True):
    """Cross-origin policy; `max_age` is in seconds."""

    DEFAULTS = {"maxAge": 5}

    allow_origins: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[tuple[str, ...], msgspec.Meta(max_length=9)] = ()
    allow_headers: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()
    expose_headers: Annotated[tuple[str, ...], msgspec.Meta(max_length=64)] = ()
    max_age: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class HTTPRouteFilter(Strict, frozen=True):
    """One step of what is done with a request; `type` says which of the fields stands."""

    type: str
    request_header_modifier: HTTPHeaderFilter | None = None
    response_header_modifier: HTTPHeaderFilter | None = None
    request_mirror: HTTPRequestMirrorFilter | None = None
    request_redirect: HTTPRequestRedirectFilter | None = None
    url_rewrite: HTTPURLRewriteFilter | None = None
    cors: HTTPCORSFilter | None = None
    extension_ref: LocalObjectReference | None = None


class HTTPBackendRef(BackendRef, frozen=True):
    """One of a rule's backends, its share, and what is done with its requests alone."""

    filters: Annotated[tuple[HTTPRouteFilter, ...], msgspec.Meta(max_length=16)] = ()


class HTTPRouteTimeouts(Strict, frozen=True):
    """How long a request, and each try of it at a backend, may take; 0 is without end."""

    request: str | None = None
    backend_request: str | None = None


class HTTPRouteRetry(Strict, frozen=True):
    """How often and upon which answers a request is sent again."""

    codes: tuple[Int32, ...] = ()
    attempts: Int32 | None = None
    backoff: str | None = None


class HTTPRouteRule(Strict, frozen=True):
    """Matches, of which one must hold, and what is done with such requests."""

    DEFAULTS = {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}

    name: SectionName | None = None
    matches: Annotated[tuple[HTTPRouteMatch, ...], msgspec.Meta(max_length=64)] = ()
    filters: Annotated[tuple[HTTPRouteFilter, ...], msgspec.Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[HTTPBackendRef, ...], msgspec.Meta(max_length=16)] = ()
    timeouts: HTTPRouteTimeouts | None = None
    retry: HTTPRouteRetry | None = None
    session_persistence: SessionPersistence | None = None


class HTTPRouteSpec(Strict, frozen=True):
    """Rules, for these host names, at these parents."""

    DEFAULTS = {"rules": [{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]}

    parent_refs: Annotated[tuple[ParentReference, ...], msgspec.Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=16)] = ()
    rules: Annotated[tuple[HTTPRouteRule, ...], msgspec.Meta(max_length=16)] = ()
    use_default_gateways: str | None = None


class HTTPRoute(Reporting, frozen=True):
    """What is done with HTTP requests."""

    spec: HTTPRouteSpec = HTTPRouteSpec()
