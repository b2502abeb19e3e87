"""Patches of listeners, and of what is in them: listener filters, filter chains, network filters, HTTP filters.

Within one listener the order is Istio's: the listener itself, its filters, then each chain; in a chain first what adds
and removes filters and then what merges into them, and the same for the HTTP filters within.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any as Untyped

from ostria.base import ObjectKey
from ostria.envoy.inbound import VIRTUAL_INBOUND
from ostria.envoy.listeners import VIRTUAL_OUTBOUND
from ostria.envoy.patches.chains import CONNECTION_MANAGER, ROUTER, TCP_PROXY, Filters, merge_filter
from ostria.envoy.patches.compiled import ADD, ANY, INBOUND, REMOVE, Patch
from ostria.envoy.patches.merge import merge, merge_any
from ostria.envoy.patches.routes import Table, patch_table, patch_virtual_host
from ostria.envoy.wire import packed
from ostria.resources.envoy_filter import FilterChainMatch, FilterMatch, ListenerMatch
from ostria.resources.patch_wire import message_of

VIRTUAL = (VIRTUAL_INBOUND, VIRTUAL_OUTBOUND)
_RENAMED_MANAGER = "envoy.http_connection_manager"
_TERMINAL = (CONNECTION_MANAGER, TCP_PROXY)
_ROUTES = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")


def patch_listener(listener: Untyped, patches: Sequence[Patch], context: str) -> tuple[bool, set[ObjectKey]]:
    """Change a listener; whether it stays, and whose patches have changed it."""
    return _Patching(listener, [patch for patch in patches if patch.is_for(context)], context).run()


def added(patches: Sequence[Patch], context: str) -> list[Patch]:
    """The patches that add a listener; those for any context add it once, where a proxy sends."""
    return [
        patch
        for patch in patches
        if patch.apply_to == "LISTENER"
        and patch.operation == ADD
        and patch.is_for(context)
        and not (context == INBOUND and patch.match.context == ANY)
    ]


class _Patching:
    """One listener while it is changed."""

    def __init__(self, listener: Untyped, patches: Sequence[Patch], context: str) -> None:
        self.listener = listener
        self.context = context
        self.origins: set[ObjectKey] = set()
        self.by_target: dict[str, list[Patch]] = {}
        for patch in patches:
            if patch.apply_to in _ROUTES or is_for_listener(patch, listener):
                self.by_target.setdefault(patch.apply_to, []).append(patch)

    def of(self, apply_to: str) -> list[Patch]:
        """The patches of one target that are for this listener."""
        return self.by_target.get(apply_to, [])

    def run(self) -> tuple[bool, set[ObjectKey]]:
        """Change it."""
        for patch in self.of("LISTENER"):
            if patch.operation == REMOVE:
                return False, self.origins | {patch.origin}
            if patch.merges:
                merge(self.listener, patch.value, replace_lists=patch.replaces_lists)
                self.origins.add(patch.origin)
        self._listener_filters()
        self._chains()
        return True, self.origins

    def _listener_filters(self) -> None:
        patches = self.of("LISTENER_FILTER")
        if not patches:
            return
        filters = Filters(self.listener.listener_filters)
        for patch in patches:
            name = patch.match.listener.listener_filter if patch.match.listener else ""
            if patch.merges:
                for each in filters.list:
                    if name and each.name == name and merge_filter(each, patch, named=True):
                        self.origins.add(patch.origin)
            elif filters.change(patch, name):
                self.origins.add(patch.origin)
        filters.store()

    def _chains(self) -> None:
        listener = self.listener
        kept = [chain for chain in listener.filter_chains if self._chain(chain)]
        if len(kept) != len(listener.filter_chains):
            kept = [_copy(chain) for chain in kept]
            del listener.filter_chains[:]
            listener.filter_chains.extend(kept)
        if listener.HasField("default_filter_chain") and not self._chain(listener.default_filter_chain):
            listener.ClearField("default_filter_chain")
        for patch in self.of("FILTER_CHAIN"):
            if patch.operation == ADD:
                listener.filter_chains.add().CopyFrom(patch.value)
                self.origins.add(patch.origin)

    def _chain(self, chain: Untyped) -> bool:
        for patch in self.of("FILTER_CHAIN"):
            if patch.operation == ADD or not is_for_chain(patch, self.listener, chain):
                continue
            self.origins.add(patch.origin)
            if patch.operation == REMOVE:
                return False
            _merge_chain(chain, patch)
        self._network_filters(chain)
        return True

    def _network_filters(self, chain: Untyped) -> None:
        patches = [patch for patch in self.of("NETWORK_FILTER") if is_for_chain(patch, self.listener, chain)]
        if any(not patch.merges for patch in patches):
            filters = Filters(chain.filters, _TERMINAL)
            for patch in patches:
                if not patch.merges and filters.change(patch, _filter_name(patch)):
                    self.origins.add(patch.origin)
            filters.store()
        for each in chain.filters:
            for patch in patches:
                name = _filter_name(patch)
                if patch.merges and name in ("", each.name) and merge_filter(each, patch, named=bool(name)):
                    self.origins.add(patch.origin)
            if each.name == CONNECTION_MANAGER:
                self._connection_manager(chain, each)

    def _connection_manager(self, chain: Untyped, filter_: Untyped) -> None:
        patches = [
            patch
            for patch in self.of("HTTP_FILTER")
            if is_for_chain(patch, self.listener, chain) and _filter_name(patch) in ("", filter_.name)
        ]
        routes = [patch for target in _ROUTES for patch in self.of(target)]
        if not patches and not routes:
            return
        manager = message_of(filter_.typed_config)
        if manager is None:
            return
        if patches:
            self._http_filters(manager, patches)
        if routes and manager.HasField("route_config"):
            self._inline_routes(manager.route_config, routes)
        filter_.typed_config.CopyFrom(packed(manager))

    def _http_filters(self, manager: Untyped, patches: list[Patch]) -> None:
        filters = Filters(manager.http_filters, (ROUTER,))
        for patch in patches:
            if not patch.merges and filters.change(patch, _sub_filter_name(patch)):
                self.origins.add(patch.origin)
        for each in filters.list:
            for patch in patches:
                name = _sub_filter_name(patch)
                if patch.merges and name in ("", each.name) and merge_filter(each, patch, named=bool(name)):
                    self.origins.add(patch.origin)
        filters.store()

    def _inline_routes(self, table: Untyped, patches: list[Patch]) -> None:
        """The routes to the workload itself stand in the listener and not in a table of their own."""
        facts = Table.of_sidecar(table.name)
        gone = []
        for at, host in enumerate(table.virtual_hosts):
            stays, origins = patch_virtual_host(host, facts, patches, self.context)
            self.origins |= origins
            if not stays:
                gone.append(at)
        for at in reversed(gone):
            del table.virtual_hosts[at]
        self.origins |= patch_table(table, facts, patches, self.context)


def is_for_listener(patch: Patch, listener: Untyped) -> bool:
    """Whether a patch is for a listener.

    In the two that catch everything a port is a chain's, so it is looked at there.
    """
    match = patch.match.listener
    if match is None:
        return True
    if match.name and match.name != listener.name:
        return False
    if patch.apply_to != "LISTENER" and listener.name in VIRTUAL:
        return True
    return match.port_number in (0, listener.address.socket_address.port_value)


def is_for_chain(patch: Patch, listener: Untyped, chain: Untyped) -> bool:
    """Whether a patch that is for a listener is for one of its chains."""
    match = patch.match.listener
    if match is None:
        return True
    found = chain.filter_chain_match
    if listener.name in VIRTUAL and match.port_number not in (0, found.destination_port.value):
        return False
    return _chain_matches(match.filter_chain, chain)


def _chain_matches(wanted: FilterChainMatch | None, chain: Untyped) -> bool:
    if wanted is None:
        return True
    found = chain.filter_chain_match
    protocols = [name.strip() for name in wanted.application_protocols.split(",")]
    return (
        wanted.name in ("", chain.name)
        and (not wanted.sni or wanted.sni in found.server_names)
        and wanted.transport_protocol in ("", found.transport_protocol)
        and (not wanted.application_protocols or all(name in found.application_protocols for name in protocols))
        and wanted.destination_port in (0, found.destination_port.value)
    )


def place(match: ListenerMatch | None) -> str:
    """The port that a match names, else the listener's name, else "": it may be for any."""
    if match is None:
        return ""
    return place_of(match.name) if match.name else str(match.port_number or "")


