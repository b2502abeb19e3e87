"""Everything that one proxy is sent, read when it is asked for.

    catalogue (names, fragments) --the bytes--> Holdings --*_wire--> listeners, tables, clusters, endpoints

The fragments are those of the very proxy: what its traits do not tell apart is shared with others, as in delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from ostria.analysis.simulation import clusters_wire, listeners_wire, routes_wire
from ostria.analysis.simulation.model import Listener, Member, RouteTable, Upstream
from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.envoy import catalogue
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.mesh.traits import ClientTraits

T = TypeVar("T")
Find = Callable[[ResourceType, str], Fragment | None]


class Holdings:
    """What a proxy holds. Values are read once; make a new one when the mesh has changed."""

    def __init__(self, listeners: Iterable[str], find: Find) -> None:
        self._names = tuple(listeners)
        self._find = find
        self._read: dict[tuple[ResourceType, str], object] = {}

    @classmethod
    def of_client(cls, db: Engine, client: ClientTraits) -> Holdings:
        """What a proxy with these traits is sent; for one on demand, what its answers are taken from."""
        client = client._replace(on_demand=False)

        def find(kind: ResourceType, name: str) -> Fragment | None:
            return catalogue.fragment(db, kind, name, catalogue.scope(db, kind, name).project(client))

        listing = catalogue.scope(db, ResourceType.LISTENER, "*").project(client)
        return cls(catalogue.names(db, ResourceType.LISTENER, listing), find)

    def listeners(self) -> tuple[Listener, ...]:
        """All listeners."""
        found = (self._value(ResourceType.LISTENER, name, listeners_wire.listener) for name in self._names)
        return tuple(each for each in found if each is not None)

    def table(self, name: str) -> RouteTable | None:
        """The route table of a name."""
        return self._value(ResourceType.ROUTES, name, routes_wire.route_table)

    def upstream(self, name: str) -> Upstream | None:
        """The cluster of a name."""
        return self._value(ResourceType.CLUSTER, name, clusters_wire.upstream)

    def members(self, upstream: Upstream) -> tuple[Member, ...]:
        """The endpoints of a cluster, wherever they come from."""
        if not upstream.assignment:
            return upstream.members
        return self._value(ResourceType.ENDPOINTS, upstream.assignment, clusters_wire.members) or ()

    def origins(self, kind: ResourceType, name: str) -> frozenset[ObjectKey]:
        """The objects that shaped a resource."""
        found = self._find(kind, name)
        return found.origins if found else frozenset()

    def _value(self, kind: ResourceType, name: str, read: Callable[[bytes], T]) -> T | None:
        if (kind, name) not in self._read:
            found = self._find(kind, name)
            self._read[kind, name] = read(found.body) if found else None
        value: Any = self._read[kind, name]  # Each kind has one reader, and so one type.
        return cast("T | None", value)
