"""Which listeners and services a route is attached to, and why the others that it asks for did not take it.

    parentRefs + listeners -> parents(route) -> attached(listener) -> hosts that a route has there

A route without `sectionName` and `port` asks every listener of its parent. A host that another listener of the port
names more exactly belongs to that listener alone (https://gateway-api.sigs.k8s.io: listener isolation).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import matches, overlap
from ostria.engine import Engine, Index, query
from ostria.mesh.gateway_api.backends import using
from ostria.mesh.gateway_api.classes import Role, role_of
from ostria.mesh.gateway_api.declared import ROUTES, by_age, exists, key_of, listener_set_spec, route_spec
from ostria.mesh.gateway_api.listeners import (
    Listener,
    allows_namespace,
    listeners_in,
    listeners_of,
    parent_of_set,
    refusal_of_set,
)
from ostria.mesh.gateway_api.references import GATEWAY, LISTENER_SET, SERVICE, SERVICE_ENTRY, GroupKind, group_kind
from ostria.mesh.model import Verdict
from ostria.mesh.services import wildcards_over
from ostria.resources import Object, objects
from ostria.resources import gateway_api as api

NO_PARENT, NOT_ALLOWED, NO_HOSTNAME = "NoMatchingParent", "NotAllowedByListeners", "NoMatchingListenerHostname"

_KINDS = {GATEWAY: api.GATEWAY, LISTENER_SET: "ListenerSet", SERVICE: "Service", SERVICE_ENTRY: "ServiceEntry"}


class Attachment(NamedTuple):
    """One listener that has taken a route, and the hosts that the route has there; "*" is every host."""

    owner: ObjectKey
    listener: str
    hosts: tuple[str, ...]


class Parent(NamedTuple):
    """One of a route's parentRefs, at `position`: what took the route, or why nothing did.

    `service` is the Service or ServiceEntry whose callers the route is for, `port` 0 all of its ports.
    """

    position: int
    attachments: tuple[Attachment, ...] = ()
    service: ObjectKey | None = None
    port: int = 0
    refused: Verdict | None = None


def _named(key: ObjectKey, value: Object) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, ROUTES):
        for reference in value.spec.parent_refs:
            kind = _KINDS.get(group_kind(reference.group, reference.kind, GATEWAY))
            if kind is not None:
                yield kind, reference.namespace or key.namespace, reference.name


naming = Index("mesh.gateway_api.routes_naming", objects, _named)
"""The routes that name a parent, by its (kind, namespace, name)."""


def _naming_host(key: ObjectKey, value: Object) -> Iterator[tuple[tuple[str, str, str], str]]:
    if isinstance(value, ROUTES):
        named = () if isinstance(value, api.TCPRoute) else value.spec.hostnames
        names = {name.lower() for name in named} or {"*"}
        yield from ((parent, name) for parent in set(_named(key, value)) for name in names)


naming_host = Index("mesh.gateway_api.routes_naming_host", objects, _naming_host)
"""The same by one of their host names besides, so that a route costs its hosts and not all of a listener."""


def route_kind(key: ObjectKey) -> GroupKind:
    """A route's group and kind."""
    return api.GROUP, key.kind


@query
def hostnames(db: Engine, key: ObjectKey) -> tuple[str, ...]:
    """The host names that a route asks for; "*" where it names none."""
    spec = route_spec(db, key)
    named = () if spec is None or isinstance(spec, api.TCPRouteSpec) else spec.hostnames
    return tuple(dict.fromkeys(name.lower() for name in named)) or ("*",)


@query
def parents_of(db: Engine, key: ObjectKey) -> tuple[Parent, ...]:
    """What became of each parentRef of a route; those that are another controller's are left out."""
    spec = route_spec(db, key)
    found = (_parent(db, key, position, each) for position, each in enumerate(spec.parent_refs if spec else ()))
    return tuple(parent for parent in found if parent is not None)


def _parent(db: Engine, key: ObjectKey, position: int, reference: api.ParentReference) -> Parent | None:
    kind = group_kind(reference.group, reference.kind, GATEWAY)
    named = key_of(db, _KINDS.get(kind, ""), reference.namespace or key.namespace, reference.name)
    if kind in (SERVICE, SERVICE_ENTRY):
        port = reference.port or 0
        if not exists(db, named):
            words = f"there is no {kind[1]} {named.namespace}/{named.name}"
            return Parent(position, service=named, port=port, refused=Verdict(NO_PARENT, words))
        return Parent(position, service=named, port=port)
    if kind == LISTENER_SET:
        gateway = parent_of_set(db, named) if listener_set_spec(db, named) is not None else None
        if gateway is None or refusal_of_set(db, named) is not None:
            return None
    elif kind == GATEWAY:
        gateway = named
    else:
        return None
    # A waypoint's routes are for callers of its services, which no sidecar mesh has.
    if role_of(db, gateway) is not Role.GATEWAY:
        return None
    return _attached_to(db, key, position, reference, gateway, named)