def place_of(name: str) -> str:
    """The port in a listener's name, or the whole name where there is none."""
    port = name.rpartition("_")[2]
    return port if port.isdigit() else name


def _merge_chain(chain: Untyped, patch: Patch) -> None:
    """Merge into a chain; a transport socket of the same name is changed and not replaced."""
    value = patch.value
    both = value.HasField("transport_socket") and chain.HasField("transport_socket")
    if both and value.transport_socket.name == chain.transport_socket.name:
        rest = patch.copy()
        rest.ClearField("transport_socket")
        merge(chain, rest, replace_lists=patch.replaces_lists)
        merge_any(
            chain.transport_socket.typed_config,
            value.transport_socket.typed_config,
            replace_lists=patch.replaces_lists,
        )
    else:
        merge(chain, value, replace_lists=patch.replaces_lists)


def _filter(patch: Patch) -> FilterMatch | None:
    match = patch.match.listener
    return match.filter_chain.filter if match is not None and match.filter_chain is not None else None


def _filter_name(patch: Patch) -> str:
    wanted = _filter(patch)
    name = wanted.name if wanted is not None else ""
    return CONNECTION_MANAGER if name == _RENAMED_MANAGER else name


def _sub_filter_name(patch: Patch) -> str:
    wanted = _filter(patch)
    return wanted.sub_filter.name if wanted is not None and wanted.sub_filter is not None else ""


def _copy(message: Untyped) -> Untyped:
    made = type(message)()
    made.CopyFrom(message)
    return made
