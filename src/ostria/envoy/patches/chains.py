"""Lists of named filters and routes, and where something new goes among them.

A connection's filters end with the one that handles it (`terminal`), and a request's with the router: nothing that is
added without a place of its own goes behind these, where it would never run and Envoy would refuse it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any as Untyped

from ostria.envoy.patches.compiled import ADD, AFTER, BEFORE, FIRST, REMOVE, REPLACE, Patch
from ostria.envoy.patches.merge import merge_any

ROUTER = "envoy.filters.http.router"
CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
TCP_PROXY = "envoy.filters.network.tcp_proxy"

AUTHN, AUTHZ, STATS = 1, 2, 3
CLASSES = {"AUTHN": AUTHN, "AUTHZ": AUTHZ, "STATS": STATS}
# What the mesh itself puts into a request's filters, by what it is for; all others have no class.
_OURS = {
    "envoy.filters.http.jwt_authn": AUTHN,
    "envoy.filters.http.rbac": AUTHZ,
    "envoy.filters.http.ext_authz": AUTHZ,
    "envoy.filters.network.rbac": AUTHZ,
    "envoy.filters.network.ext_authz": AUTHZ,
}


class Filters:
    """A list of filters while patches change it: of a listener, a connection, or (`classes`) a request."""

    def __init__(self, items: Untyped, terminal: tuple[str, ...] = ()) -> None:
        self._items = items
        self._terminal = terminal
        self.list = [_copy(item) for item in items]
        # The classes of what was put in here, by position.
        self._ranks: list[float] = [_OURS.get(item.name, 0) for item in self.list]

    def store(self) -> None:
        """Write the list back to where it was taken from."""
        del self._items[:]
        self._items.extend(self.list)

    def insert(self, at: int, item: Untyped, rank: float = 0) -> None:
        """Put an item in."""
        self.list.insert(at, item)
        self._ranks.insert(at, rank)

    def end(self) -> int:
        """Behind everything that may have something behind it."""
        last = bool(self.list) and self.list[-1].name in self._terminal
        return len(self.list) - last

    def after_class(self, rank: float) -> int:
        """Behind all filters of this class and of those before it; the front, where there is none."""
        found = [at for at, known in enumerate(self._ranks) if 0 < known <= rank]
        return found[-1] + 1 if found else 0

    def change(self, patch: Patch, name: str) -> bool:
        """Apply what is no merge; `name` is that of the filter that the patch names, "" for none. Whether it did."""
        found = next((at for at, item in enumerate(self.list) if name and item.name == name), None)
        if patch.operation == ADD:
            rank = CLASSES.get(patch.filter_class, 0) if patch.apply_to == "HTTP_FILTER" else 0
            self.insert(self.after_class(rank) if rank else self.end(), patch.copy(), rank)
        elif patch.operation == FIRST or (patch.operation == BEFORE and not name):
            self.insert(0, patch.copy())
        elif patch.operation == AFTER and not name:
            self.insert(self.end(), patch.copy())
        elif found is None:
            return False
        elif patch.operation == BEFORE:
            self.insert(found, patch.copy())
        elif patch.operation == AFTER:
            self.insert(found + 1, patch.copy())
        elif patch.operation == REPLACE:
            self.list[found] = patch.copy()
        elif patch.operation == REMOVE:
            kept = [at for at, item in enumerate(self.list) if item.name != name]
            self.list, self._ranks = [self.list[at] for at in kept], [self._ranks[at] for at in kept]
        else:
            return False
        return True


def merge_filter(filter_: Untyped, patch: Patch, *, named: bool) -> bool:
    """Merge a patch into one filter; `named` says that the patch names it.

    One that names none changes the filters whose configuration is of its type: a name alone says too little.
    """
    if not filter_.HasField("typed_config"):
        return False
    wanted = patch.value
    if wanted.HasField("typed_config"):
        if not merge_any(filter_.typed_config, wanted.typed_config, replace_lists=patch.replaces_lists):
            return False
    elif not named:
        return False
    if wanted.name and named:
        filter_.name = wanted.name
    return True


def change_routes(host: Untyped, patch: Patch, is_named: Callable[[Untyped], bool] | None) -> bool:
    """Add or insert a route; `is_named` tells the route that the patch names, None if it names none."""
    routes = list(host.routes)
    found = next((at for at, route in enumerate(routes) if is_named is not None and is_named(route)), None)
    if patch.operation == ADD or (patch.operation == AFTER and is_named is None):
        at = len(routes)
    elif patch.operation in (BEFORE, FIRST) and is_named is None:
        at = 0
    elif found is None or patch.operation not in (BEFORE, AFTER, FIRST):
        return False
    else:
        at = {BEFORE: found, AFTER: found + 1, FIRST: 0}[patch.operation]
    routes.insert(at, patch.copy())
    del host.routes[:]
    host.routes.extend(routes)
    return True


def _copy(item: Untyped) -> Untyped:
    made = type(item)()
    made.CopyFrom(item)
    return made
