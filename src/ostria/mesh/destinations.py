"""How a destination is called: the DestinationRules that a client's namespace sees, merged and resolved per port.

    DestinationRule -> rules_for(host) -> chosen(host, client namespace) -> destination, traffic_policy

Which rule counts (istio.io: DestinationRule, Traffic Management Best Practices): one in the client's own namespace,
else one in the service's, else one in the root namespace; within a namespace the most specific host; rules for the
same host in the same namespace are merged, the oldest one's policy first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.backend_tls import REFUSED_CREDENTIAL, backend_tls
from ostria.mesh.localities import NEAR
from ostria.mesh.model import (
    ClientTls,
    ConnectionPool,
    Destination,
    HashKey,
    Labels,
    LoadBalancing,
    LocalityBalancing,
    Nearness,
    Subset,
    TlsMode,
    TrafficPolicy,
)
from ostria.mesh.services import (
    DISTRIBUTION_ANNOTATION,
    age,
    declarations,
    is_visible,
    reference,
    references_to,
    service,
    visibility,
    wildcards_over,
)
from ostria.mesh.settings import (
    auto_mtls,
    default_export_to,
    mesh_config,
    mesh_handshakes,
    other_handshakes,
    root_namespace,
)
from ostria.mesh.traffic_policies import (
    balancing_of,
    budget_of,
    client_tls,
    locality_of,
    outliers_of,
    pool_of,
    tunnel_of,
    warmup_of,
)
from ostria.mesh.traffic_policies import milliseconds as milliseconds
from ostria.mesh.traits import Scope
from ostria.resources import Object, by_kind, objects, withdrawn
from ostria.resources import destination_rule as api
from ostria.resources.kubernetes import Service as KubernetesService
from ostria.resources.service_entry import ServiceEntry


def _by_host(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, api.DestinationRule):
        yield reference(value.spec.host, key.namespace)


NO_TLS_THAT_HOLDS = ClientTls(TlsMode.SIMPLE, credential=REFUSED_CREDENTIAL)
"""TLS that trusts nobody: a connection by it fails before anything is sent."""

DEFAULT_CONNECT_TIMEOUT = 10_000  # In ms; MeshConfig.connectTimeout.


def _distributed(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService | ServiceEntry) and (
        DISTRIBUTION_ANNOTATION in value.metadata.annotations
        or (isinstance(value, KubernetesService) and value.spec.traffic_distribution)
    ):
        yield ""


def _selecting(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, api.DestinationRule) and value.spec.workload_selector:
        yield key.namespace


naming = Index("mesh.destinations.naming", objects, _by_host)
refused_naming = Index("mesh.destinations.refused_naming", withdrawn, _by_host)
distributed = Index("mesh.destinations.distributed", objects, _distributed)
rules_in = Index("mesh.destinations.selecting_in", objects, _selecting)


@query
def wildcard_rules(db: Engine, parent: str) -> tuple[tuple[ObjectKey, ...], ...]:
    """The rules for all hosts under a domain, the most specific first: one query, since every host under it asks."""
    groups = (naming(db, wildcard) for wildcard in wildcards_over(f"*.{parent}" if parent else "*"))
    return tuple(group for group in groups if group)


@query(few=True)
def destination_told_apart(db: Engine, host: str) -> Scope:
    """What tells clients apart in how they treat a host, and in which of its endpoints they take first."""
    interest = locality_interest(db, host)
    return Scope(
        namespaces=destination_scope(db, host),
        labels=destination_labels(db, host),
        label_keys=interest.keys,
        locality=interest.matters,
        node=interest.node,
    )


@query
def rules_for(db: Engine, host: str) -> tuple[tuple[ObjectKey, ...], ...]:
    """The rules that could apply to a host, in groups of one host name, the most specific first."""
    exact = tuple(key for form in references_to(db, host) for key in naming(db, form))
    wide = wildcard_rules(db, host.partition(".")[2])
    # A wildcard host is under itself.
    return (exact, *(group for group in wide if group != exact)) if exact else wide


@query(few=True)
def destination_scope(db: Engine, host: str) -> frozenset[str]:
    """The client namespaces that may be told another destination than the rest for a host."""
    found = frozenset(key.namespace for group in rules_for(db, host) for key in group)
    exported = frozenset(
        namespace for group in rules_for(db, host) for key in group for namespace in _visible_in(db, key) - {"*"}
    )
    return found | exported


def _rule(db: Engine, key: ObjectKey) -> api.DestinationRule:
    value = objects(db, key)
    assert isinstance(value, api.DestinationRule), key
    return value


def _visible_in(db: Engine, key: ObjectKey) -> frozenset[str]:
    rule = _rule(db, key)
    if rule.spec.workload_selector and not rule.spec.export_to:
        return frozenset({key.namespace})
    return visibility(rule.spec.export_to or default_export_to(db, "DestinationRule"), key.namespace)


def seen_from(db: Engine, key: ObjectKey, namespace: str) -> bool:
    """Whether one rule says something to clients of a namespace."""
    return key.namespace == namespace or is_visible(_visible_in(db, key), namespace)


def client_tls_settings(spec: api.DestinationRuleSpec) -> Iterator[api.ClientTLSSettings]:
    """The TLS of every part of a rule."""
    policies = [policy for policy in (spec.traffic_policy, *(each.traffic_policy for each in spec.subsets)) if policy]
    parts: list[api.TrafficPolicy | api.PortTrafficPolicy] = [*policies]
    parts += [setting for policy in policies for setting in policy.port_level_settings]
    for part in parts:
        if part.tls is not None:
            yield part.tls


@query
def names_credentials(db: Engine, host: str) -> bool:
    """Whether a rule for a host names a credential, which sidecars and gateways take differently."""
    rules = (_rule(db, key) for group in rules_for(db, host) for key in group)
    return any(tls.credential_name for rule in rules for tls in client_tls_settings(rule.spec))


@query
def selector_of(db: Engine, key: ObjectKey) -> Labels:
    """The labels of the workloads whose calls one rule is for; () is all that see it."""
    selector = _rule(db, key).spec.workload_selector
    return tuple(sorted(selector.match_labels.items())) if selector else ()


@query
def rule_labels(db: Engine, namespace: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which the rules of a namespace choose its workloads."""
    return frozenset(pair for key in rules_in(db, namespace) for pair in selector_of(db, key))


