"""Who may do what with a workload: AuthorizationPolicy, read into tests, for the workloads that each is for.

    AuthorizationPolicy -> policy(object)
    attachments -> chosen(namespace, labels) -> authorization(namespace, labels)
    MeshConfig.extensionProviders -> authorizer(name, namespace)

Root policies are chosen once for all namespaces, so that one of them costs what it selects. An edit that changes no
selector runs nothing but for the workloads that have the policy.

What a policy that Envoy refuses would have guarded is not left open: nobody gets in by it, and where it was to deny or
to ask somebody, nobody gets in at all, until it is mended or taken away.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.attachments import attachments
from ostria.mesh.authorizers import authorizer
from ostria.mesh.model import Labels
from ostria.mesh.model.authorization import (
    OPEN,
    AccessPolicy,
    AccessRule,
    AccessTest,
    Action,
    Attribute,
    Authorization,
)
from ostria.mesh.settings import root_namespace, trust_domains
from ostria.mesh.traits import ClientTraits, Scope
from ostria.resources import Object, objects
from ostria.resources import authorization_policy as api
from ostria.resources.store import withdrawn


def _in_namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, api.AuthorizationPolicy):
        yield key.namespace


policies_in: Index[ObjectKey, Object, str] = Index("mesh.authorization.policies_in", objects, _in_namespace)
refused_in: Index[ObjectKey, Object, str] = Index("mesh.authorization.refused_in", withdrawn, _in_namespace)


# --- for whom -----------------------------------------------------------------------------------------------------


def _all_in(db: Engine, place: str) -> set[ObjectKey]:
    return {*policies_in(db, place), *refused_in(db, place)}


@query
def _pairs_in(db: Engine, place: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which the policies of one namespace choose workloads."""
    return frozenset(
        pair for key in _all_in(db, place) for attachment in attachments(db, key) for pair in attachment.labels
    )


@query
def authorization_scope(db: Engine, namespace: str) -> Scope:
    """What tells the workloads of one namespace apart."""
    labels = _pairs_in(db, namespace) | _pairs_in(db, root_namespace(db))
    return Scope(namespaces=frozenset({namespace}), labels=labels)


@query
def chosen(db: Engine, place: str, namespace: str, labels: Labels) -> tuple[ObjectKey, ...]:
    """The policies of one namespace, `place`, for workloads with these labels; `namespace` "" is any other one."""
    workload = ClientTraits(namespace=namespace, labels=labels)
    return tuple(
        sorted(
            key for key in _all_in(db, place) if any(attachment.covers(workload) for attachment in attachments(db, key))
        )
    )


@query
def authorization(db: Engine, namespace: str, labels: Labels) -> Authorization:
    """What is said of the workloads with these labels. Ask with labels projected on `authorization_scope`."""
    root = root_namespace(db)
    keys: list[ObjectKey] = []
    for place in dict.fromkeys((root, namespace)):
        pairs = _pairs_in(db, place)
        seen = tuple(pair for pair in labels if pair in pairs)
        keys += chosen(db, place, place if place == namespace else "", seen)
    if not keys:
        return OPEN
    by_action: dict[Action, list[AccessPolicy]] = {action: [] for action in Action}
    for key in keys:
        found = policy(db, key)
        if found is not None:
            by_action[found.action].append(found)
    custom = tuple(each for each in by_action[Action.CUSTOM] if not each.on_trial)
    return Authorization(
        custom=custom,
        audit=tuple(by_action[Action.AUDIT]),
        deny=tuple(by_action[Action.DENY]),
        allow=tuple(by_action[Action.ALLOW]),
        authorizers=tuple(authorizer(db, name, namespace) for name in sorted({each.provider for each in custom})),
    )


def authorization_of(db: Engine, client: ClientTraits) -> Authorization:
    """What is said of the workload behind a proxy, shared by all that nothing tells apart."""
    seen = authorization_scope(db, client.namespace).project(client)
    return authorization(db, client.namespace, seen.labels)


# --- what is said -------------------------------------------------------------------------------------------------


@query
def policy(db: Engine, key: ObjectKey) -> AccessPolicy | None:
    """What one object says, the trust domains of its principals with their aliases."""
    value = objects(db, key)
    if not isinstance(value, api.AuthorizationPolicy):
        return _in_place_of(key, withdrawn(db, key))
    spec = value.spec
    reader = _Reader(key.namespace, trust_domains(db))
    return AccessPolicy(
        origin=key,
        action=Action(spec.action),
        rules=tuple(reader.rule(rule) for rule in spec.rules),
        on_trial=value.metadata.annotations.get(api.DRY_RUN) in _TRUE,
        provider=spec.provider.name if spec.provider else "",
    )


