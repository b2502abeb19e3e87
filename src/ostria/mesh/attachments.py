"""Whose proxies an object is for: what extends proxies (EnvoyFilter, WasmPlugin, TrafficExtension), and policies.

    selector, targetRefs, namespace -> attachments(object) -> is_attached(object, client), attachment_scope(object)

Without a selector an object is for its whole namespace, and in the root namespace for the whole mesh. What the root
namespace says is applied first, then what the workload's own does (istio.io: EnvoyFilter).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.model import Labels
from ostria.mesh.services import age
from ostria.mesh.settings import root_namespace
from ostria.mesh.traits import ClientTraits, Scope
from ostria.resources import Object, by_kind, objects
from ostria.resources.authorization_policy import AuthorizationPolicy
from ostria.resources.envoy_filter import EnvoyFilter
from ostria.resources.extensions import TrafficExtension, WasmPlugin
from ostria.resources.policy_targets import PolicyTargetReference
from ostria.resources.request_authentication import RequestAuthentication
from ostria.resources.store import withdrawn

GATEWAY_API = "gateway.networking.k8s.io"
# What every workload has that stands behind a Gateway of the Gateway API (gateway-api.sigs.k8s.io, GEP-1762).
GATEWAY_NAME_LABEL = f"{GATEWAY_API}/gateway-name"
GATEWAY_CLASS_LABEL = f"{GATEWAY_API}/gateway-class-name"


class Attachment(NamedTuple):
    """The proxies in `namespace` ("" is every namespace) whose pods have all of the labels."""

    namespace: str
    labels: Labels = ()

    def covers(self, client: ClientTraits) -> bool:
        """Whether the object is for this proxy."""
        return self.namespace in ("", client.namespace) and client.has_labels(self.labels)


class ProxyFacts(NamedTuple):
    """What an object asks of what proxies say of themselves: their version, and pairs of their node's metadata."""

    version: bool = False
    metadata: frozenset[tuple[str, str]] = frozenset()


def _namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, EnvoyFilter | WasmPlugin | TrafficExtension | RequestAuthentication | AuthorizationPolicy):
        yield key.namespace


attached_in: Index[ObjectKey, Object, str] = Index("mesh.attachments.attached_in", objects, _namespace)
"""The objects of a namespace that attach to proxies."""


@query
def attachments(db: Engine, key: ObjectKey) -> tuple[Attachment, ...]:
    """The proxies that one object is for, or would be if Envoy had not refused it; any of these is enough."""
    value = objects(db, key) or withdrawn(db, key)
    root = key.namespace == root_namespace(db)
    namespace = "" if root else key.namespace
    if isinstance(value, EnvoyFilter):
        selector = value.spec.workload_selector
        labels = selector.labels if selector else {}
    elif isinstance(value, WasmPlugin | TrafficExtension | RequestAuthentication | AuthorizationPolicy):
        labels = value.spec.selector.match_labels if value.spec.selector else {}
    else:
        return ()
    targets = value.spec.target_refs
    if (
        isinstance(value, WasmPlugin | RequestAuthentication | AuthorizationPolicy)
        and value.spec.target_ref is not None
    ):
        targets = (*targets, value.spec.target_ref)
    if targets:
        return tuple(_targets(targets, key.namespace, root=root))
    return (Attachment(namespace, tuple(sorted(labels.items()))),)


def _targets(targets: Iterable[PolicyTargetReference], namespace: str, *, root: bool) -> Iterator[Attachment]:
    # Services and ServiceEntries are targets at waypoints only, and there are none here.
    for target in targets:
        if (target.group, target.kind) == (GATEWAY_API, "Gateway"):
            yield Attachment(namespace, ((GATEWAY_NAME_LABEL, target.name),))
        elif (target.group, target.kind) == (GATEWAY_API, "GatewayClass") and root:
            yield Attachment("", ((GATEWAY_CLASS_LABEL, target.name),))


def is_attached(db: Engine, key: ObjectKey, client: ClientTraits) -> bool:
    """Whether an object is for a proxy. Ask with traits projected on `attachment_scope` at least."""
    return any(attachment.covers(client) for attachment in attachments(db, key))


@query
def proxy_facts(db: Engine, key: ObjectKey) -> ProxyFacts:
    """What the patches of one object ask of a proxy's own words."""
    value = objects(db, key)
    patches = value.spec.config_patches if isinstance(value, EnvoyFilter) else ()
    proxies = [patch.match.proxy for patch in patches if patch.match and patch.match.proxy]
    return ProxyFacts(
        any(proxy.proxy_version for proxy in proxies),
        frozenset(pair for proxy in proxies for pair in proxy.metadata.items()),
    )


@query
def attachment_scope(db: Engine, key: ObjectKey) -> Scope:
    """What tells clients apart for what one object changes."""
    found = attachments(db, key)
    facts = proxy_facts(db, key)
    return Scope(
        proxy_type=True,
        namespaces=frozenset(attachment.namespace for attachment in found if attachment.namespace),
        labels=frozenset(pair for attachment in found for pair in attachment.labels),
        version=facts.version,
        metadata=facts.metadata,
    )


@query
def order(db: Engine, key: ObjectKey) -> tuple[bool, int, str, str, str]:
    """By this objects are applied: the root namespace first, then by priority, by age, by name."""
    value = objects(db, key)
    priority = value.spec.priority if isinstance(value, EnvoyFilter) else 0
    return (key.namespace != root_namespace(db), priority, age(db, key), key.name, key.namespace)


@query
def attached_scope(db: Engine, namespace: str) -> Scope:
    """What tells the proxies of one namespace apart for all objects that may be for them."""
    scope = Scope()
    for place in {namespace, root_namespace(db)}:
        for key in attached_in(db, place):
            scope |= attachment_scope(db, key)
    return scope


@query
def asked_of_nodes(db: Engine) -> ProxyFacts:
    """What some object of the mesh asks of what proxies say of themselves."""
    found = [proxy_facts(db, key) for key in by_kind(db, "EnvoyFilter")]
    return ProxyFacts(any(facts.version for facts in found), frozenset().union(*(facts.metadata for facts in found)))
