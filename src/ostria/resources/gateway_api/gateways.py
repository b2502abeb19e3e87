"""GatewayClass, Gateway and ListenerSet: https://gateway-api.sigs.k8s.io/api-types/gateway/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from ostria.resources.gateway_api.shapes import (
    Group,
    Hostname,
    Kind,
    LabelSelector,
    LocalObjectReference,
    Name,
    Namespace,
    ObjectReference,
    PortNumber,
    Reporting,
    SecretObjectReference,
    SectionName,
)
from ostria.resources.shapes import Strict


class ParametersReference(Strict, frozen=True):
    """An object with a class's own settings."""

    group: Group
    kind: Kind
    name: Name
    namespace: Namespace | None = None


class GatewayClassSpec(Strict, frozen=True):
    """Who acts on the Gateways of a class."""

    controller_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    parameters_ref: ParametersReference | None = None
    description: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class GatewayClass(Reporting, frozen=True):
    """A kind of Gateway, and the controller that acts on it."""

    spec: GatewayClassSpec


class RouteGroupKind(Strict, frozen=True):
    """A kind of route."""

    DEFAULTS = {"group": "gateway.networking.k8s.io"}

    kind: Kind
    group: Group | None = None


class RouteNamespaces(Strict, frozen=True):
    """From which namespaces routes may attach: All, Selector, Same (the default) or None."""

    DEFAULTS = {"from": "Same"}

    from_: str | None = msgspec.field(name="from", default=None)
    selector: LabelSelector | None = None


class AllowedRoutes(Strict, frozen=True):
    """Which routes may attach to a listener."""

    DEFAULTS = {"namespaces": {"from": "Same"}}

    namespaces: RouteNamespaces | None = None
    kinds: Annotated[tuple[RouteGroupKind, ...], msgspec.Meta(max_length=8)] = ()


class ListenerTLS(Strict, frozen=True):
    """Whether TLS ends at a listener (Terminate, the default) or passes through it, and with which certificates."""

    DEFAULTS = {"mode": "Terminate"}

    mode: str | None = None
    certificate_refs: Annotated[tuple[SecretObjectReference, ...], msgspec.Meta(max_length=64)] = ()
    options: Mapping[str, str] = {}
    # Of older versions, in which each listener had its own.
    frontend_validation: FrontendValidation | None = None


class Listener(Strict, frozen=True):
    """One port, protocol and host name that a Gateway serves."""

    DEFAULTS = {"allowedRoutes": {"namespaces": {"from": "Same"}}}

    name: SectionName
    port: PortNumber
    protocol: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    hostname: Hostname | None = None
    tls: ListenerTLS | None = None
    allowed_routes: AllowedRoutes | None = None


class GatewayAddress(Strict, frozen=True):
    """An address that a Gateway asks for."""

    DEFAULTS = {"type": "IPAddress"}

    value: Annotated[str, msgspec.Meta(max_length=253)] = ""
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] | None = None


class GatewayInfrastructure(Strict, frozen=True):
    """What is put onto everything that is made for a Gateway, and where its settings stand."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    parameters_ref: LocalObjectReference | None = None


class FrontendValidation(Strict, frozen=True):
    """Who signs the certificates of clients; `mode` AllowInsecureFallback lets clients in that show none."""

    DEFAULTS = {"mode": "AllowValidOnly"}

    ca_certificate_refs: Annotated[tuple[ObjectReference, ...], msgspec.Meta(max_length=8)] = ()
    mode: str | None = None


class FrontendTLS(Strict, frozen=True):
    """What is asked of clients, on one port or by default."""

    validation: FrontendValidation | None = None


class PortFrontendTLS(Strict, frozen=True):
    """What is asked of the clients of one port."""

    port: PortNumber
    tls: FrontendTLS


class Frontends(Strict, frozen=True):
    """What is asked of clients, by port."""

    default: FrontendTLS
    per_port: Annotated[tuple[PortFrontendTLS, ...], msgspec.Meta(max_length=64)] = ()


class BackendTLS(Strict, frozen=True):
    """What the Gateway shows to backends that ask for a certificate."""

    client_certificate_ref: SecretObjectReference | None = None


class GatewayTLS(Strict, frozen=True):
    """TLS of the whole Gateway, towards clients and towards backends."""

    frontend: Frontends | None = None
    backend: BackendTLS | None = None


class AllowedListeners(Strict, frozen=True):
    """From which namespaces ListenerSets may be attached; None (from nowhere) is the default."""

    namespaces: ListenerNamespaces | None = None


class ListenerNamespaces(Strict, frozen=True):
    """All, Selector, Same, or None, the default."""

    DEFAULTS = {"from": "None"}

    from_: str | None = msgspec.field(name="from", default=None)
    selector: LabelSelector | None = None


class GatewaySpec(Strict, frozen=True):
    """What is to be served, where."""

    gateway_class_name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    listeners: Annotated[tuple[Listener, ...], msgspec.Meta(max_length=64)] = ()
    addresses: Annotated[tuple[GatewayAddress, ...], msgspec.Meta(max_length=16)] = ()
    infrastructure: GatewayInfrastructure | None = None
    tls: GatewayTLS | None = None
    allowed_listeners: AllowedListeners | None = None
    default_scope: str | None = None


class Gateway(Reporting, frozen=True):
    """An instance of what takes traffic in."""

    spec: GatewaySpec


class ParentGatewayReference(Strict, frozen=True):
    """The Gateway that a ListenerSet adds listeners to."""

    DEFAULTS = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}

    name: Name
    group: Group | None = None
    kind: Kind | None = None
    namespace: Namespace | None = None


class ListenerSetSpec(Strict, frozen=True):
    """Listeners, and the Gateway that serves them."""

    parent_ref: ParentGatewayReference
    listeners: Annotated[tuple[Listener, ...], msgspec.Meta(min_length=1, max_length=64)]


class ListenerSet(Reporting, frozen=True):
    """Listeners of a Gateway that stand in an object of their own, possibly of another namespace."""

    spec: ListenerSetSpec
