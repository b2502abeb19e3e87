"""What generation passes through: each resource as it was made, and what a client's patches make of it.

    scope(resource's name)                   what tells clients apart, for the sake of patches
    cluster | listener | ... (made, client)  the same fragment where nothing applies, else a patched one

The objects whose patches changed a fragment are among its origins, so that Envoy's refusal is traced to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Untyped

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from google.protobuf import json_format

from ostria.base import ObjectKey
from ostria.engine import Engine, query
from ostria.envoy import extensions
from ostria.envoy.bootstrap_patches import BootstrapPatch
from ostria.envoy.fragments import Fragment, ResourceType, fragment
from ostria.envoy.inbound import BOUND
from ostria.envoy.patches import clusters, listeners, places, routes
from ostria.envoy.patches.compiled import INBOUND, REMOVE, Patch, in_effect, outward
from ostria.envoy.patches.naming import named_clusters
from ostria.envoy.patches.routes import Table
from ostria.envoy.wire import encode
from ostria.mesh.attachments import attachment_scope
from ostria.mesh.extensions import extensions_in_effect, in_force
from ostria.mesh.gateways import gateway_ports, is_gateway_table, servers_behind
from ostria.mesh.inbound import inbound_of
from ostria.mesh.traits import ClientTraits, ProxyType, Scope

Keys = tuple[ObjectKey, ...]


def _scope(db: Engine, keys: Keys) -> Scope:
    scope = _NOTHING
    for key in keys:
        scope |= attachment_scope(db, key)
    return scope


_NOTHING = Scope()

# --- clusters -----------------------------------------------------------------------------------------------------


def cluster_scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for the patches of one cluster."""
    return _scope(db, places.at_cluster(db, name))


def cluster(db: Engine, name: str, made: Fragment | None, client: ClientTraits) -> Fragment | None:
    """A cluster as patches want it, or one that only they know; None where it is removed or there is none."""
    keys = places.at_cluster(db, name)
    patches = in_effect(db, keys, client) if keys else []
    if not patches:
        return made
    inbound = name.startswith("inbound|") or name == "InboundPassthroughCluster"
    context = INBOUND if inbound else outward(client)
    if made is None:
        return _added(name, (patch for each in _contexts(client) for patch in clusters.added(patches, each)))
    message = Cluster.FromString(made.body)
    stays, origins = clusters.patch_cluster(message, patches, context, _hosts(db, name, client) if inbound else ())
    return _changed(made, message, origins) if stays else None


def cluster_names(db: Engine, names: tuple[str, ...], client: ClientTraits) -> tuple[str, ...]:
    """A proxy's clusters with those that patches add and without those that they remove."""
    patches = _of_listing(db, places.CLUSTER, client)
    if not patches:
        return names
    gone = [patch for patch in patches if patch.apply_to == "CLUSTER" and patch.operation == REMOVE]
    if gone:
        names = tuple(name for name in names if not _is_gone(db, name, gone, client))
    return _with(names, (patch for context in _contexts(client) for patch in clusters.added(patches, context)))


def _is_gone(db: Engine, name: str, gone: list[Patch], client: ClientTraits) -> bool:
    inbound = name.startswith("inbound|") or name == "InboundPassthroughCluster"
    context = INBOUND if inbound else outward(client)
    hosts = _hosts(db, name, client) if inbound else ()
    return any(patch.is_for(context) and clusters.matches(patch.match.cluster, name, hosts) for patch in gone)


def _hosts(db: Engine, name: str, client: ClientTraits) -> tuple[str, ...]:
    ports = inbound_of(db, client).ports if client.proxy_type is ProxyType.SIDECAR else ()
    return tuple(host for port in ports if name == f"inbound|{port.port}||" for host, _, _ in port.services)


# --- listeners ----------------------------------------------------------------------------------------------------


def listener_scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for the patches of one listener."""
    return _scope(db, places.at_listener(db, name))


def listener(db: Engine, name: str, made: Fragment | None, client: ClientTraits) -> Fragment | None:
    """A listener as patches want it, or one that only they know; None where it is removed or there is none."""
    keys = places.at_listener(db, name)
    patches = in_effect(db, keys, client) if keys else []
    running = extensions_in_effect(db, keys, client) if keys else ()
    if not patches and not running:
        return made
    if made is None:
        return _added(name, (patch for each in _contexts(client) for patch in listeners.added(patches, each)))
    message = Listener.FromString(made.body)
    context = _context(name, client)
    ports = _ports(db, message, client)
    by_chain = name in listeners.VIRTUAL
    used = extensions.insert(message, running, inbound=context == INBOUND, ports=ports, by_chain=by_chain)
    stays, origins = listeners.patch_listener(message, patches, context)
    if not stays:
        return None
    asked = frozenset((ResourceType.EXTENSION, each.name) for each in running if each.origin in used)
    return _changed(made._replace(references=made.references | asked), message, origins | used)


def _ports(db: Engine, listener: Untyped, client: ClientTraits) -> set[int]:
    """The numbers that a listener goes by: its own, and at a gateway those of the Service in front of it."""
    port = listener.address.socket_address.port_value
    if client.proxy_type is not ProxyType.GATEWAY:
        return {port}
    found = gateway_ports(db, client)
    return {port, *(server.service_port for each in found if each.port == port for server in each.servers)}


def listener_names(db: Engine, names: tuple[str, ...], client: ClientTraits) -> tuple[str, ...]:
    """A proxy's listeners with those that patches add and without those that they remove."""
    patches = _of_listing(db, places.LISTENER, client)
    if not patches:
        return names
    names = tuple(name for name in names if not _is_listener_gone(name, patches, client))
    return _with(names, (patch for context in _contexts(client) for patch in listeners.added(patches, context)))


