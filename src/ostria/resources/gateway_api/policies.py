"""ReferenceGrant and BackendTLSPolicy: https://gateway-api.sigs.k8s.io/api-types/referencegrant/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from ostria.resources.gateway_api.shapes import (
    Group,
    Hostname,
    Kind,
    LocalObjectReference,
    Name,
    Namespace,
    Reporting,
    SectionName,
)
from ostria.resources.shapes import Object, Strict


class ReferenceGrantFrom(Strict, frozen=True):
    """Who may refer: a kind of one namespace."""

    group: Group
    kind: Kind
    namespace: Namespace


class ReferenceGrantTo(Strict, frozen=True):
    """What may be referred to: a kind, or one object of it."""

    group: Group
    kind: Kind
    name: Name | None = None


class ReferenceGrantSpec(Strict, frozen=True):
    """Each of `from` may refer to each of `to`."""

    from_: Annotated[tuple[ReferenceGrantFrom, ...], msgspec.Meta(min_length=1, max_length=16)] = msgspec.field(
        name="from"
    )
    to: Annotated[tuple[ReferenceGrantTo, ...], msgspec.Meta(min_length=1, max_length=16)]


class ReferenceGrant(Object, frozen=True):
    """References from other namespaces that this one allows."""

    spec: ReferenceGrantSpec


class PolicyTargetReference(Strict, frozen=True):
    """What a policy is for: a Service, or one of its ports by name."""

    group: Group
    kind: Kind
    name: Name
    section_name: SectionName | None = None


class SubjectAltName(Strict, frozen=True):
    """A name that the backend's certificate must have: `type` Hostname or URI."""

    type: str
    hostname: Hostname | None = None
    uri: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] | None = None


class BackendTLSValidation(Strict, frozen=True):
    """Whom a backend must be, and who vouches for it."""

    hostname: Hostname
    ca_certificate_refs: Annotated[tuple[LocalObjectReference, ...], msgspec.Meta(max_length=8)] = ()
    well_known_ca_certificates: str | None = msgspec.field(name="wellKnownCACertificates", default=None)
    subject_alt_names: Annotated[tuple[SubjectAltName, ...], msgspec.Meta(max_length=5)] = ()


class BackendTLSPolicySpec(Strict, frozen=True):
    """How these backends are called by TLS."""

    target_refs: Annotated[tuple[PolicyTargetReference, ...], msgspec.Meta(min_length=1, max_length=16)]
    validation: BackendTLSValidation
    options: Mapping[str, str] = {}


class BackendTLSPolicy(Reporting, frozen=True):
    """That, and how, backends are called by TLS."""

    spec: BackendTLSPolicySpec
