"""The hosts that the mesh knows: read from Services and ServiceEntries, found by name, listed by port and namespace.

    Service, ServiceEntry -> services_of(object) -> service(host, seen from a namespace), hosts_in, hosts_on_port

A host may be declared by several objects; who sees which, and what they are together, is decided here and nowhere
else. ExternalName Services declare no host: they are other names of one (`aliases`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.hosts import expand
from ostria.engine import Engine, Index, query
from ostria.mesh.allocation import allocated
from ostria.mesh.model import Nearness, Protocol, Resolution, Service, ServicePort
from ostria.mesh.protocols import parse_protocol, protocol_of
from ostria.mesh.settings import default_export_to, settings
from ostria.mesh.tenancy import declares_for
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Service as KubernetesService
from ostria.resources.kubernetes import ServicePort as KubernetesPort
from ostria.resources.kubernetes import ServiceSpec
from ostria.resources.service_entry import ServiceEntry

EXPORT_ANNOTATION = "networking.istio.io/exportTo"
DISTRIBUTION_ANNOTATION = "networking.istio.io/traffic-distribution"

EVERYWHERE = frozenset({"*"})

RESOLUTIONS = {
    "NONE": Resolution.ORIGINAL,
    "STATIC": Resolution.ENDPOINTS,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DYNAMIC_DNS,
}

# kubernetes.io, "Traffic distribution"; PreferClose is the older name of PreferSameZone.
NEARNESS = {"PreferClose": Nearness.ZONE, "PreferSameZone": Nearness.ZONE, "PreferSameNode": Nearness.NODE}


def canonical(db: Engine, host: str, namespace: str) -> str:
    """The fully qualified form of a host as an Istio object in `namespace` writes it."""
    return expand(host.lower(), namespace, settings(db).domain_suffix)


def reference(host: str, namespace: str) -> str:
    """The suffix-less form under which indexes keep a host, since an index knows no settings.

    `reviews` in `default` and `reviews.default.svc.cluster.local` meet as `reviews.default.svc`; other hosts stay.
    """
    return expand(host.lower(), namespace, "").removesuffix(".")


def references_to(db: Engine, host: str) -> tuple[str, ...]:
    """The forms under which an index may keep a fully qualified host."""
    suffix = f".svc.{settings(db).domain_suffix}"
    return (host, host.removesuffix(suffix) + ".svc") if host.endswith(suffix) else (host,)


def wildcards_over(host: str) -> tuple[str, ...]:
    """The wildcard hosts that cover a host, the most specific first: `*.b.c`, `*.c`, `*` for `a.b.c`."""
    parts = host.removeprefix("*.").split(".") if host != "*" else []
    start = 0 if host.startswith("*.") else 1
    return (*(f"*.{'.'.join(parts[i:])}" for i in range(start, len(parts))), "*")


def _declared(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService):
        if value.spec.type != "ExternalName":
            yield f"{key.name}.{key.namespace}.svc"
    elif isinstance(value, ServiceEntry):
        yield from {host.lower() for host in value.spec.hosts}


def _namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if any(_declared(key, value)):
        yield key.namespace


def _everywhere(key: ObjectKey, value: Object) -> Iterator[str]:
    if any(_declared(key, value)):
        yield ""


def _looks_up(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, ServiceEntry) and value.spec.resolution == "DYNAMIC_DNS":
        yield ""


def _by_node(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService):
        near = NEARNESS.get(value.spec.traffic_distribution or "")
        if value.spec.internal_traffic_policy == "Local" or near is Nearness.NODE:
            yield ""


def _alias(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService) and value.spec.type == "ExternalName":
        yield value.spec.external_name.lower().removesuffix(".")


def virtual_ips(value: KubernetesService | ServiceEntry) -> tuple[str, ...]:
    """The addresses and CIDR blocks that an object gives its hosts, each in its one spelling."""
    spec = value.spec
    if isinstance(spec, ServiceSpec):
        written = () if spec.type == "ExternalName" else spec.cluster_ips or (spec.cluster_ip,)
    else:
        written = spec.addresses
    found: list[str] = []
    for address in written:
        try:
            network = ipaddress.ip_network(address, strict=False)
        except ValueError:  # "" and "None" of a Kubernetes Service, or what slipped past validation.
            continue
        found.append(str(network if network.num_addresses > 1 else network.network_address))
    return tuple(dict.fromkeys(found))


def _at(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService | ServiceEntry):
        yield from virtual_ips(value)


declaring = Index("mesh.services.declaring", objects, _declared)
in_namespace = Index("mesh.services.in_namespace", objects, _namespace)
declarers = Index("mesh.services.declarers", objects, _everywhere)
looking_up = Index("mesh.services.looking_up", objects, _looks_up)
bound_to_node = Index("mesh.services.bound_to_node", objects, _by_node)
aliasing = Index("mesh.services.aliasing", objects, _alias)
at_address = Index("mesh.services.at_address", objects, _at)


@query
def services_of(db: Engine, key: ObjectKey) -> tuple[Service, ...]:
    """The services that one object declares, one a host."""
    value = objects(db, key)
    if isinstance(value, KubernetesService):
        return (_from_kubernetes(db, key, value),) if value.spec.type != "ExternalName" else ()
    if isinstance(value, ServiceEntry):
        return tuple(_from_entry(db, key, value, host.lower()) for host in value.spec.hosts)
    return ()


@query
def declarations(db: Engine, host: str) -> tuple[Service, ...]:
    """Every declaration of one host, in the order in which they count: Kubernetes' own, then the oldest."""
    keys = [key for form in references_to(db, host) for key in declaring(db, form)]
    found = [service for key in keys for service in services_of(db, key) if service.host == host]
    return tuple(sorted(found, key=lambda service: (not service.in_cluster, age(db, service.origin), service.origin)))


