"""The hosts that the mesh knows: read from Services and ServiceEntries, found by name, listed by port and namespace.

    Service, ServiceEntry -> services_of(object) -> service(host, seen from a namespace), hosts_in, hosts_on_port

A host may be declared by several objects; who sees which is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.base.hosts import expand
from ostria.engine import Engine, Index, query
from ostria.mesh.model import Protocol, Resolution, Service, ServicePort
from ostria.mesh.settings import default_export_to, settings
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Service as KubernetesService
from ostria.resources.kubernetes import ServicePort as KubernetesPort
from ostria.resources.service_entry import ServiceEntry

EXPORT_ANNOTATION = "networking.istio.io/exportTo"

EVERYWHERE = frozenset({"*"})

# istio.io, Protocol Selection: server-first protocols on their well-known ports are never sniffed.
SERVER_FIRST_PORTS = {25: Protocol.TCP, 53: Protocol.TCP, 3306: Protocol.MYSQL, 27017: Protocol.MONGO}

# kubernetes.io, "Application protocol": the names that Kubernetes itself defines.
KUBERNETES_APP_PROTOCOLS = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}

RESOLUTIONS = {
    "NONE": Resolution.ORIGINAL,
    "STATIC": Resolution.ENDPOINTS,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS_ROUND_ROBIN,
    "DYNAMIC_DNS": Resolution.DNS,
}


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
        yield f"{key.name}.{key.namespace}.svc"
    elif isinstance(value, ServiceEntry):
        yield from {host.lower() for host in value.spec.hosts}


def _namespace(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService | ServiceEntry):
        yield key.namespace


def _everywhere(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, KubernetesService | ServiceEntry):
        yield ""


declaring = Index("mesh.services.declaring", objects, _declared)
in_namespace = Index("mesh.services.in_namespace", objects, _namespace)
declarers = Index("mesh.services.declarers", objects, _everywhere)


@query
def services_of(db: Engine, key: ObjectKey) -> tuple[Service, ...]:
    """The services that one object declares, one a host."""
    value = objects(db, key)
    if isinstance(value, KubernetesService):
        return (_from_kubernetes(db, key, value),)
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
    if visible and visible[0].in_cluster:
        return visible[0]
    return next((found for found in visible if found.namespace == namespace), visible[0] if visible else None)


@query
def is_reached_by_address(db: Engine, host: str) -> bool:
    """Whether some client may have to connect to the very address that it was asked for (headless services, NONE)."""
    return any(found.resolution is Resolution.ORIGINAL for found in declarations(db, host))


@query
def service_scope(db: Engine, host: str) -> frozenset[str]:
    """The namespaces that may see another service behind a host than the rest does."""
    found = declarations(db, host)
    if not found or (found[0].in_cluster and found[0].visible_in == EVERYWHERE):
        return frozenset()
    return frozenset().union(*(each.visible_in - EVERYWHERE for each in found), (each.namespace for each in found))


def is_visible(visible_in: frozenset[str], namespace: str) -> bool:
    """Whether something exported to these namespaces is seen from one."""
    return "*" in visible_in or namespace in visible_in


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


def age(db: Engine, key: ObjectKey) -> str:
    """When an object was made, as RFC 3339 text that sorts by time; objects without a time come last.

    Of several objects that claim one thing the oldest counts (istio.io: conflict resolution by creation time).
    """
    value = objects(db, key)
    return (value.metadata.creation_timestamp if value else None) or "~"


# --- reading the objects ------------------------------------------------------------------------------------------


def _from_kubernetes(db: Engine, key: ObjectKey, value: KubernetesService) -> Service:
    spec = value.spec
    addresses = tuple(ip for ip in (spec.cluster_ips or (spec.cluster_ip,)) if ip and ip != "None")
    if spec.type == "ExternalName":
        resolution = Resolution.DNS
    else:
        resolution = Resolution.ENDPOINTS if addresses else Resolution.ORIGINAL
    exported = value.metadata.annotations.get(EXPORT_ANNOTATION)
    default = default_export_to(db, "Service")
    return Service(
        host=f"{key.name}.{key.namespace}.svc.{settings(db).domain_suffix}",
        namespace=key.namespace,
        name=key.name,
        ports=tuple(_port_of(port) for port in spec.ports),
        addresses=addresses if resolution is Resolution.ENDPOINTS else (),
        resolution=resolution,
        external=False,
        selector=tuple(sorted(spec.selector.items())),
        visible_in=visibility([part.strip() for part in exported.split(",")] if exported else default, key.namespace),
        accounts=(),
        origin=key,
    )


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
        addresses=spec.addresses,
        resolution=RESOLUTIONS[spec.resolution],
        external=spec.location != "MESH_INTERNAL",
        selector=tuple(sorted(spec.workload_selector.labels.items())) if spec.workload_selector else (),
        visible_in=visibility(spec.export_to or default_export_to(db, "ServiceEntry"), key.namespace),
        accounts=spec.subject_alt_names,
        origin=key,
    )


def visibility(export_to: list[str] | tuple[str, ...] | None, namespace: str) -> frozenset[str]:
    """An exportTo list as namespaces: "." is the object's own, "*" (or nothing said) everywhere, "~" nowhere."""
    if not export_to or "*" in export_to:
        return EVERYWHERE
    return frozenset(namespace if to == "." else to for to in export_to if to != "~")


def _port_of(port: KubernetesPort) -> ServicePort:
    return ServicePort(port.port, port.name, protocol_of(port), port.target_port or port.port)


def protocol_of(port: KubernetesPort) -> Protocol:
    """What a Kubernetes Service port speaks: appProtocol, else the prefix of its name, else to be found out."""
    if port.protocol == "UDP":
        return Protocol.UDP
    if port.app_protocol:
        known = KUBERNETES_APP_PROTOCOLS.get(port.app_protocol) or parse_protocol(port.app_protocol)
    else:
        name = (port.name).lower()
        known = Protocol.GRPC_WEB if name.startswith("grpc-web") else parse_protocol(name.partition("-")[0])
    return SERVER_FIRST_PORTS.get(port.port, known) if known is Protocol.AUTO else known


def parse_protocol(name: str) -> Protocol:
    """A protocol by its name in any case; AUTO for names that are not one."""
    try:
        return Protocol(name.lower())
    except ValueError:
        return Protocol.AUTO
