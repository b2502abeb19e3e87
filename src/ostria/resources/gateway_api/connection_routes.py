"""TLSRoute and TCPRoute: https://gateway-api.sigs.k8s.io/reference/spec/."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ostria.resources.gateway_api.shapes import BackendRef, Hostname, ParentReference, Reporting, SectionName
from ostria.resources.shapes import Strict


class ConnectionRouteRule(Strict, frozen=True):
    """Where connections go."""

    backend_refs: Annotated[tuple[BackendRef, ...], msgspec.Meta(min_length=1, max_length=16)]
    name: SectionName | None = None


class TLSRouteSpec(Strict, frozen=True):
    """Where TLS goes whose client asks for one of these host names, at these parents."""

    rules: Annotated[tuple[ConnectionRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)]
    parent_refs: Annotated[tuple[ParentReference, ...], msgspec.Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], msgspec.Meta(max_length=16)] = ()
    use_default_gateways: str | None = None


class TLSRoute(Reporting, frozen=True):
    """What is done with TLS by the name that its client asks for."""

    spec: TLSRouteSpec


class TCPRouteSpec(Strict, frozen=True):
    """Where connections go, at these parents."""

    rules: Annotated[tuple[ConnectionRouteRule, ...], msgspec.Meta(min_length=1, max_length=16)]
    parent_refs: Annotated[tuple[ParentReference, ...], msgspec.Meta(max_length=32)] = ()
    use_default_gateways: str | None = None


class TCPRoute(Reporting, frozen=True):
    """What is done with connections."""

    spec: TCPRouteSpec
