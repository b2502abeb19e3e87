"""Who may do what: role-based access control. What no rule allows is refused. Pure over the objects as they are.

    (User, Attributes) -> bindings of the cluster, then of the namespace -> roles -> rules -> Decision

See https://kubernetes.io/docs/reference/access-authn-authz/rbac/.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from ostria.base import selectors
from ostria.base.yaml import Document as YamlDocument
from ostria.base.yaml import read_documents
from ostria.kubeapi.errors import StatusError, forbidden
from ostria.kubeapi.fields import mapping, objects
from ostria.kubeapi.kinds import RBAC
from ostria.kubeapi.requests import Attributes, Document, Reader, ResourceKey, User

MASTERS = "system:masters"
"""The group that may do everything, whatever the roles say."""
ROLES = ResourceKey(RBAC, "roles")
ROLE_BINDINGS = ResourceKey(RBAC, "rolebindings")
CLUSTER_ROLES = ResourceKey(RBAC, "clusterroles")
CLUSTER_ROLE_BINDINGS = ResourceKey(RBAC, "clusterrolebindings")
_ACCOUNT = "system:serviceaccount:"


class Decision(NamedTuple):
    """Whether something is allowed, and by what."""

    allowed: bool
    reason: str = ""


class Granted(NamedTuple):
    """A rule that holds for somebody, and the words that say which binding brought it."""

    rule: Document
    reason: str


class Authorizer:
    """Reads roles and bindings at each question: a change counts at once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def decide(self, user: User, about: Attributes) -> Decision:
        """Whether a user may."""
        if MASTERS in user.groups:
            return Decision(allowed=True)
        for rule, reason in self.granted(user, about.namespace):
            if covers(rule, about):
                return Decision(allowed=True, reason=reason)
        return Decision(allowed=False)

    def granted(self, user: User, namespace: str) -> Iterator[Granted]:
        """All rules that hold for a user in a namespace, or (namespace "") for the whole cluster."""
        for binding in self._reader.list(CLUSTER_ROLE_BINDINGS):
            yield from self._of_binding(user, binding, "")
        if namespace:
            for binding in self._reader.list(ROLE_BINDINGS, namespace):
                yield from self._of_binding(user, binding, namespace)

    def rules_of(self, kind: str, name: str, namespace: str) -> Sequence[Document]:
        """A role's rules; none if there is no such role."""
        key, where = (ROLES, namespace) if kind == "Role" else (CLUSTER_ROLES, "")
        role = self._reader.get(key, where, name)
        return self.rules_in(role) if role is not None else ()

    def rules_in(self, role: Document, above: frozenset[str] = frozenset()) -> Sequence[Document]:
        """The rules of a role; an aggregated ClusterRole has those of the roles that it selects, `above` left out."""
        rules = list(objects(role, "rules"))
        wanted = [
            selectors.of_expressions(each.get("matchLabels") or {}, _expressions(each))
            for each in objects(role, "aggregationRule", "clusterRoleSelectors")
        ]
        if wanted:
            # Roles may select each other: each is counted once on the way down.
            above |= {role["metadata"]["name"]}
            for part in self._reader.list(CLUSTER_ROLES):
                labels = part["metadata"].get("labels") or {}
                if part["metadata"]["name"] not in above and any(each.matches(labels) for each in wanted):
                    rules += self.rules_in(part, above)
        return rules

    def lacks(self, user: User, namespace: str, rules: Iterable[Document]) -> Document | None:
        """The first part of some rules that a user does not have themselves, as a rule; None if they have all."""
        if MASTERS in user.groups:
            return None
        held = [rule for rule, _ in self.granted(user, namespace)]
        for wanted in map(_pieces, rules):
            for piece in wanted:
                if not any(_contains(rule, piece) for rule in held):
                    return piece
        return None

    def _of_binding(self, user: User, binding: Document, namespace: str) -> Iterator[Granted]:
        subject = next((each for each in objects(binding, "subjects") if _is(user, each, namespace)), None)
        if subject is None:
            return
        reference = mapping(binding, "roleRef")
        kind, role, name = reference.get("kind", ""), reference.get("name", ""), binding["metadata"]["name"]
        what, which = ("RoleBinding", f"{name}/{namespace}") if namespace else ("ClusterRoleBinding", name)
        reason = f'RBAC: allowed by {what} "{which}" of {kind} "{role}" to {subject.get("kind")} "{_shown(subject)}"'
        for rule in self.rules_of(kind, role, namespace):
            yield Granted(rule, reason)


