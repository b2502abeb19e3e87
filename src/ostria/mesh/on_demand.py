"""One host at a time: which virtual host of a port's whole table answers a request, asked by its authority.

A proxy that is configured on demand has no table: it asks for each authority that its workload calls. The answer is
what Envoy would have found in the whole table: the virtual host that spells the host exactly, else the longest
wildcard over it.

    authority (`reviews:9080`) -> without_port -> spelled, parents: the hosts that may answer, the likeliest first
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.engine import Engine, Index, query
from ostria.mesh.routes import is_routed, known_on
from ostria.mesh.services import at_address, references_to, services_of
from ostria.mesh.settings import mesh_config, settings
from ostria.mesh.sidecars import knows
from ostria.mesh.traits import ClientTraits
from ostria.mesh.undeclared import undeclared_of
from ostria.mesh.virtual_services import MESH, speaking
from ostria.resources import Object, objects
from ostria.resources.kubernetes import Pod, Service

ON_DEMAND_ANNOTATION = "ostria.dev/on-demand-xds"


@query
def on_demand_by_default(db: Engine) -> bool:
    """Whether sidecars whose pods do not say it are sent only what their workloads call."""
    said = mesh_config(db).default_config.proxy_metadata.get("OSTRIA_ON_DEMAND_XDS")
    return settings(db).on_demand if said is None else said == "true"


@query
def is_on_demand(db: Engine, pod: ObjectKey) -> bool:
    """Whether a pod's sidecar is to hold only what its workload calls: the pod says it, else the mesh."""
    value = objects(db, pod)
    said = value.metadata.annotations.get(ON_DEMAND_ANNOTATION) if isinstance(value, Pod) else None
    return on_demand_by_default(db) if said is None else said == "true"


def without_port(authority: str) -> str:
    """The host of an authority, as Envoy takes its port off: whatever is behind the last colon that is no IPv6's."""
    colon = authority.rfind(":")
    return authority[:colon] if colon > authority.rfind("]") else authority


def is_in_table(db: Engine, host: str, port: int, client: ClientTraits) -> bool:
    """Whether the whole table of a port may hold a host for this client: a service's, or one that only rules know."""
    egress = known_on(db, port, client)
    if is_routed(db, host, port) and (egress is None or knows(db, egress, host)):
        return True
    rules = (key for form in references_to(db, host) for key in speaking(db, (MESH, form)))
    return any((port, host) in undeclared_of(db, key, egress) for key in rules)


def spelled(db: Engine, name: str, namespace: str) -> tuple[str, ...]:
    """The hosts that a client in `namespace` may mean by a name, those that another name leads to included."""
    suffix = settings(db).domain_suffix
    parts = name.split(".")
    address = name.removeprefix("[").removesuffix("]")
    hosts = [address]
    if len(parts) == 1:
        hosts.append(f"{name}.{namespace}.svc.{suffix}")
    elif len(parts) == 2 or (len(parts) == 3 and parts[2] == "svc"):
        hosts.append(f"{parts[0]}.{parts[1]}.svc.{suffix}")
    for host in hosts:
        target = _leads_to(db, host)
        if target and target not in hosts:
            hosts.append(target)
    for key in at_address(db, address):
        hosts += (found.host for found in services_of(db, key))
    return tuple(dict.fromkeys(hosts))


@query
def _leads_to(db: Engine, host: str) -> str:
    """The host that a Service of type ExternalName is another name for, "" where a host is none."""
    found = settings(db)
    name, _, rest = host.partition(".")
    namespace = rest.removesuffix(f".svc.{found.domain_suffix}")
    if not namespace or "." in namespace:
        return ""
    value = objects(db, ObjectKey(found.cluster, "Service", namespace, name))
    if not isinstance(value, Service) or value.spec.type != "ExternalName":
        return ""
    return value.spec.external_name.lower().removesuffix(".")


def parents(name: str) -> tuple[str, ...]:
    """What a wildcard over a name may stand on, the longest first: `b.c`, `c` for `a.b.c`."""
    parts = name.split(".")
    return tuple(".".join(parts[at:]) for at in range(1, len(parts)))


def homes(db: Engine, name: str) -> frozenset[str]:
    """The namespaces in which a name without a dot is a Service's."""
    return frozenset(key.namespace for key in _named(db, name)) if "." not in name else frozenset()


def _name(key: ObjectKey, value: Object) -> Iterator[str]:
    if isinstance(value, Service):
        yield key.name


_named = Index("mesh.on_demand.named", objects, _name)
