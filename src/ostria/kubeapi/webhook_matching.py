"""Which webhooks of which configurations want to see a request. Pure.

See https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ostria.base import selectors
from ostria.kubeapi.fields import mapping, objects
from ostria.kubeapi.kinds import ADMISSION, NAMESPACES
from ostria.kubeapi.requests import Document, Reader, Resource, ResourceKey

MUTATING = ResourceKey(ADMISSION, "mutatingwebhookconfigurations")
VALIDATING = ResourceKey(ADMISSION, "validatingwebhookconfigurations")


class Request(NamedTuple):
    """What is about to be written. `document` and `old` are as in a review: one of them may be None."""

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    document: Document | None
    old: Document | None


class Webhook(NamedTuple):
    """One webhook of a configuration; `resource` is what the request is about, in the version that it asks for."""

    configuration: str
    document: Document
    resource: Resource

    @property
    def name(self) -> str:
        """Its name, unique in its configuration."""
        return str(self.document["name"])


def wanting(kind: ResourceKey, request: Request, reader: Reader, versions: Sequence[Resource]) -> Iterator[Webhook]:
    """The webhooks of a kind of configuration that want the request, in the order in which they are asked.

    `versions` are all served versions of the request's resource, itself among them.
    """
    if request.resource.key in (MUTATING, VALIDATING):
        # A broken webhook must not keep its own configuration from being mended.
        return
    for configuration in reader.list(kind):
        for hook in objects(configuration, "webhooks"):
            found = _matched(hook, request, versions)
            if found is not None and _selected(hook, request, reader):
                yield Webhook(configuration["metadata"]["name"], hook, found)


def _matched(hook: Document, request: Request, versions: Sequence[Resource]) -> Resource | None:
    rules = objects(hook, "rules")
    if any(_rule_matches(rule, request, request.resource) for rule in rules):
        return request.resource
    if hook.get("matchPolicy") != "Exact":
        for other in versions:
            if any(_rule_matches(rule, request, other) for rule in rules):
                return other
    return None


def _rule_matches(rule: Document, request: Request, resource: Resource) -> bool:
    scope = rule.get("scope") or "*"
    # A Namespace is of the cluster, although requests for it have a namespace.
    if scope != "*" and scope != ("Namespaced" if resource.namespaced else "Cluster"):
        return False
    return (
        _holds(rule.get("operations") or (), request.operation)
        and _holds(rule.get("apiGroups") or (), resource.group)
        and _holds(rule.get("apiVersions") or (), resource.version)
        and any(_names(each, resource.plural, request.subresource) for each in rule.get("resources") or ())
    )


def _names(pattern: str, plural: str, subresource: str) -> bool:
    resource, _, part = pattern.partition("/")
    return resource in ("*", plural) and part in ("*", subresource)


def _holds(listed: Sequence[str], word: str) -> bool:
    return "*" in listed or word in listed


def _selected(hook: Document, request: Request, reader: Reader) -> bool:
    wanted = mapping(hook, "namespaceSelector")
    if wanted and not _matches(wanted, _namespace_labels(request, reader)):
        return False
    wanted = mapping(hook, "objectSelector")
    # Either state may be what the webhook guards.
    return not wanted or any(
        _matches(wanted, mapping(each, "metadata", "labels")) for each in (request.document, request.old) if each
    )


def _namespace_labels(request: Request, reader: Reader) -> Mapping[str, str] | None:
    """None for objects of the cluster, which no selector of namespaces leaves out."""
    if request.resource.key == NAMESPACES:
        return mapping(request.document or request.old, "metadata", "labels")
    if not request.resource.namespaced:
        return None
    return mapping(reader.get(NAMESPACES, "", request.namespace), "metadata", "labels")


def _matches(wanted: Document, labels: Mapping[str, str] | None) -> bool:
    if labels is None:
        return True
    expressions = [
        (each["key"], each["operator"], each.get("values") or ()) for each in objects(wanted, "matchExpressions")
    ]
    return selectors.of_expressions(mapping(wanted, "matchLabels"), expressions).matches(labels)