@query
def service(db: Engine, host: str, namespace: str) -> Service | None:
    """The service that a host means to a client in `namespace`: its own namespace's declaration first.

    `namespace` "" is a client in no particular namespace (see `service_scope`).
    """
    visible = [found for found in declarations(db, host) if is_visible(found.visible_in, namespace)]
    if not visible:
        return None
    first = visible[0]
    if not first.in_cluster:
        first = next((found for found in visible if found.namespace == namespace), first)
    return _merged(first, [found for found in visible if found is not first]) if len(visible) > 1 else first


def _merged(first: Service, rest: list[Service]) -> Service:
    """A service with what other objects of its namespace add to it (istio.io: ServiceEntry, merging).

    ServiceEntries that find endpoints in the same way are one service with the ports of all; to a Kubernetes Service
    a ServiceEntry of its host adds endpoints, and never a port.
    """
    joined = [
        found
        for found in rest
        if found.namespace == first.namespace and (first.in_cluster or found.resolution is first.resolution)
    ]
    if not joined:
        return first
    ports, addresses = {port.number: port for port in reversed(first.ports)}, dict.fromkeys(first.addresses)
    if not first.in_cluster:
        for found in joined:
            ports = {port.number: port for port in found.ports} | ports
            addresses |= dict.fromkeys(found.addresses)
        first = first._replace(
            ports=tuple(ports[number] for number in sorted(ports)),
            addresses=tuple(addresses),
            accounts=tuple(dict.fromkeys(account for found in (first, *joined) for account in found.accounts)),
        )
    return first._replace(others=tuple(found.origin for found in joined))


@query
def is_reached_by_address(db: Engine, host: str) -> bool:
    """Whether some client may have to connect to the very address that it was asked for (headless services, NONE)."""
    return any(found.resolution is Resolution.ORIGINAL for found in declarations(db, host))


@query
def differs_at_gateways(db: Engine, host: str) -> bool:
    """Whether gateways call a host otherwise than sidecars do: by its endpoints, or in HTTP/1.1 whatever they hear."""
    unnamed = (port.protocol is Protocol.AUTO for found in declarations(db, host) for port in found.ports)
    return is_reached_by_address(db, host) or any(unnamed)


@query(few=True)
def service_scope(db: Engine, host: str) -> frozenset[str]:
    """The namespaces that may see another service behind a host than the rest does."""
    found = declarations(db, host)
    if not found or (found[0].in_cluster and all(each.visible_in == EVERYWHERE for each in found)):
        return frozenset()
    return frozenset().union(*(each.visible_in - EVERYWHERE for each in found), (each.namespace for each in found))


def is_visible(visible_in: frozenset[str], namespace: str) -> bool:
    """Whether something exported to these namespaces is seen from one."""
    return "*" in visible_in or namespace in visible_in


@query
def node_matters(db: Engine) -> bool:
    """Whether any service prefers endpoints on the client's own node."""
    return bool(bound_to_node(db, ""))


@query
def looks_up_any(db: Engine) -> bool:
    """Whether any service's names are looked up only when they are called (resolution DYNAMIC_DNS)."""
    return bool(looking_up(db, ""))


@query
def is_on_node(db: Engine, host: str) -> bool:
    """Whether a host's endpoints count on the client's own node only (internalTrafficPolicy: Local)."""
    return any(found.on_node for found in declarations(db, host))


@query
def service_namespaces(db: Engine) -> tuple[str, ...]:
    """The namespaces that declare hosts, sorted.

    What is listed for the whole mesh is listed namespace by namespace, so that a service that comes or goes costs
    its namespace and not the mesh.
    """
    return tuple(sorted({key.namespace for key in declarers(db, "")}))


@query
def hosts_in(db: Engine, namespace: str) -> tuple[str, ...]:
    """The hosts that are listed with a namespace, sorted: each host with that of its first declaration."""
    declared = {found.host for key in in_namespace(db, namespace) for found in services_of(db, key)}
    return tuple(sorted(host for host in declared if declarations(db, host)[0].namespace == namespace))


