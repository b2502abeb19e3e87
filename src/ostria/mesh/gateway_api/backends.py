"""What a backendRef leads to: a cluster, or nothing, and then why.

A Service, a ServiceImport (which is the Service of its name here, as in Istio), or a host that the mesh knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.gateway_api.declared import ROUTES, exists, key_of
from ostria.mesh.gateway_api.references import (
    HOSTNAME,
    SERVICE,
    SERVICE_IMPORT,
    GroupKind,
    Referrer,
    group_kind,
    permitted,
)
from ostria.mesh.model import ClusterRef, MissingDestination, Verdict
from ostria.mesh.services import service
from ostria.mesh.settings import settings
from ostria.mesh.virtual_services import MESH, Place, cluster_of
from ostria.resources import Object, objects
from ostria.resources import gateway_api as api

NOT_FOUND = "BackendNotFound"
Reference = api.BackendRef | api.BackendObjectReference | api.HTTPBackendRef | api.GRPCBackendRef


class Named(NamedTuple):
    """A backend as a reference names it, with everything filled in; `port` 0 is none."""

    kind: GroupKind
    namespace: str
    name: str
    port: int


class Backend(NamedTuple):
    """The host and port of a backend; with a `fault` that is `fatal` there is none, else it may still come."""

    host: str = ""
    port: int = 0
    fault: Verdict | None = None
    fatal: bool = False


def named(reference: Reference, namespace: str) -> Named:
    """What a reference in a namespace names."""
    kind = group_kind(reference.group, reference.kind, SERVICE)
    return Named(kind, reference.namespace or namespace, reference.name, reference.port or 0)


@query
def backend(db: Engine, wanted: Named, referrer: Referrer, gateway: str) -> Backend:
    """What a reference leads to at a gateway, or for calls inside the mesh (MESH), which ask for no ReferenceGrant."""
    if gateway != MESH and not permitted(db, referrer, wanted.kind, wanted.namespace, wanted.name):
        words = f"{wanted.kind[1]} {wanted.namespace}/{wanted.name} is not accessible to a {referrer.kind[1]} in"
        fault = Verdict("RefNotPermitted", f"{words} namespace {referrer.namespace}: a ReferenceGrant is missing")
        return Backend(fault=fault, fatal=True)
    missing: Verdict | None = None
    if wanted.kind in (SERVICE, SERVICE_IMPORT):
        if "." in wanted.name:
            words = f'"{wanted.name}" is no name of a Service: what is named is the Service, and not its host name'
            return Backend(fault=Verdict("InvalidDestination", words), fatal=True)
        host = f"{wanted.name}.{wanted.namespace}.svc.{settings(db).domain_suffix}"
        if not exists(db, key_of(db, "Service", wanted.namespace, wanted.name)):
            missing = Verdict(NOT_FOUND, f"there is no Service {wanted.namespace}/{wanted.name}")
    elif wanted.kind == HOSTNAME:
        if wanted.namespace != referrer.namespace:
            return Backend(fault=Verdict("InvalidDestination", "a Hostname has no namespace"), fatal=True)
        host = wanted.name
        if service(db, host, referrer.namespace) is None:
            missing = Verdict(NOT_FOUND, f'the mesh knows no host "{host}"')
    else:
        group, kind = wanted.kind
        words = f'a backend of group "{group}" and kind "{kind}" is not supported'
        return Backend(fault=Verdict("InvalidKind", words), fatal=True)
    if not wanted.port:
        return Backend(fault=Verdict("InvalidDestination", "a backendRef needs a port"), fatal=True)
    return Backend(host, wanted.port, missing)


def cluster(db: Engine, found: Backend, wanted: Named, place: Place) -> ClusterRef | MissingDestination:
    """The cluster of a backend for a client at `place`."""
    if found.fatal:
        return MissingDestination(f"{wanted.name}.{wanted.namespace}", wanted.port)
    return cluster_of(db, found.host, found.port, "", place)


def _using(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, ROUTES):
        for rule in value.spec.rules:
            for each in rule.backend_refs:
                if group_kind(each.group, each.kind, SERVICE) == SERVICE:
                    yield each.namespace or key.namespace, each.name


using = Index("mesh.gateway_api.routes_using", objects, _using)
"""The routes that lead to a Service, by its (namespace, name)."""
