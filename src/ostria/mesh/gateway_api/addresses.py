"""Where a Gateway is served: the Services that lead to its proxies, and the addresses under which these are reached.

A Gateway that names no Service gets one of its own (see controllers): `<gateway>-<class>` in its namespace.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.mesh.endpoints import endpoints
from ostria.mesh.gateway_api.declared import gateway_spec, labelled
from ostria.mesh.model import Verdict
from ostria.mesh.services import service
from ostria.mesh.settings import settings
from ostria.resources import gateway_api as api
from ostria.resources import objects
from ostria.resources.kubernetes import Service as KubernetesService

NAME_OVERRIDE = "gateway.istio.io/name-override"
MANAGED_LABEL = "gateway.istio.io/managed"


def is_managed(spec: api.GatewaySpec) -> bool:
    """Whether the mesh makes the proxies and the Service of a Gateway: unless it names Services by their host names."""
    if len(spec.addresses) > 1:
        return False
    return not spec.addresses or spec.addresses[0].type in (None, "IPAddress")


@query
def deployed_name(db: Engine, gateway: ObjectKey) -> str:
    """What everything is called that is made for a managed Gateway."""
    spec = gateway_spec(db, gateway)
    given = dict(labelled(db, gateway).annotations).get(NAME_OVERRIDE)
    return given or (f"{gateway.name}-{spec.gateway_class_name}" if spec else gateway.name)


class Behind(NamedTuple):
    """The hosts of the Services that lead to a Gateway's proxies, and why others that it names are none."""

    hosts: tuple[str, ...]
    refused: Verdict | None = None


@query
def services_behind(db: Engine, gateway: ObjectKey) -> Behind:
    """The Services that lead to a Gateway's proxies."""
    spec = gateway_spec(db, gateway)
    if spec is None:
        return Behind(())
    suffix = settings(db).domain_suffix
    if is_managed(spec):
        return Behind((f"{deployed_name(db, gateway)}.{gateway.namespace}.svc.{suffix}",))
    hosts = [each.value for each in spec.addresses if each.type in (None, "Hostname")]
    others = [each.value for each in spec.addresses if each.type not in (None, "Hostname")]
    full = tuple(host if "." in host else f"{host}.{gateway.namespace}.svc.{suffix}" for host in hosts)
    if not others:
        return Behind(full)
    words = f"of several addresses each is the host name of a Service; {', '.join(others)} is left out"
    return Behind(full, Verdict("UnsupportedAddress", words))


@query
def refused_addresses(db: Engine, gateway: ObjectKey) -> Verdict | None:
    """Why a Gateway is not served at all because of the addresses that it asks for."""
    behind = services_behind(db, gateway)
    return behind.refused if not behind.hosts else None


class Assigned(NamedTuple):
    """Where a Gateway is served.

    `places` are "host:port" of its Services, `missing` says what of its ports is served nowhere; `unusable` that this
    will not come by itself. `addresses` are (type, value) pairs as its status has them.
    """

    places: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unusable: bool = False
    addresses: tuple[tuple[str, str], ...] = ()


@query
def assigned(db: Engine, gateway: ObjectKey, ports: tuple[int, ...]) -> Assigned:
    """Which of the ports are served, and where."""
    places: set[str] = set()
    missing: dict[str, None] = {}
    pending: set[str] = set()
    outside: dict[tuple[str, str], None] = {}
    unusable = False
    hosts = services_behind(db, gateway).hosts
    for host in hosts:
        found = service(db, host, gateway.namespace)
        if found is None:
            missing[f'there is no Service "{host}"'] = None
            unusable = True
            continue
        served = {port.number for port in found.ports if _has_endpoints(db, host, gateway.namespace, port.number)}
        facts = _of_service(db, found.origin)
        for port in ports:
            if port in served:
                places.add(f"{host}:{port}")
            elif found.port(port) is not None or facts.managed:
                # It will be there as soon as a proxy is.
                if not served:
                    missing[f'no proxy of "{host}" is ready'] = None
                    pending.add(host)
            else:
                missing[f'"{host}" has no port {port}'] = None
                unusable = True
        if facts.balanced and not facts.addresses:
            missing[f'"{host}" waits for its address'] = None
            pending.add(host)
        if any(port in served for port in ports):
            outside |= dict.fromkeys(facts.addresses)
    inside = sorted({place.rpartition(":")[0] for place in places} - pending)
    return Assigned(
        tuple(sorted(places)),
        tuple(missing),
        unusable,
        tuple(sorted(outside)) or tuple(("Hostname", host) for host in inside),
    )


@query
def _has_endpoints(db: Engine, host: str, namespace: str, port: int) -> bool:
    return bool(endpoints(db, host, namespace, port))


class _Facts(NamedTuple):
    addresses: tuple[tuple[str, str], ...] = ()
    balanced: bool = False
    managed: bool = False


@query
def _of_service(db: Engine, key: ObjectKey) -> _Facts:
    value = objects(db, key)
    if not isinstance(value, KubernetesService):
        return _Facts()
    outside = [("IPAddress", each.ip) for each in value.status.load_balancer.ingress if each.ip]
    outside += [("Hostname", each.hostname) for each in value.status.load_balancer.ingress if each.hostname]
    outside += [("IPAddress", each) for each in value.spec.external_ips]
    return _Facts(tuple(outside), value.spec.type == "LoadBalancer", MANAGED_LABEL in value.metadata.labels)