@query(few=True)
def destination_labels(db: Engine, host: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which rules for a host choose the workloads that call it."""
    return frozenset(pair for group in rules_for(db, host) for key in group for pair in selector_of(db, key))


@query
def chosen(db: Engine, host: str, namespace: str, labels: Labels = ()) -> tuple[ObjectKey, ...]:
    """The rules that decide for a client in `namespace` ("" is none in particular), the oldest first.

    A rule that selects workloads goes before those that do not, for those workloads; there is one then, the oldest.
    """
    groups = rules_for(db, host)
    if not groups:
        return ()
    found = service(db, host, namespace)
    root = root_namespace(db)
    places = [namespace] if namespace and namespace != root else []
    places += [found.namespace] if found else []
    places += [root]
    for place in places:
        for group in groups:
            keys = [
                key
                for key in group
                if key.namespace == place and (place == namespace or is_visible(_visible_in(db, key), namespace))
            ]
            keys.sort(key=lambda key: (age(db, key), key))
            general = tuple(key for key in keys if _rule(db, key).spec.workload_selector is None)
            own = [key for key in keys if key not in general and namespace == key.namespace]
            own = [key for key in own if all(pair in labels for pair in selector_of(db, key))]
            if own or general:
                return tuple(own[:1]) or general
    return ()


@query(few=True)
def destination(db: Engine, host: str, namespace: str, labels: Labels = ()) -> Destination:
    """The subsets of a host as a client in `namespace` knows them; the oldest rule wins a name."""
    keys = chosen(db, host, namespace, labels)
    subsets: dict[str, Subset] = {}
    for key in keys:
        for subset in _rule(db, key).spec.subsets:
            subsets.setdefault(subset.name, Subset(subset.name, tuple(sorted(subset.labels.items()))))
    return Destination(tuple(subsets.values()), frozenset(keys))


# --- what it says -------------------------------------------------------------------------------------------------

_OF_A_PORT = ("load_balancer", "connection_pool", "outlier_detection", "tls")
_OF_A_POLICY = (*_OF_A_PORT, "tunnel", "proxy_protocol", "retry_budget")


@query
def traffic_policy(db: Engine, host: str, namespace: str, port: int, subset: str, labels: Labels = ()) -> TrafficPolicy:
    """How a client in `namespace` treats one port of a host or of its subset.

    A subset's settings replace the host's, group by group; those of a port replace both, and what they leave out is
    the default (istio.io: PortTrafficPolicy).
    """
    rules = [_rule(db, key) for key in chosen(db, host, namespace, labels)]
    groups = _groups(rules, port, subset)
    found = service(db, host, namespace)
    policy = _policy(db, groups, found.nearness if found else Nearness.ANY)
    if policy.tls.credential and any(rule.spec.workload_selector for rule in rules):
        policy = policy._replace(tls=policy.tls._replace(selected=True))
    refused = _refused_tls(db, host, namespace, port, subset, labels)
    if refused is not None and policy.tls.mode in (TlsMode.AUTO, TlsMode.DISABLE):
        policy = policy._replace(tls=refused)
        groups["tls"] = refused
    if "load_balancer" not in groups and found and found.affinity:
        # kubernetes.io, sessionAffinity: a client keeps to an endpoint for as long as there are the same ones.
        policy = policy._replace(balancing=LoadBalancing.RING_HASH, hash_key=HashKey("source_ip"))
    if groups.get("tls") is not None:
        return policy
    # What a DestinationRule leaves open the service's own namespace may have said (Gateway API, BackendTLSPolicy).
    described = found.port(port) if found else None
    asked = backend_tls(db, found.origin, described.name) if found and described else None
    return policy._replace(tls=_with_handshakes(db, asked)) if asked else policy


def _groups(rules: list[api.DestinationRule], port: int, subset: str) -> dict[str, Any]:
    """The settings that count for one port of a host or of its subset, by their names."""
    general = next((rule.spec.traffic_policy for rule in rules if rule.spec.traffic_policy), None)
    special = next((each.traffic_policy for rule in rules for each in rule.spec.subsets if each.name == subset), None)
    groups: dict[str, Any] = {}
    for layer in (general, special):
        if layer is None:
            continue
        groups |= {name: group for name in _OF_A_POLICY if (group := getattr(layer, name)) is not None}
        of_port = (each for each in layer.port_level_settings if each.port and each.port.number == port)
        for setting in of_port:
            groups |= {name: getattr(setting, name) for name in _OF_A_PORT}
            break
    return groups


def _refused_tls(db: Engine, host: str, namespace: str, port: int, subset: str, labels: Labels) -> ClientTls | None:
    """What stands in for the TLS of a rule that Envoy has refused: what asked for TLS never goes out as plaintext.

    The mesh's own TLS is spoken as it was asked for; to others nothing is sent until the rule is mended.
    """
    for key in _refused_for(db, host):
        value = withdrawn(db, key)
        if not isinstance(value, api.DestinationRule):
            continue
        selector = value.spec.workload_selector
        concerned = all(pair in labels for pair in selector.match_labels.items()) if selector else True
        tls: api.ClientTLSSettings | None = _groups([value], port, subset).get("tls")
        if tls is None or not concerned or tls.mode == "DISABLE":
            continue
        exported = visibility(value.spec.export_to or default_export_to(db, "DestinationRule"), key.namespace)
        if key.namespace == namespace or is_visible(exported, namespace):
            return ClientTls(TlsMode.ISTIO_MUTUAL) if tls.mode == "ISTIO_MUTUAL" else NO_TLS_THAT_HOLDS
    return None


def _refused_for(db: Engine, host: str) -> Iterator[ObjectKey]:
    """The rules for a host that Envoy has refused."""
    for form in references_to(db, host):
        yield from refused_naming(db, form)
    yield from _refused_wildcards(db, host.partition(".")[2])


@query
def _refused_wildcards(db: Engine, parent: str) -> tuple[ObjectKey, ...]:
    """The refused rules for all hosts under a domain: one query, since every host under it asks."""
    wildcards = wildcards_over(f"*.{parent}" if parent else "*")
    return tuple(key for wildcard in wildcards for key in refused_naming(db, wildcard))


@query
def locality_policy(
    db: Engine, host: str, namespace: str, port: int, subset: str, labels: Labels = ()
) -> LocalityBalancing | None:
    """What a client's locality means here; a query of its own, since of all a policy only this concerns endpoints."""
    return traffic_policy(db, host, namespace, port, subset, labels).locality


def _policy(db: Engine, groups: Mapping[str, Any], near: Nearness) -> TrafficPolicy:
    balancer: api.LoadBalancerSettings | None = groups.get("load_balancer")
    tls: api.ClientTLSSettings | None = groups.get("tls")
    forwarding: api.ProxyProtocol | None = groups.get("proxy_protocol")
    balancing, hash_key, ring_size, table_size = balancing_of(balancer)
    outliers = outliers_of(groups.get("outlier_detection"))
    own = balancer.locality_lb_setting if balancer else None
    locality = locality_of(own) if own else mesh_locality(db)
    if own is None and near is not Nearness.ANY:
        locality = NEAR[near]
    elif locality and not locality.distribute and outliers is None:
        # Nobody falls over from endpoints of which nobody finds out that they fail.
        locality = None
    unspecified = TlsMode.AUTO if auto_mtls(db) else TlsMode.DISABLE
    return TrafficPolicy(
        balancing=balancing,
        hash_key=hash_key,
        ring_size=ring_size,
        table_size=table_size,
        warmup=warmup_of(balancer),
        pool=_with_defaults(db, pool_of(groups.get("connection_pool"))),
        outliers=outliers,
        tls=_with_handshakes(db, client_tls(tls) if tls else ClientTls(unspecified)),
        locality=locality,
        retry_budget=budget_of(groups.get("retry_budget")),
        proxy_protocol=forwarding.version if forwarding else "",
        tunnel=tunnel_of(groups.get("tunnel")),
    )


def _with_handshakes(db: Engine, tls: ClientTls) -> ClientTls:
    own = tls.mode in (TlsMode.AUTO, TlsMode.ISTIO_MUTUAL)
    return tls._replace(handshakes=mesh_handshakes(db) if own else other_handshakes(db))


@query
def mesh_locality(db: Engine) -> LocalityBalancing | None:
    """What a client's locality means where no rule says anything of it."""
    return locality_of(mesh_config(db).locality_lb_setting)


@query
def _pool_defaults(db: Engine) -> ConnectionPool:
    """What MeshConfig says of all connections; what is Istio's default anyway is left out."""
    config = mesh_config(db)
    pool = pool_of(api.ConnectionPoolSettings(tcp=api.TCPSettings(tcp_keepalive=config.tcp_keepalive)))
    timeout = milliseconds(config.connect_timeout)
    return pool._replace(
        connect_timeout=None if timeout == DEFAULT_CONNECT_TIMEOUT else timeout,
        h2_upgrade=True if config.h2_upgrade_policy == "UPGRADE" else None,
    )


def _with_defaults(db: Engine, pool: ConnectionPool) -> ConnectionPool:
    default = _pool_defaults(db)
    return pool._replace(
        connect_timeout=pool.connect_timeout if pool.connect_timeout is not None else default.connect_timeout,
        tcp_keepalive=pool.tcp_keepalive or default.tcp_keepalive,
        h2_upgrade=pool.h2_upgrade if pool.h2_upgrade is not None else default.h2_upgrade,
    )


# --- whose locality matters ---------------------------------------------------------------------------------------


class LocalityInterest(NamedTuple):
    """Whether clients in several localities are told different things, and the label keys that are compared.

    `node` says that clients on several nodes are, too.
    """

    matters: bool = False
    keys: frozenset[str] = frozenset()
    node: bool = False

    def __or__(self, other: object) -> LocalityInterest:
        assert isinstance(other, LocalityInterest)
        return LocalityInterest(self.matters or other.matters, self.keys | other.keys, self.node or other.node)


@query
def rule_interest(db: Engine, key: ObjectKey) -> LocalityInterest:
    """What one rule asks of its clients' localities: nothing, unless it distributes or finds out what fails."""
    spec = _rule(db, key).spec
    policies = [policy for policy in (spec.traffic_policy, *(each.traffic_policy for each in spec.subsets)) if policy]
    parts: list[api.TrafficPolicy | api.PortTrafficPolicy] = [*policies]
    parts += [setting for policy in policies for setting in policy.port_level_settings]
    found = LocalityInterest()
    for part in parts:
        setting = locality_of(part.load_balancer.locality_lb_setting) if part.load_balancer else None
        if part.outlier_detection or (setting and setting.distribute):
            found |= LocalityInterest(matters=True)
        if setting:
            found |= LocalityInterest(keys=frozenset(each.partition("=")[0] for each in setting.failover_priority))
    return found


@query
def _mesh_interest(db: Engine) -> LocalityInterest:
    setting = mesh_locality(db) or LocalityBalancing()
    keys = frozenset(each.partition("=")[0] for each in setting.failover_priority)
    return LocalityInterest(bool(setting.distribute), keys)


@query(few=True)
def locality_interest(db: Engine, host: str) -> LocalityInterest:
    """What the choice among the endpoints of a host asks of its clients' localities."""
    near = {declared.nearness for declared in declarations(db, host)} - {Nearness.ANY}
    found = _mesh_interest(db) | LocalityInterest(matters=bool(near), node=Nearness.NODE in near)
    for group in rules_for(db, host):
        for key in group:
            found |= rule_interest(db, key)
    return found if found.matters else LocalityInterest()


@query
def any_interest(db: Engine) -> LocalityInterest:
    """What any rule of the mesh asks of its clients' localities."""
    found = _mesh_interest(db) | LocalityInterest(matters=bool(distributed(db, "")))
    for key in by_kind(db, "DestinationRule"):
        found |= rule_interest(db, key)
    return found if found.matters else LocalityInterest()
