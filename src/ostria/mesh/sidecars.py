"""Which Sidecar governs a proxy, and what the proxy knows by it.

    Sidecar -> sidecar_of(namespace, labels)            the trait by which its proxies differ from all others
    Sidecar -> egress_of(sidecar, namespace)            what it imports, listener by listener
    egress, Service, VirtualService -> known_hosts      the hosts that it knows, namespace by namespace

The first that counts (istio.io: Sidecar): one whose selector matches, the oldest; the namespace's own without a
selector; that of the root namespace. What is asked here is asked by what a Sidecar imports and not by its name, so
that an edit that imports the same again costs nothing; and where no Sidecar is, nothing here runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.base.hosts import is_wildcard
from ostria.engine import Engine, Index, query
from ostria.mesh.model import (
    EVERYTHING,
    Egress,
    Import,
    Labels,
    OutboundMode,
    OutboundPolicy,
)
from ostria.mesh.protocols import parse_protocol
from ostria.mesh.services import (
    age,
    canonical,
    declarations,
    in_namespace,
    service_namespaces,
    services_of,
)
from ostria.mesh.settings import outbound_mode, root_namespace
from ostria.mesh.virtual_services import MESH, Place, bound, cluster_of, named_destinations
from ostria.resources import Object, by_kind, objects
from ostria.resources import sidecar as api
from ostria.resources.virtual_service import VirtualService

HTTP_PROXY = "HTTP_PROXY"


def _in_namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, api.Sidecar):
        yield key.namespace


def _rules_in_namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, VirtualService) and (not value.spec.gateways or MESH in value.spec.gateways):
        yield key.namespace


sidecars_in = Index("mesh.sidecars.in_namespace", objects, _in_namespace)
rules_in = Index("mesh.sidecars.rules_in", objects, _rules_in_namespace)


def _spec(db: Engine, key: ObjectKey) -> api.SidecarSpec:
    value = objects(db, key)
    return value.spec if isinstance(value, api.Sidecar) else api.SidecarSpec()


# --- which one ----------------------------------------------------------------------------------------------------


@query
def selector_of(db: Engine, key: ObjectKey) -> Labels:
    """The labels of the workloads that one Sidecar is for; () is all of its namespace."""
    selector = _spec(db, key).workload_selector
    return tuple(sorted(selector.labels.items())) if selector else ()


@query
def _oldest_first(db: Engine, namespace: str) -> tuple[ObjectKey, ...]:
    return tuple(sorted(sidecars_in(db, namespace), key=lambda key: (age(db, key), key)))


@query
def sidecar_labels(db: Engine, namespace: str) -> frozenset[tuple[str, str]]:
    """The label pairs by which the Sidecars of a namespace choose workloads."""
    return frozenset(pair for key in _oldest_first(db, namespace) for pair in selector_of(db, key))


@query
def sidecar_of(db: Engine, namespace: str, labels: Labels) -> ObjectKey | None:
    """The Sidecar that governs the workloads of a namespace with these labels; None is that they know everything."""
    found = _oldest_first(db, namespace)
    for key in found:
        selector = selector_of(db, key)
        if selector and all(pair in labels for pair in selector):
            return key
    general = (key for key in (*found, *_oldest_first(db, root_namespace(db))) if not selector_of(db, key))
    return next(general, None)


# --- what it imports ----------------------------------------------------------------------------------------------


@query
def egress_of(db: Engine, sidecar: ObjectKey, namespace: str) -> tuple[Egress, ...]:
    """What a Sidecar lets workloads of a namespace know, in its order; without egress that is everything."""
    listeners = _spec(db, sidecar).egress
    return tuple(_egress(each, namespace) for each in listeners) or (EVERYTHING,)


def _egress(listener: api.EgressListener, namespace: str) -> Egress:
    imports: list[Import] = []
    excluded: list[Import] = []
    for text in listener.hosts:
        where, _, host = text.partition("/")
        plain = where.removeprefix("~")
        # "~/host" leaves a host out wherever it is declared, "~ns/host" that of one namespace.
        found = Import(namespace if plain == "." else plain or "*", host.lower())
        (excluded if where.startswith("~") else imports).append(found)
    port = listener.port or api.SidecarPort()
    return Egress(
        tuple(imports),
        tuple(excluded),
        port.number,
        parse_protocol(port.protocol),
        listener.bind,
        captured=listener.capture_mode != "NONE",
        proxied=port.protocol.upper() == HTTP_PROXY,
    )


@query
def egress_for(db: Engine, sidecar: ObjectKey, namespace: str, port: int) -> Egress | None:
    """What is known on one port: by the listener that names it, else by the one that names none, else nothing."""
    rest = None
    for each in egress_of(db, sidecar, namespace):
        if each.port == port and port:
            return each
        if each.takes_the_rest:
            rest = each
    return rest


def outbound_policy(db: Engine, sidecar: ObjectKey | None, namespace: str) -> OutboundPolicy:
    """What becomes of calls that a proxy knows nothing of: its Sidecar's word, else MeshConfig's."""
    return _policy(db, sidecar, namespace) if sidecar else OutboundPolicy(outbound_mode(db))


@query
def _policy(db: Engine, sidecar: ObjectKey, namespace: str) -> OutboundPolicy:
    own = _spec(db, sidecar).outbound_traffic_policy
    if own is None:
        return OutboundPolicy(outbound_mode(db))
    to, proxy = own.egress_proxy, None
    if to is not None:
        number = to.port.number if to.port else 0
        place = Place(MESH, number, namespace)
        proxy = cluster_of(db, canonical(db, to.host, namespace), number, to.subset, place)
    return OutboundPolicy(OutboundMode(own.mode.lower()), proxy)


@query
def _addresses_of(db: Engine, sidecar: ObjectKey) -> frozenset[str]:
    named = (egress.address for egress in egress_of(db, sidecar, "") if egress.names_all or egress.address)
    return frozenset(named)


@query
def bound_addresses(db: Engine) -> frozenset[str]:
    """The addresses on which any Sidecar has listeners of its own; "" is that connections are caught for any."""
    return frozenset().union(*(_addresses_of(db, key) for key in by_kind(db, "Sidecar")))


# --- what it knows by that ----------------------------------------------------------------------------------------


@query
def declared_in(db: Engine, namespace: str) -> frozenset[str]:
    """Every host that objects of a namespace declare."""
    return frozenset(found.host for key in in_namespace(db, namespace) for found in services_of(db, key))


@query
def known_in(db: Engine, egress: Egress, services_in: str) -> frozenset[str]:
    """The hosts of one namespace that are imported."""
    return frozenset(host for host in declared_in(db, services_in) if egress.covers(host, services_in))


@query
def knows(db: Engine, egress: Egress, host: str) -> bool:
    """Whether a host is imported as some namespace declares it."""
    return any(egress.covers(host, declared.namespace) for declared in declarations(db, host))


@query
def known_hosts(db: Engine, egress: Egress) -> frozenset[str]:
    """Every host that is imported; only the namespaces that the imports name are looked at."""
    named = {each.namespace for each in egress.imports}
    found: set[str] = set()
    for each in egress.imports:
        if each.namespace != "*":
            continue
        if is_wildcard(each.host):
            named |= {*service_namespaces(db)}
        elif knows(db, egress, each.host):
            found.add(each.host)
    return frozenset(found).union(*(known_in(db, egress, namespace) for namespace in named - {"*"}))


# --- the rules that it knows --------------------------------------------------------------------------------------


@query
def hosts_of_rule(db: Engine, key: ObjectKey) -> tuple[str, ...]:
    """The hosts, and patterns of hosts, that one VirtualService speaks for."""
    value = objects(db, key)
    hosts = value.spec.hosts if isinstance(value, VirtualService) else ()
    return tuple(sorted({canonical(db, host, key.namespace) for host in hosts}))


@query
def knows_rule(db: Engine, egress: Egress, key: ObjectKey) -> bool:
    """Whether one VirtualService is imported, by its namespace and any of its hosts."""
    return egress.concerns(hosts_of_rule(db, key), key.namespace)


@query
def known_rules(db: Engine, egress: Egress) -> tuple[ObjectKey, ...]:
    """The VirtualServices of the mesh that are imported, sorted."""
    named = {each.namespace for each in egress.imports}
    keys = bound(db, MESH) if "*" in named else (key for namespace in named for key in rules_in(db, namespace))
    return tuple(sorted({key for key in keys if knows_rule(db, egress, key)}))


@query
def called_by_rules(db: Engine, egress: Egress) -> frozenset[tuple[str, int]]:
    """The hosts, and the port or 0 for each, to which imported VirtualServices send what they are asked for.

    They need no import of their own: a rule is of no use without its destinations.
    """
    return frozenset().union(*(named_destinations(db, key) for key in known_rules(db, egress)))