def refused(user: User, about: Attributes) -> StatusError:
    """The answer to who may not."""
    if about.path:
        return forbidden(f'forbidden: User "{user.name}" cannot {about.verb} path "{about.path}"')
    what = f"{about.resource}.{about.group}" if about.group else about.resource
    name = f' "{about.name}"' if about.name else ""
    resource = f"{about.resource}/{about.subresource}" if about.subresource else about.resource
    where = f'in the namespace "{about.namespace}"' if about.namespace else "at the cluster scope"
    told = f'cannot {about.verb} resource "{resource}" in API group "{about.group}" {where}'
    return forbidden(f'{what}{name} is forbidden: User "{user.name}" {told}', about.resource, about.name, about.group)


def covers(rule: Document, about: Attributes) -> bool:
    """Whether one rule allows what is asked."""
    if not _holds(rule.get("verbs"), about.verb):
        return False
    if about.path:
        return any(_path_holds(each, about.path) for each in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames") or ()
    return (
        _holds(rule.get("apiGroups"), about.group)
        and _resource_holds(rule.get("resources") or (), about.resource, about.subresource)
        and (not names or about.name in names)
    )


def bootstrap() -> Sequence[Document]:
    """The roles and bindings that are there from the start, as manifests. Whoever changes them keeps their changes."""
    text = importlib.resources.files("ostria.kubeapi").joinpath("bootstrap_roles.yaml").read_text()
    found = read_documents(text, "bootstrap_roles.yaml")
    return [each.value for each in found if isinstance(each, YamlDocument)]


def _holds(listed: Sequence[str] | None, word: str) -> bool:
    return listed is not None and ("*" in listed or word in listed)


def _resource_holds(listed: Sequence[str], resource: str, subresource: str) -> bool:
    if "*" in listed:
        return True
    if not subresource:
        return resource in listed
    return f"{resource}/{subresource}" in listed or f"*/{subresource}" in listed


def _path_holds(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


def _is(user: User, subject: Document, namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "ServiceAccount":
        return user.name == f"{_ACCOUNT}{subject.get('namespace') or namespace}:{name}"
    return name == user.name if kind == "User" else kind == "Group" and name in user.groups


def _shown(subject: Document) -> str:
    name = str(subject.get("name"))
    return f"{name}/{subject.get('namespace')}" if subject.get("kind") == "ServiceAccount" else name


def _expressions(selector: Document) -> list[tuple[str, str, Sequence[str]]]:
    return [(each["key"], each["operator"], each.get("values") or ()) for each in objects(selector, "matchExpressions")]


def _pieces(rule: Document) -> Iterator[Document]:
    """A rule as rules that allow one thing each."""
    verbs = rule.get("verbs") or ()
    for verb, path in product(verbs, rule.get("nonResourceURLs") or ()):
        yield {"verbs": [verb], "nonResourceURLs": [path]}
    names = [[name] for name in rule.get("resourceNames") or ()] or [[]]
    for verb, group, resource, name in product(verbs, rule.get("apiGroups") or (), rule.get("resources") or (), names):
        piece: Document = {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
        yield {**piece, "resourceNames": name} if name else piece


def _contains(rule: Document, piece: Document) -> bool:
    """Whether a rule allows all that a piece of another allows."""
    if not _holds(rule.get("verbs"), piece["verbs"][0]):
        return False
    if "nonResourceURLs" in piece:
        (path,) = piece["nonResourceURLs"]
        return any(_path_holds(each, path) for each in rule.get("nonResourceURLs") or ())
    resource, _, subresource = piece["resources"][0].partition("/")
    names = rule.get("resourceNames") or ()
    return (
        _holds(rule.get("apiGroups"), piece["apiGroups"][0])
        and _resource_holds(rule.get("resources") or (), resource, subresource)
        and (not names or set(piece.get("resourceNames") or ("",)) <= set(names))
    )
