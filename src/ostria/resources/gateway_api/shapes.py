"""What the Gateway API's kinds share: references, conditions' owners, and objects that carry a status of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from ostria.resources.shapes import Int32, Meta, Object, Strict

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
SectionName = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
Namespace = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
Group = Annotated[str, msgspec.Meta(max_length=253)]
Hostname = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1000000)]
HeaderName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
HeaderValue = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class ReportingMeta(Meta, frozen=True):
    """Metadata of an object whose status says which writing of the object it judges: that is `generation`."""

    generation: int = 0


class Reporting(Object, frozen=True, kw_only=True):
    """An object whose status the mesh writes. The status is kept as it is: others write their parts of it, too."""

    metadata: ReportingMeta
    status: Mapping[str, Any] = {}


class ParentReference(Strict, frozen=True):
    """What a route asks to be attached to: a Gateway, one of its listeners, a ListenerSet, or a Service of the mesh."""

    DEFAULTS = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}

    name: Name
    group: Group | None = None
    kind: Kind | None = None
    namespace: Namespace | None = None
    section_name: SectionName | None = None
    port: PortNumber | None = None


class BackendObjectReference(Strict, frozen=True):
    """Where requests go: a Service unless something else is said."""

    DEFAULTS = {"group": "", "kind": "Service"}

    name: Name
    group: Group | None = None
    kind: Kind | None = None
    namespace: Namespace | None = None
    port: PortNumber | None = None


class BackendRef(BackendObjectReference, frozen=True):
    """One of several backends and its share; a weight that is not written is 1."""

    DEFAULTS = {"group": "", "kind": "Service", "weight": 1}

    weight: Weight | None = None


class ObjectReference(Strict, frozen=True):
    """An object of a kind that is always named, in any namespace."""

    group: Group
    kind: Kind
    name: Name
    namespace: Namespace | None = None


class LocalObjectReference(Strict, frozen=True):
    """An object of the same namespace."""

    group: Group
    kind: Kind
    name: Name


class SecretObjectReference(Strict, frozen=True):
    """A Secret, unless something else is said."""

    DEFAULTS = {"group": "", "kind": "Secret"}

    name: Name
    group: Group | None = None
    kind: Kind | None = None
    namespace: Namespace | None = None


class LabelSelectorRequirement(Strict, frozen=True):
    """One requirement of a label selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Strict, frozen=True):
    """Kubernetes' selector by labels and by requirements; all must hold."""

    match_labels: Mapping[str, str] = {}
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()


class SessionPersistence(Strict, frozen=True):
    """Which requests of one client go to the same endpoint."""

    DEFAULTS = {"type": "Cookie"}

    session_name: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    absolute_timeout: str | None = None
    idle_timeout: str | None = None
    type: str | None = None
    cookie_config: CookieConfig | None = None


class CookieConfig(Strict, frozen=True):
    """How long the client keeps the cookie: for its session, or for `absoluteTimeout`."""

    DEFAULTS = {"lifetimeType": "Session"}

    lifetime_type: str | None = None


class Fraction(Strict, frozen=True):
    """A share of the whole."""

    DEFAULTS = {"denominator": 100}

    numerator: Int32
    denominator: Int32 | None = None
