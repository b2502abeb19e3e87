"""Virtual hosts one by one, for proxies that ask for them (VHDS): named `port/authority`, as Envoy asks.

Each answer holds just the one authority, as it was asked, so that two answers never claim one domain and no answer
keeps Envoy from asking for another: a wildcard's routes come once for each host that is called under it. A host that
the mesh does not know has an answer as well, the same as at the end of a whole table. No object has shaped it, so it
has no origins, and delivery knows by this that it may be forgotten.

A domain that begins with an asterisk is a wildcard. An authority that is written so has one all the same, and its
routes are for requests of just this authority: others find no route there, and so Envoy asks for them. For authorities
that end with an asterisk, and for the empty one, no table has anything but its end: there the table answers itself.
"""

from __future__ import annotations

from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.extensions.filters.http.on_demand.v3.on_demand_pb2 import OnDemand
from envoy.extensions.filters.http.set_filter_state.v3.set_filter_state_pb2 import Config as SetFilterState
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy.type.matcher.v3.string_pb2 import StringMatcher

from ostria.engine import Engine, query
from ostria.envoy import routes
from ostria.envoy.fragments import Fragment, fragment
from ostria.envoy.patches import hook
from ostria.envoy.rds import elsewhere, encoded_host, scope_of
from ostria.envoy.route_filters import MESH_ALPN_FILTER
from ostria.envoy.wire import encode, packed
from ostria.mesh.on_demand import homes, is_in_table, parents, spelled, without_port
from ostria.mesh.traits import ClientTraits, Scope


def scope(db: Engine, name: str) -> Scope:
    """What tells clients apart for the answer to one authority."""
    asked = _asked(name)
    return _scope(db, *asked) if asked else Scope()


@query
def _scope(db: Engine, port: int, authority: str) -> Scope:
    name = without_port(authority)
    found = Scope(sidecar=True) | hook.virtual_hosts_scope(db)
    for each in (name, *parents(name)):
        for namespace in sorted(homes(db, each)) or ("",):
            found |= Scope(namespaces=frozenset({namespace} - {""}))
            for host in spelled(db, each, namespace):
                found |= scope_of(db, host, port)
        found |= scope_of(db, f"*.{each}", port)
    return found | scope_of(db, "*", port)


def resource(db: Engine, name: str, client: ClientTraits) -> Fragment | None:
    """The answer to one authority; None for what no virtual host can be made for."""
    asked = _asked(name)
    return _answer(db, *asked, client) if asked else None


def _asked(name: str) -> tuple[int, str] | None:
    """The port and the authority that a name asks for; None for those that the table answers itself."""
    port, _, authority = name.partition("/")
    return (int(port), authority) if port.isdigit() and authority and not authority.endswith("*") else None


@query
def _answer(db: Engine, port: int, authority: str, client: ClientTraits) -> Fragment | None:
    found = _in_table(db, port, without_port(authority), client) or elsewhere(db, str(port), client)
    if found is None:
        return None
    message = VirtualHost.FromString(found.body)
    # Envoy forgets a virtual host by its resource's name, so it is called just that.
    message.name = f"{port}/{authority}"
    message.domains[:] = (authority,)
    body = encode(message)
    if authority.startswith("*"):
        # Envoy asks for an authority in small letters.
        body = routes.only_for(StringMatcher(exact=authority, ignore_case=True), body)
    return fragment(message.name, body, found.origins, found.references)


def _in_table(db: Engine, port: int, name: str, client: ClientTraits) -> Fragment | None:
    """The virtual host of the port's whole table that Envoy would take for a host, but for the last one."""
    for host in spelled(db, name, client.namespace):
        if found := _holding(db, port, host, name, client):
            return found
    for parent in parents(name):
        domain = f"*.{parent}"
        # A wildcard that is declared or that a rule speaks for, and the pods of a headless Service by their names.
        for host in (domain, *spelled(db, parent, client.namespace)):
            if found := _holding(db, port, host, domain, client):
                return found
    return _holding(db, port, "*", "*", client)


def _holding(db: Engine, port: int, host: str, domain: str, client: ClientTraits) -> Fragment | None:
    """The virtual host of a host in the port's whole table, if it holds a domain."""
    if not is_in_table(db, host, port, client):
        return None
    found = encoded_host(db, host, port, scope_of(db, host, port).project(client))
    return found if found is not None and domain in VirtualHost.FromString(found.body).domains else None


# --- listeners ----------------------------------------------------------------------------------------------------


def waiting(made: Fragment) -> Fragment:
    """A listener whose requests wait for their virtual hosts, where a port's table answers them.

    A filter that is off until a route turns it on is left out of a request that began before its route was known. So
    it is on here, and does nothing by itself.
    """
    message = Listener.FromString(made.body)
    changed = False
    for chain in (*message.filter_chains, message.default_filter_chain):
        for each in chain.filters:
            manager = HttpConnectionManager()
            if each.typed_config.Unpack(manager) and manager.rds.route_config_name.isdigit():
                for filter_ in manager.http_filters:
                    if filter_.name == MESH_ALPN_FILTER:
                        filter_.CopyFrom(_ASLEEP)
                manager.http_filters.insert(0, _ON_DEMAND)
                each.typed_config.CopyFrom(packed(manager))
                changed = True
    return fragment(made.name, encode(message), made.origins, made.references) if changed else made


_ASLEEP = HttpFilter(name=MESH_ALPN_FILTER, typed_config=packed(SetFilterState()))
_ON_DEMAND = HttpFilter(name="envoy.filters.http.on_demand", typed_config=packed(OnDemand()))
