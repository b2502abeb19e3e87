"""Patches of route tables, of their virtual hosts and of these' routes.

A table is changed without its virtual hosts, and a virtual host without its table, of which only the name and the ports
count (`Table`): so a rule that changes costs its own virtual host.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any as Untyped
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.envoy.patches.chains import change_routes
from ostria.envoy.patches.compiled import ADD, GATEWAY, REMOVE, REPLACE, Patch
from ostria.envoy.patches.merge import merge
from ostria.resources.envoy_filter import RouteConfigurationMatch, RouteMatch, VirtualHostMatch


class Table(NamedTuple):
    """What of a route table a match can name. `ports` are the numbers that it may go by; the rest is a gateway's.

    A virtual host may stand in the table of its port and in one of its own: then it goes by both `names`.
    """

    names: tuple[str, ...]
    ports: frozenset[int] = frozenset()
    port_name: str = ""
    gateway: str = ""

    @classmethod
    def of_sidecar(cls, *names: str) -> Table:
        """A sidecar's: `80`, `reviews.default.svc.cluster.local:9080`, `inbound|8080||`."""
        numbers = (name.split("|")[1] if name.startswith("inbound|") else name.rpartition(":")[2] for name in names)
        return cls(names, frozenset(int(number) for number in numbers if number.isdigit()))

    @classmethod
    def of_gateway(cls, name: str, ports: Iterable[int] = ()) -> Table:
        """A gateway's: `http.8080`, `https.443.https.bookinfo-gateway.default`; `ports` are its Service's."""
        protocol, _, rest = name.partition(".")
        number, _, rest = rest.partition(".")
        own = frozenset({int(number)}) if number.isdigit() else frozenset()
        if protocol != "https":
            return cls((name,), frozenset(ports) or own)
        rest, _, namespace = rest.rpartition(".")
        port_name, _, gateway = rest.rpartition(".")
        return cls((name,), frozenset(ports) | own, port_name, f"{namespace}/{gateway}")


def patch_table(head: Untyped, table: Table, patches: Iterable[Patch], context: str) -> set[ObjectKey]:
    """Change a table that holds none of its virtual hosts yet; whose patches have."""
    origins: set[ObjectKey] = set()
    for patch in _of(patches, "ROUTE_CONFIGURATION", table, context):
        if patch.merges:
            merge(head, patch.value, replace_lists=patch.replaces_lists)
            origins.add(patch.origin)
    for patch in _of(patches, "VIRTUAL_HOST", table, context):
        if patch.operation == ADD:
            head.virtual_hosts.add().CopyFrom(patch.value)
            origins.add(patch.origin)
    return origins


def patch_virtual_host(
    host: Untyped, table: Table, patches: Iterable[Patch], context: str
) -> tuple[bool, set[ObjectKey]]:
    """Change a virtual host; whether it stays, and whose patches have changed it."""
    origins: set[ObjectKey] = set()
    for patch in _of(patches, "VIRTUAL_HOST", table, context):
        if patch.operation == ADD or not is_for_host(_host_of(patch), host):
            continue
        origins.add(patch.origin)
        if patch.operation == REMOVE:
            return False, origins
        if patch.operation == REPLACE:
            host.CopyFrom(patch.value)
        elif patch.merges:
            merge(host, patch.value, replace_lists=patch.replaces_lists)
    _patch_routes(host, [*_of(patches, "HTTP_ROUTE", table, context)], origins)
    return True, origins


def _patch_routes(host: Untyped, patches: list[Patch], origins: set[ObjectKey]) -> None:
    patches = [patch for patch in patches if is_for_host(_host_of(patch), host)]
    removed: list[int] = []
    for at, route in enumerate(host.routes):
        for patch in patches:
            if not is_for_route(_route_of(patch), route):
                continue
            if patch.operation == REMOVE:
                removed.append(at)
                origins.add(patch.origin)
                break
            if patch.merges:
                merge(route, patch.value, replace_lists=patch.replaces_lists)
                origins.add(patch.origin)
    for at in reversed(removed):
        del host.routes[at]
    for patch in patches:
        if patch.operation == REMOVE or patch.merges:
            continue
        wanted = _route_of(patch)
        named = None if wanted is None else lambda route, wanted=wanted: is_for_route(wanted, route)
        if change_routes(host, patch, named):
            origins.add(patch.origin)


def is_for_table(match: RouteConfigurationMatch | None, table: Table, context: str) -> bool:
    """Whether a match is for a table."""
    if match is None:
        return True
    if match.port_number and match.port_number not in table.ports:
        return False
    if match.name and match.name not in table.names:
        return False
    if context != GATEWAY:
        return True
    if match.port_name and match.port_name != table.port_name:
        return False
    return not match.gateway or match.gateway == table.gateway


def is_for_host(match: VirtualHostMatch | None, host: Untyped) -> bool:
    """Whether a match is for a virtual host."""
    if match is None:
        return True
    return match.name in ("", host.name) and (not match.domain_name or match.domain_name in host.domains)


def is_for_route(match: RouteMatch | None, route: Untyped) -> bool:
    """Whether a match is for a route."""
    if match is None:
        return True
    action = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}.get(match.action)
    return match.name in ("", route.name) and (action is None or route.WhichOneof("action") == action)


def _of(patches: Iterable[Patch], apply_to: str, table: Table, context: str) -> Iterable[Patch]:
    for patch in patches:
        meant = patch.apply_to == apply_to and patch.is_for(context)
        if meant and is_for_table(patch.match.route_configuration, table, context):
            yield patch


def _host_of(patch: Patch) -> VirtualHostMatch | None:
    match = patch.match.route_configuration
    return match.vhost if match is not None else None


def _route_of(patch: Patch) -> RouteMatch | None:
    match = _host_of(patch)
    return match.route if match is not None else None