def _attached_to(
    db: Engine, key: ObjectKey, position: int, reference: api.ParentReference, gateway: ObjectKey, owner: ObjectKey
) -> Parent:
    # Why no listener took it: the refusal of the one that came closest is told.
    refused: list[tuple[int, Verdict]] = []
    attachments: list[Attachment] = []
    for listener in listeners_in(db, gateway, owner):
        if reference.section_name is not None and reference.section_name != listener.name:
            refused.append((0, Verdict(NO_PARENT, f'there is no listener "{reference.section_name}"')))
            continue
        if reference.port is not None and reference.port != listener.port:
            refused.append((0, Verdict(NO_PARENT, f"no listener has port {reference.port}")))
            continue
        closeness, verdict = _refusal(db, key, listener)
        if verdict is not None:
            refused.append((closeness, verdict))
        else:
            hosts = _hosts(db, listener, hostnames(db, key))
            attachments.append(Attachment(owner, listener.name, hosts))
    if attachments:
        return Parent(position, tuple(attachments))
    refused.append((-1, Verdict(NO_PARENT, f"{owner.namespace}/{owner.name} has no listener")))
    return Parent(position, refused=max(refused, key=lambda each: each[0])[1])


def _refusal(db: Engine, key: ObjectKey, listener: Listener) -> tuple[int, Verdict | None]:
    names = hostnames(db, key)
    if not any(overlap(listener.hostname, name) for name in names):
        words = f"none of the route's hostnames is within the listener's \"{listener.hostname}\""
        return 1, Verdict(NO_HOSTNAME, words)
    if not allows_namespace(db, listener.owner, listener.position, key.namespace):
        words = f'listener "{listener.name}" takes no routes from namespace {key.namespace}'
        return 2, Verdict(NOT_ALLOWED, words)
    if route_kind(key) not in listener.kinds:
        return 3, Verdict(NOT_ALLOWED, f'listener "{listener.name}" takes no {key.kind}')
    return 4, None


# --- hosts --------------------------------------------------------------------------------------------------------


def _hosts(db: Engine, listener: Listener, names: tuple[str, ...]) -> tuple[str, ...]:
    """The hosts of a route at a listener: what both stand for, without what is another listener's."""
    others = [
        other.hostname
        for other in listeners_of(db, listener.gateway)
        if (other.port, other.protocol) == (listener.port, listener.protocol) and other.hostname != listener.hostname
    ]
    found: dict[str, None] = {}
    for name in names:
        host = narrower(listener.hostname, name)
        if host is not None and not any(_more_exact(other, listener.hostname, host) for other in others):
            found[host] = None
    return tuple(found)


def _more_exact(other: str, own: str, host: str) -> bool:
    """Whether another listener's name stands for a host more exactly than the own one does."""
    return matches(other, host) and matches(own, other)


def narrower(one: str, other: str) -> str | None:
    """The more specific of two hosts where one covers the other, else None: `a.b.c` of `a.b.c` and `*.c`."""
    if matches(one, other):
        return other
    return one if matches(other, one) else None


# --- the other way round ------------------------------------------------------------------------------------------


@query
def attached(db: Engine, owner: ObjectKey, listener: str) -> tuple[ObjectKey, ...]:
    """The routes that a listener has taken, the oldest first."""
    keys = (
        key
        for key in naming(db, (owner.kind, owner.namespace, owner.name))
        for parent in parents_of(db, key)
        for each in parent.attachments
        if (each.owner, each.listener) == (owner, listener)
    )
    return tuple(sorted(dict.fromkeys(keys), key=lambda key: by_age(db, key)))


@query
def attached_for(db: Engine, owner: ObjectKey, listener: str, hostname: str, host: str) -> tuple[ObjectKey, ...]:
    """The routes that a listener of this `hostname` has taken and that have this host there, the oldest first.

    A route has a host there that it names itself, or the listener's own where it names a wider one.
    """
    parent = (owner.kind, owner.namespace, owner.name)
    forms = (host, *wildcards_over(host)) if host == hostname else (host,)
    keys = dict.fromkeys(key for form in dict.fromkeys(forms) for key in naming_host(db, (parent, form)))
    found = (key for key in keys if host in hosts_at(db, key, owner, listener))
    return tuple(sorted(found, key=lambda key: by_age(db, key)))


@query
def gateways_calling(db: Engine, namespace: str, name: str) -> tuple[ObjectKey, ...]:
    """The Gateways whose routes lead to a Service."""
    found: set[ObjectKey] = set()
    for key in using(db, (namespace, name)):
        for parent in parents_of(db, key):
            for each in parent.attachments:
                gateway = each.owner if each.owner.kind == api.GATEWAY else parent_of_set(db, each.owner)
                found.update((gateway,) if gateway else ())
    return tuple(sorted(found))


def hosts_at(db: Engine, key: ObjectKey, owner: ObjectKey, listener: str) -> tuple[str, ...]:
    """The hosts that a route has at a listener."""
    found: dict[str, None] = {}
    for parent in parents_of(db, key):
        for each in parent.attachments:
            if (each.owner, each.listener) == (owner, listener):
                found |= dict.fromkeys(each.hosts)
    return tuple(found)
