"""Keeps the ports of the host open that Services of type LoadBalancer are reached by."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from ostria.node.controllers.load_balancers import exposures
from ostria.node.controllers.objects import Document, Key
from ostria.node.network.inbound import Exposure, PortTaken

log = logging.getLogger(__name__)


class Gate(Protocol):
    """The part of the network that opens ports."""

    async def expose(self, exposure: Exposure) -> int:
        """Open a port; the port that it is. Raises PortTaken."""

    async def withdraw(self, name: str) -> None:
        """Close it."""


class HostPorts:
    """What is open. `preferred` are the host's ports for some of Services' ports; `strict`: these or none."""

    def __init__(self, gate: Gate, preferred: Mapping[int, int], *, strict: bool) -> None:
        self._gate = gate
        self._preferred = preferred
        self._strict = strict
        self._open: dict[tuple[Key, int], tuple[Exposure, int]] = {}
        self.refused: dict[tuple[Key, int], str] = {}
        """Why some are not open; they are tried again with each `keep`."""

    def opened(self) -> dict[Key, dict[int, int]]:
        """The host's port of each port of each Service."""
        found: dict[Key, dict[int, int]] = {}
        for (key, number), (_, port) in self._open.items():
            found.setdefault(key, {})[number] = port
        return found

    async def keep(self, services: Iterable[Document]) -> tuple[set[Key], set[tuple[Key, int]]]:
        """Open and close; the Services whose ports have changed, and the ports that have newly been refused."""
        wanted = exposures(services, self._preferred, strict=self._strict)
        changed: set[Key] = set()
        newly_refused: set[tuple[Key, int]] = set()
        for slot in [slot for slot, (held, _) in self._open.items() if wanted.get(slot) != held]:
            held, _ = self._open.pop(slot)
            changed.add(slot[0])
            if slot not in wanted:
                await self._gate.withdraw(held.name)
        for slot in [slot for slot in self.refused if slot not in wanted]:
            del self.refused[slot]
        for slot, exposure in wanted.items():
            if slot in self._open:
                continue
            try:
                port = await self._gate.expose(exposure)
            except PortTaken as error:
                if slot not in self.refused:
                    log.error("%s is not reachable: %s", exposure.name, error)
                    newly_refused.add(slot)
                self.refused[slot] = str(error)
                continue
            self.refused.pop(slot, None)
            self._open[slot] = (exposure, port)
            changed.add(slot[0])
        return changed, newly_refused
