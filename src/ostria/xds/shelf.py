"""What a state-of-the-world client holds of the types that are always sent as a whole.

In a response of listeners or clusters everything that is not there is removed
(https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol, "Grouping Resources into Responses"). So what a
delta client would be sent is laid upon what this client has, and the whole is sent: what must wait stays as it was, and
what is not to go yet stays there, also when nobody else can tell any more what it was.

Of the other types a response holds what is due; a name that is not there is as it was. What is not there any more has
no word in it: the client lets go of it when nothing refers to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ostria.envoy.fragments import ResourceType

WHOLE = frozenset({ResourceType.CLUSTER, ResourceType.LISTENER})
"""The types of which a response says everything."""


class Shelf:
    """The encoded entries that one client has accepted, and those that it is being offered, by type and name."""

    __slots__ = ("_accepted", "_offered")

    def __init__(self) -> None:
        self._accepted: dict[ResourceType, dict[str, bytes]] = {type: {} for type in WHOLE}
        self._offered: dict[ResourceType, dict[str, bytes]] = {type: {} for type in WHOLE}

    def offer(
        self, type: ResourceType, changed: Iterable[tuple[str, bytes]], removed: Iterable[str]
    ) -> Iterable[bytes]:
        """What a response consists of that brings the changed and takes the removed."""
        if type not in WHOLE:
            return [entry for _, entry in changed]
        offered = self._accepted[type] | dict(changed)
        for name in removed:
            offered.pop(name, None)
        self._offered[type] = offered
        return offered.values()

    def accept(self, type: ResourceType) -> None:
        """The client has taken what it was offered."""
        if type in WHOLE:
            self._accepted[type] = self._offered[type]

    def forget(self, type: ResourceType, names: Iterable[str]) -> None:
        """The client no longer wants these."""
        for name in names if type in WHOLE else ():
            self._accepted[type].pop(name, None)
            self._offered[type].pop(name, None)

    def offered(self, type: ResourceType) -> tuple[str, ...]:
        """The names in the last response of a whole type, in its order."""
        return tuple(self._offered[type])
