"""Which objects may change a resource, from the resource's name alone.

An EnvoyFilter is listed at the places that it names: a cluster's host, a listener's port, a virtual host's name, or ""
where it names none. So a resource reads two or three small lists, and an EnvoyFilter that comes or goes wakes only
what is at its places.
"""

from __future__ import annotations

from collections.abc import Iterator

from ostria.base import ObjectKey
from ostria.engine import Engine, Index
from ostria.envoy.patches import clusters, listeners
from ostria.mesh import extensions
from ostria.mesh.model import ClusterRef
from ostria.resources import Object, objects
from ostria.resources.envoy_filter import EnvoyConfigObjectPatch, EnvoyFilter

CLUSTER, LISTENER, TABLE, HOST = "cluster", "listener", "table", "host"
EXTENSION, BOOTSTRAP = "extension", "bootstrap"
_ROUTES = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_LISTENERS = ("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER")
# Stands for "what only the resource's content tells": the services of an inbound cluster, the ports of the listeners
# that catch everything.
_WITHIN = "(within)"
# Stands for every resource of a type.
_LISTING = "(listing)"


def _places(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, EnvoyFilter):
        for patch in value.spec.config_patches:
            yield from _of_patch(patch)
    elif key.kind in extensions.KINDS:
        yield (LISTENER, "")
        yield (EXTENSION, extensions.extension_name(key))


def _of_patch(config: EnvoyConfigObjectPatch) -> Iterator[tuple[str, str]]:
    match, patch, target = config.match, config.patch, config.apply_to
    if patch is None:
        return
    name = patch.value.get("name") if patch.value is not None else None
    name = name if isinstance(name, str) else ""
    if patch.operation in ("ADD", "REMOVE") and target in ("CLUSTER", "LISTENER"):
        yield (target.lower(), _LISTING)
    if target == "CLUSTER":
        if patch.operation != "ADD" and not patch.operation.startswith("INSERT_"):
            at = clusters.place(match.cluster if match else None)
            yield (CLUSTER, at)
            if match and match.cluster and match.cluster.service:
                yield (CLUSTER, _WITHIN)
        else:
            yield (CLUSTER, _host(name))
    elif target in _LISTENERS:
        if target == "LISTENER" and (patch.operation == "ADD" or patch.operation.startswith("INSERT_")):
            yield (LISTENER, listeners.place_of(name))
        else:
            yield (LISTENER, listeners.place(match.listener if match else None))
            if match and match.listener and match.listener.port_number:
                yield (LISTENER, _WITHIN)
    elif target in _ROUTES:
        yield from _of_routes(config)
    elif target == "EXTENSION_CONFIG":
        yield (EXTENSION, name)
    elif target == "BOOTSTRAP":
        yield (BOOTSTRAP, "")


def _of_routes(config: EnvoyConfigObjectPatch) -> Iterator[tuple[str, str]]:
    assert config.patch is not None
    match = config.match.route_configuration if config.match else None
    if config.match is None or config.match.context in ("ANY", "SIDECAR_INBOUND"):
        # The routes to a workload itself stand in its listener.
        yield (LISTENER, _WITHIN)
    if config.apply_to == "ROUTE_CONFIGURATION" or (
        config.apply_to == "VIRTUAL_HOST" and config.patch.operation == "ADD"
    ):
        yield (TABLE, match.name if match else "")
    else:
        yield (HOST, match.vhost.name if match and match.vhost else "")
        yield (HOST, _LISTING)


_index: Index[ObjectKey, Object, tuple[str, str]] = Index("envoy.patches.places", objects, _places)


def _at(db: Engine, kind: str, *places: str) -> tuple[ObjectKey, ...]:
    lists = [found for place in dict.fromkeys(places) if (found := _index(db, (kind, place)))]
    if not lists:
        return ()
    return tuple(dict.fromkeys(key for found in lists for key in found))


def _host(name: str) -> str:
    ref = ClusterRef.parse(name)
    return ref.host if ref is not None else name


def at_cluster(db: Engine, name: str) -> tuple[ObjectKey, ...]:
    """What may change, add or remove a cluster."""
    within = (_WITHIN,) if name.startswith("inbound|") else ()
    return _at(db, CLUSTER, "", _host(name), *within)


def at_listener(db: Engine, name: str) -> tuple[ObjectKey, ...]:
    """What may change, add or remove a listener."""
    within = (_WITHIN,) if name in listeners.VIRTUAL else ()
    return _at(db, LISTENER, "", listeners.place_of(name), *within)


def at_table(db: Engine, name: str) -> tuple[ObjectKey, ...]:
    """What may change a route table itself."""
    return _at(db, TABLE, "", name)


def at_virtual_host(db: Engine, name: str) -> tuple[ObjectKey, ...]:
    """What may change a virtual host, named `host:port`."""
    return _at(db, HOST, "", name)


def at_virtual_hosts(db: Engine) -> tuple[ObjectKey, ...]:
    """What may change any virtual host."""
    return _at(db, HOST, _LISTING)


def at_extension(db: Engine, name: str) -> tuple[ObjectKey, ...]:
    """What may define an extension's configuration."""
    return _at(db, EXTENSION, name)


def at_bootstrap(db: Engine) -> tuple[ObjectKey, ...]:
    """What may change what Envoy is started with."""
    return _at(db, BOOTSTRAP, "")


def at_listing(db: Engine, kind: str) -> tuple[ObjectKey, ...]:
    """What adds or removes clusters or listeners."""
    return _at(db, kind, _LISTING)
