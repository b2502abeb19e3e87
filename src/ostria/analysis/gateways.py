"""Gateways and Ingresses that nothing serves: no workload has the labels, or an older one has the port or the name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from ostria.base import Level, ObjectKey, Problem
from ostria.engine import Engine, Index, query
from ostria.mesh import ingress
from ostria.mesh.clients import traits_of
from ostria.mesh.gateways import Conflict, gateway_conflicts, selection_of, servers_of
from ostria.mesh.istio_gateways import served_hosts
from ostria.mesh.model import GatewayServer, Labels, MissingDestination
from ostria.mesh.tenancy import keeps_gateways_home
from ostria.mesh.traits import ClientTraits
from ostria.mesh.virtual_services import gateway_reference
from ostria.mesh.workloads import is_gateway, workload
from ostria.resources import Object, objects
from ostria.resources.gateway import Gateway
from ostria.resources.kubernetes import Pod
from ostria.resources.virtual_service import VirtualService

# Labels that tell one pod or one revision from another, and not what a gateway is for.
_PASSING = frozenset({"pod-template-hash", "controller-revision-hash", "chart", "heritage", "release"})


def _gateway_label(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Pod) and is_gateway(value):
        yield from {**value.metadata.labels, "": ""}.items()


gateways_with = Index("analysis.gateways.gateways_with", objects, _gateway_label)


@query
def serving(db: Engine, selector: Labels, namespace: str) -> tuple[ClientTraits, ...]:
    """The gateway workloads that a selector chooses, of one namespace if that is not "", those that differ once."""
    pods = set.intersection(*(set(gateways_with(db, pair)) for pair in (("", ""), *selector)))
    found = (traits_of(db, pod) for pod in sorted(pods) if namespace in ("", pod.namespace))
    return tuple(dict.fromkeys(client for client in found if client is not None))


@query
def gateway_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What keeps one Gateway from being served."""
    if not isinstance(objects(db, key), Gateway):
        return ()
    wanted = selection_of(db, key)
    if wanted is None or wanted.services is not None:
        return ()
    clients = serving(db, wanted.labels, key.namespace if keeps_gateways_home(db) else "")
    if not clients:
        return (_unserved(db, key, wanted.labels, "spec.selector"),)
    return tuple(_conflicts(db, key, clients, "spec.servers"))


@query
def ingress_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """What keeps one of the mesh's Ingresses from being served: no gateway, a certificate's host that is taken, and
    services and ports that are not there."""
    if not ingress.is_ours(db, key):
        return ()
    clients = serving(db, ingress.gateway_labels(db), "")
    found = list(_conflicts(db, key, clients, "spec.tls"))
    if not clients:
        found.append(_unserved(db, key, ingress.gateway_labels(db), "spec.ingressClassName"))
    for field, missing in ingress.missing(db, key):
        found.append(_missing(key, field, missing))
    return tuple(found)


@query
def binding_problems(db: Engine, key: ObjectKey) -> tuple[Problem, ...]:
    """The Gateways that one VirtualService names and that have none of its hosts, or not for its namespace."""
    value = objects(db, key)
    if not isinstance(value, VirtualService):
        return ()
    return tuple(
        Problem(
            "host-not-at-gateway",
            Level.WARNING,
            f"Gateway {gateway.namespace}/{gateway.name} takes none of these hosts from namespace {key.namespace}",
            key,
            f"spec.gateways[{position}]",
            hint=f"it has {', '.join(offered)}" if (offered := _offered(db, gateway)) else "",
        )
        for position, name in enumerate(value.spec.gateways)
        if (gateway := _gateway_named(db, gateway_reference(name, key.namespace), key)) is not None
        and not any(served_hosts(db, server, key) for server in servers_of(db, gateway))
    )


def _gateway_named(db: Engine, reference: str, by: ObjectKey) -> ObjectKey | None:
    namespace, _, name = reference.partition("/")
    key = ObjectKey(by.cluster, "Gateway", namespace, name)
    return key if isinstance(objects(db, key), Gateway) else None


def _offered(db: Engine, gateway: ObjectKey) -> list[str]:
    """The hosts of a Gateway's servers as it may write them."""
    hosts = {pair for server in servers_of(db, gateway) for pair in server.hosts}
    return sorted(host if namespace == "*" else f"{namespace}/{host}" for namespace, host in hosts)


def _missing(key: ObjectKey, field: str, missing: MissingDestination) -> Problem:
    if missing.port:
        code, message = "missing-port", f"{missing.host} has no port {missing.port}"
    else:
        code, message = "missing-host", f"{missing.host} is not there, or has no such port"
    return Problem(code, Level.ERROR, f"{message}: calls are answered with 503", key, f"{field}.backend.service")


# --- who has a port -----------------------------------------------------------------------------------------------


def _conflicts(db: Engine, key: ObjectKey, clients: tuple[ClientTraits, ...], field: str) -> Iterator[Problem]:
    found = {each for client in clients for each in gateway_conflicts(db, client) if each.server.gateway == key}
    for each in sorted(found):
        place = f"{field}[{each.server.position}]" if each.server.position >= 0 else "spec"
        yield Problem("gateway-conflict", Level.ERROR, _why(each), key, place, hint=_way_out(each))


def _shared(conflict: Conflict) -> list[str]:
    """The names that both would open or pass on; none where it is the port itself that they cannot share."""
    if not (conflict.server.protocol.is_tls and conflict.taken_by.protocol.is_tls):
        return []
    return sorted(_names(conflict.server) & _names(conflict.taken_by))


def _names(server: GatewayServer) -> set[str]:
    return {host for _, host in server.hosts}


def _why(conflict: Conflict) -> str:
    port, other = conflict.server.service_port, conflict.taken_by
    if names := _shared(conflict):
        return f"{', '.join(names)} on port {port} is taken by {other.gateway}: a name has one certificate"
    return f"port {port} is taken by {other.gateway} for {other.protocol.upper()}"


def _way_out(conflict: Conflict) -> str:
    other = "other hosts" if _shared(conflict) else "another port"
    return f"use {other}, or a gateway workload of its own; until then the older of the two is served"


# --- who is there at all ------------------------------------------------------------------------------------------


def _unserved(db: Engine, key: ObjectKey, selector: Labels, field: str) -> Problem:
    wanted = ", ".join(f"{name}={value}" for name, value in selector) or "any gateway"
    known = {
        f"{name}={value}": None
        for pod in gateways_with(db, ("", ""))
        if (found := workload(db, pod))
        for name, value in found.labels
        if name not in _PASSING and "/" not in name
    }
    near = difflib.get_close_matches(wanted, list(known), n=2, cutoff=0.3) or list(known)[:2]
    return Problem(
        "gateway-without-workload",
        Level.WARNING,
        f"no gateway has the labels that are asked for ({wanted})",
        key,
        field,
        hint=f"the gateways that run have {' and '.join(near)}" if near else "install a gateway, or mend the selector",
    )