def _in_place_of(key: ObjectKey, refused: Object | None) -> AccessPolicy | None:
    """What stands for a policy that Envoy has refused, where none of its earlier contents does."""
    if not isinstance(refused, api.AuthorizationPolicy) or refused.metadata.annotations.get(api.DRY_RUN) in _TRUE:
        return None
    action = Action(refused.spec.action)
    if action is Action.AUDIT:
        return None
    if action is Action.ALLOW:
        return AccessPolicy(key, Action.ALLOW)
    return AccessPolicy(key, Action.DENY, (AccessRule(),))


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_OF_OPERATION = {
    "destination.ip": Attribute.DESTINATION,
    "destination.port": Attribute.PORT,
    "connection.sni": Attribute.SERVER_NAME,
}
_OF_SOURCE = {
    "source.ip": Attribute.ADDRESS,
    "remote.ip": Attribute.ORIGINAL_ADDRESS,
    "source.namespace": Attribute.NAMESPACE,
    "source.principal": Attribute.PRINCIPAL,
    "source.serviceAccount": Attribute.ACCOUNT,
    "source.trustDomain": Attribute.TRUST_DOMAIN,
    "request.auth.principal": Attribute.REQUEST_PRINCIPAL,
    "request.auth.audiences": Attribute.AUDIENCES,
    "request.auth.presenter": Attribute.PRESENTER,
}
_NAMED = {"request.headers": Attribute.HEADER, "request.auth.claims": Attribute.CLAIM}
_METADATA = "experimental."
# A principal that does not spell a trust domain of its own means the mesh's by this name.
_LOCAL = "cluster.local"


class _Reader:
    """What one policy's words mean: accounts are of its namespace, trust domains have aliases."""

    def __init__(self, namespace: str, domains: tuple[str, ...]) -> None:
        self.namespace = namespace
        self.domains = domains

    def rule(self, rule: api.Rule) -> AccessRule:
        """One rule; its conditions hold beside each source and each operation."""
        of_source: list[AccessTest] = []
        of_operation: list[AccessTest] = []
        for condition in rule.when:
            test = self._condition(condition)
            (of_operation if test.attribute in _AT_OPERATION else of_source).append(test)
        sources = [self._source(each.source or api.Source()) for each in rule.from_] or [[]]
        operations = [self._operation(each.operation or api.Operation()) for each in rule.to] or [[]]
        return AccessRule(
            sources=tuple((*tests, *of_source) for tests in sources),
            operations=tuple((*tests, *of_operation) for tests in operations),
        )

    def _source(self, source: api.Source) -> list[AccessTest]:
        return self._written(
            (Attribute.PRINCIPAL, source.principals, source.not_principals),
            (Attribute.REQUEST_PRINCIPAL, source.request_principals, source.not_request_principals),
            (Attribute.ACCOUNT, source.service_accounts, source.not_service_accounts),
            (Attribute.NAMESPACE, source.namespaces, source.not_namespaces),
            (Attribute.TRUST_DOMAIN, source.trust_domains, source.not_trust_domains),
            (Attribute.ORIGINAL_ADDRESS, source.remote_ip_blocks, source.not_remote_ip_blocks),
            (Attribute.ADDRESS, source.ip_blocks, source.not_ip_blocks),
        )

    def _operation(self, operation: api.Operation) -> list[AccessTest]:
        return self._written(
            (Attribute.HOST, operation.hosts, operation.not_hosts),
            (Attribute.METHOD, operation.methods, operation.not_methods),
            (Attribute.PATH, operation.paths, operation.not_paths),
            (Attribute.PORT, operation.ports, operation.not_ports),
        )

    def _written(self, *fields: tuple[Attribute, tuple[str, ...], tuple[str, ...]]) -> list[AccessTest]:
        return [
            AccessTest(attribute, self._values(attribute, values), self._values(attribute, others))
            for attribute, values, others in fields
            if values or others
        ]

    def _condition(self, condition: api.Condition) -> AccessTest:
        key = condition.key
        attribute = _OF_OPERATION.get(key) or _OF_SOURCE.get(key)
        name: tuple[str, ...] = ()
        if attribute is None:
            prefix, _, names = key.partition("[")
            name = tuple(names.removesuffix("]").split("]["))
            if prefix.startswith(_METADATA):
                attribute, name = Attribute.METADATA, (prefix.removeprefix(_METADATA), *name)
            else:
                attribute = _NAMED[prefix]
        values, others = self._values(attribute, condition.values), self._values(attribute, condition.not_values)
        return AccessTest(attribute, values, others, name)

    def _values(self, attribute: Attribute, values: tuple[str, ...]) -> tuple[str, ...]:
        if attribute is Attribute.PRINCIPAL:
            return tuple(dict.fromkeys(each for value in values for each in self._principals(value)))
        if attribute is Attribute.ACCOUNT:
            return tuple(value if "/" in value else f"{self.namespace}/{value}" for value in values)
        if attribute is Attribute.TRUST_DOMAIN:
            spread = (self.domains if value in self.domains else (value,) for value in values)
            return tuple(dict.fromkeys(each for group in spread for each in group))
        return values

    def _principals(self, value: str) -> tuple[str, ...]:
        """A principal under each name of its trust domain, where that is one of the mesh's."""
        domain, slash, rest = value.partition("/")
        if not slash or rest.count("/") != 3 or domain == "*":
            return (value,)
        if domain != _LOCAL and not any(_is_meant(domain, own) for own in self.domains):
            return (value,)
        return tuple(value if _has_suffix(domain, own) else f"{own}/{rest}" for own in self.domains)


_AT_OPERATION = frozenset({*_OF_OPERATION.values(), Attribute.METADATA})


def _is_meant(pattern: str, domain: str) -> bool:
    prefix = pattern.endswith("*") and domain.startswith(pattern[:-1])
    return pattern == domain or prefix or _has_suffix(pattern, domain)


def _has_suffix(pattern: str, domain: str) -> bool:
    return pattern.startswith("*") and domain.endswith(pattern[1:])