class Alias(NamedTuple):
    """Another name of a host: an ExternalName Service, by its full name."""

    host: str
    name: str
    namespace: str
    visible_in: frozenset[str]
    origin: ObjectKey


def aliases(db: Engine, host: str) -> tuple[Alias, ...]:
    """The ExternalName Services that lead to a host, directly or through one another, sorted."""
    found: dict[ObjectKey, Alias] = {}
    ahead = [host]
    while ahead:
        for key in aliasing(db, ahead.pop()):
            alias = _alias_of(db, key)
            if alias is not None and key not in found and alias.host != host:
                found[key] = alias
                ahead.append(alias.host)
    return tuple(sorted(found.values()))


@query
def concrete(db: Engine, host: str) -> str:
    """What a host is another name of, by one ExternalName Service after the other; most hosts are nobody's name."""
    found, seen = host, {host}
    while (named := _named_by(db, found)) and named not in seen:
        seen.add(named)
        found = named
    return found


def _named_by(db: Engine, host: str) -> str:
    name, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    if domain != f"svc.{settings(db).domain_suffix}":
        return ""
    value = objects(db, ObjectKey(settings(db).cluster, "Service", namespace, name))
    external = isinstance(value, KubernetesService) and value.spec.type == "ExternalName"
    return next(_alias(ObjectKey("", "Service", namespace, name), value), "") if external and value else ""


@query
def _alias_of(db: Engine, key: ObjectKey) -> Alias | None:
    value = objects(db, key)
    if not isinstance(value, KubernetesService):
        return None
    host = f"{key.name}.{key.namespace}.svc.{settings(db).domain_suffix}"
    return Alias(host, key.name, key.namespace, _exported(db, key, value), key)


def age(db: Engine, key: ObjectKey) -> str:
    """When an object was made, as RFC 3339 text that sorts by time; objects without a time come last.

    Of several objects that claim one thing the oldest counts (istio.io: conflict resolution by creation time).
    """
    value = objects(db, key)
    return (value.metadata.creation_timestamp if value else None) or "~"


# --- reading the objects ------------------------------------------------------------------------------------------


def _from_kubernetes(db: Engine, key: ObjectKey, value: KubernetesService) -> Service:
    spec = value.spec
    distribution = value.metadata.annotations.get(DISTRIBUTION_ANNOTATION) or spec.traffic_distribution or ""
    return Service(
        host=f"{key.name}.{key.namespace}.svc.{settings(db).domain_suffix}",
        namespace=key.namespace,
        name=key.name,
        ports=tuple(_port_of(port) for port in spec.ports),
        addresses=virtual_ips(value),
        resolution=Resolution.ORIGINAL if spec.cluster_ip == "None" else Resolution.ENDPOINTS,
        external=False,
        selector=tuple(sorted(spec.selector.items())),
        visible_in=_exported(db, key, value),
        accounts=(),
        origin=key,
        affinity=spec.session_affinity == "ClientIP",
        on_node=spec.internal_traffic_policy == "Local",
        nearness=NEARNESS.get(distribution, Nearness.ANY),
    )


def _exported(db: Engine, key: ObjectKey, value: KubernetesService) -> frozenset[str]:
    written = value.metadata.annotations.get(EXPORT_ANNOTATION)
    default = default_export_to(db, "Service")
    return visibility([part.strip() for part in written.split(",")] if written else default, key.namespace)


def _from_entry(db: Engine, key: ObjectKey, value: ServiceEntry, host: str) -> Service:
    spec = value.spec
    return Service(
        host=host,
        namespace=key.namespace,
        name=host,
        ports=tuple(
            ServicePort(port.number, port.name, parse_protocol(port.protocol), port.target_port or port.number)
            for port in spec.ports
        ),
        addresses=virtual_ips(value),
        resolution=RESOLUTIONS[spec.resolution],
        external=spec.location != "MESH_INTERNAL",
        selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else (),
        visible_in=declares_for(
            db, key.namespace, visibility(spec.export_to or default_export_to(db, "ServiceEntry"), key.namespace)
        ),
        accounts=spec.subject_alt_names,
        origin=key,
        allocated=allocated(db, key, host),
        nearness=NEARNESS.get(value.metadata.annotations.get(DISTRIBUTION_ANNOTATION, ""), Nearness.ANY),
    )


def visibility(export_to: list[str] | tuple[str, ...] | None, namespace: str) -> frozenset[str]:
    """An exportTo list as namespaces: "." is the object's own, "*" (or nothing said) everywhere, "~" nowhere."""
    if not export_to or "*" in export_to:
        return EVERYWHERE
    return frozenset(namespace if to == "." else to for to in export_to if to != "~")


def _port_of(port: KubernetesPort) -> ServicePort:
    return ServicePort(port.port, port.name, protocol_of(port), port.target_port or port.port)
