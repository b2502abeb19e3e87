"""The Gateway API's objects without what the mesh itself writes into them, so that a status wakes nobody who routes."""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.settings import settings
from ostria.resources import gateway_api as api
from ostria.resources import objects
from ostria.resources.gateway_api import (
    GatewaySpec,
    GRPCRouteSpec,
    HTTPRouteSpec,
    ListenerSetSpec,
    ReferenceGrantSpec,
    TCPRouteSpec,
    TLSRouteSpec,
)

RouteSpec = HTTPRouteSpec | GRPCRouteSpec | TLSRouteSpec | TCPRouteSpec
ROUTES: tuple[type[api.HTTPRoute | api.GRPCRoute | api.TLSRoute | api.TCPRoute], ...] = (
    api.HTTPRoute,
    api.GRPCRoute,
    api.TLSRoute,
    api.TCPRoute,
)
ROUTE_KINDS = tuple(shape.__name__ for shape in ROUTES)


@query
def gateway_spec(db: Engine, key: ObjectKey) -> GatewaySpec | None:
    """What a Gateway asks for."""
    value = objects(db, key)
    return value.spec if isinstance(value, api.Gateway) else None


@query
def listener_set_spec(db: Engine, key: ObjectKey) -> ListenerSetSpec | None:
    """What a ListenerSet asks for."""
    value = objects(db, key)
    return value.spec if isinstance(value, api.ListenerSet) else None


@query
def route_spec(db: Engine, key: ObjectKey) -> RouteSpec | None:
    """What a route of any kind asks for."""
    value = objects(db, key)
    return value.spec if isinstance(value, ROUTES) else None


@query
def grant_spec(db: Engine, key: ObjectKey) -> ReferenceGrantSpec | None:
    """What a ReferenceGrant allows."""
    value = objects(db, key)
    return value.spec if isinstance(value, api.ReferenceGrant) else None


class Labelled(NamedTuple):
    """An object's labels and annotations, sorted."""

    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()


@query
def labelled(db: Engine, key: ObjectKey) -> Labelled:
    """The labels and annotations of one object; none where there is no such object."""
    value = objects(db, key)
    if value is None:
        return Labelled()
    meta = value.metadata
    return Labelled(tuple(sorted(meta.labels.items())), tuple(sorted(meta.annotations.items())))


@query
def exists(db: Engine, key: ObjectKey) -> bool:
    """Whether there is such an object, whatever it holds."""
    return objects(db, key) is not None


@query
def born(db: Engine, key: ObjectKey) -> str:
    """When an object was made, as text that sorts by time; objects without a time come last."""
    value = objects(db, key)
    return (value.metadata.creation_timestamp if value else None) or "~"


def by_age(db: Engine, key: ObjectKey) -> tuple[str, str, str]:
    """Sorts objects as the API wants it where they compete: the oldest first, then by namespace and name."""
    return born(db, key), key.namespace, key.name


def key_of(db: Engine, kind: str, namespace: str, name: str) -> ObjectKey:
    """An object of the mesh's own cluster."""
    return ObjectKey(settings(db).cluster, kind, namespace, name)