def _is_listener_gone(name: str, patches: list[Patch], client: ClientTraits) -> bool:
    head = Listener(name=name)
    port = listeners.place_of(name)
    head.address.socket_address.port_value = int(port) if port.isdigit() else _VIRTUAL_PORTS.get(name, 0)
    return any(
        patch.apply_to == "LISTENER"
        and patch.operation == REMOVE
        and patch.is_for(_context(name, client))
        and listeners.is_for_listener(patch, head)
        for patch in patches
    )


_VIRTUAL_PORTS = {"virtualOutbound": 15001, "virtualInbound": 15006}


def _context(name: str, client: ClientTraits) -> str:
    inbound = name == "virtualInbound" or name.startswith(BOUND)
    return INBOUND if inbound and client.proxy_type is ProxyType.SIDECAR else outward(client)


# --- routes -------------------------------------------------------------------------------------------------------


def table_scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for the patches of a whole route table, its virtual hosts included."""
    return _scope(db, (*places.at_table(db, name), *places.at_virtual_hosts(db)))


@query
def virtual_hosts_scope(db: Engine) -> Scope:
    """What tells clients apart for the patches of any virtual host."""
    return _scope(db, places.at_virtual_hosts(db))


def virtual_host_scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for the patches of one virtual host, named `host:port`."""
    return _scope(db, places.at_virtual_host(db, name))


def virtual_host(
    db: Engine, made: Fragment, name: str, tables: tuple[str, ...], client: ClientTraits
) -> Fragment | None:
    """A virtual host, `name` in these tables, as patches want it; None where it is removed."""
    keys = places.at_virtual_host(db, name)
    patches = in_effect(db, keys, client) if keys else []
    if not patches:
        return made
    message = VirtualHost.FromString(made.body)
    stays, origins = routes.patch_virtual_host(message, _table(db, tables, client), patches, outward(client))
    return _changed(made, message, origins) if stays else None


def table_head(db: Engine, name: str, head: bytes, client: ClientTraits) -> Fragment | None:
    """A route table without its virtual hosts, `head`, as patches want it, with those that they add; None without."""
    keys = places.at_table(db, name)
    patches = in_effect(db, keys, client) if keys else []
    if not patches:
        return None
    message = RouteConfiguration.FromString(head)
    origins = routes.patch_table(message, _table(db, (name,), client), patches, outward(client))
    return _made(name, encode(message), frozenset(origins)) if origins else None


def _table(db: Engine, names: tuple[str, ...], client: ClientTraits) -> Table:
    if not is_gateway_table(names[0]):
        return Table.of_sidecar(*names)
    servers = servers_behind(db, names[0], client)
    return Table.of_gateway(names[0], [server.service_port for server in servers])


# --- extensions ---------------------------------------------------------------------------------------------------


def extension_scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for an extension's configuration."""
    return _scope(db, places.at_extension(db, name))


@query
def extension(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """The configuration of this name: an extension's, or what patches define, where a later one replaces an earlier."""
    for running in extensions_in_effect(db, places.at_extension(db, name), client):
        body = extensions.configuration(*in_force(db, running))
        return fragment(name, body, frozenset({running.origin}))
    found = [
        patch
        for patch in in_effect(db, places.at_extension(db, name), client)
        if patch.apply_to == "EXTENSION_CONFIG" and patch.value is not None and patch.value.name == name
    ]
    if not found:
        return None
    return _made(name, encode(found[-1].value), frozenset({found[-1].origin}))


# --- the bootstrap ------------------------------------------------------------------------------------------------


def bootstrap(db: Engine, client: ClientTraits) -> list[BootstrapPatch]:
    """What a proxy's agent is to merge into the bootstrap, in this order."""
    contexts = _contexts(client)
    return [
        BootstrapPatch(json_format.MessageToDict(patch.value, preserving_proto_field_name=True), patch.replaces_lists)
        for patch in in_effect(db, places.at_bootstrap(db), client)
        if patch.apply_to == "BOOTSTRAP" and patch.merges and any(map(patch.is_for, contexts))
    ]


# --- parts --------------------------------------------------------------------------------------------------------


def _of_listing(db: Engine, kind: str, client: ClientTraits) -> list[Patch]:
    keys = places.at_listing(db, kind)
    return in_effect(db, keys, client) if keys else []


def _contexts(client: ClientTraits) -> tuple[str, ...]:
    """The contexts that a proxy has something in."""
    return (outward(client),) if client.proxy_type is ProxyType.GATEWAY else (outward(client), INBOUND)


def _with(names: tuple[str, ...], patches: Iterable[Patch]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *(patch.value.name for patch in patches if patch.value.name))))


def _added(name: str, patches: Iterable[Patch]) -> Fragment | None:
    patch = next((patch for patch in patches if patch.value.name == name), None)
    return _made(name, encode(patch.value), frozenset({patch.origin})) if patch is not None else None


def _changed(made: Fragment, message: Untyped, origins: set[ObjectKey]) -> Fragment:
    if not origins:
        return made
    changed = _made(made.name, encode(message), made.origins | frozenset(origins), but=named_clusters(made.body))
    return changed._replace(references=made.references | changed.references)


def _made(name: str, body: bytes, origins: frozenset[ObjectKey], *, but: frozenset[str] = frozenset()) -> Fragment:
    """A fragment that a person has written in Envoy's words; it refers to the mesh's clusters that these name.

    `but` are names that were there before: what of them there is has been said, and some are missing destinations.
    """
    named = named_clusters(body) - but
    return fragment(name, body, origins, frozenset((ResourceType.CLUSTER, each) for each in named))
