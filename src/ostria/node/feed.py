"""What the API says, told to the pods' network and to the kubelet, in the order that loses no request.

    a pod is deleted -> its endpoints are marked terminating -> the network leads nobody to it -> its containers end

The kubelet hears of the end of a pod only after the network has; a forced end (no grace) is told at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from ostria.base.clock import Clock
from ostria.node.controllers import addressing
from ostria.node.controllers.mirror import Mirror
from ostria.node.controllers.objects import (
    CONFIG_MAP,
    ENDPOINT_SLICE,
    POD,
    SECRET,
    SERVICE,
    Document,
    Key,
    is_deleted,
    key_of,
    uid_of,
)
from ostria.node.controllers.writes import Changed
from ostria.node.host_ports import HostPorts
from ostria.node.kubelet import PodChange
from ostria.node.network.services import EndpointSlice, Service

log = logging.getLogger(__name__)

WITHDRAWAL = 2.0
"""Seconds that a pod's end waits for its endpoints to be withdrawn."""
LINGER = 0.25
"""Seconds that clients have to hear that an endpoint ends, before it does: proxies learn it over the network."""
RETRY = 1.0
"""Seconds after which the network is told again what it did not take."""


class Network(Protocol):
    """The part of the network that is told of Services."""

    async def update(self, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
        """Serve these Services and no others."""

    @property
    def ports(self) -> Mapping[str, int]:
        """The host's port of each node port ("NAMESPACE/SERVICE:PORT"): another one where that is taken."""

    @property
    def refused(self) -> Mapping[str, str]:
        """The node ports ("NAMESPACE/SERVICE:PORT") that could not be had, and why."""


class Feed:
    """See the module; it is the kubelet's `PodSource`.

    `objects_changed` is told of namespaces whose ConfigMaps or Secrets have changed, `ports_changed` of Services whose
    ports of the host have, `port_refused` of those that could not have one, or not the one they name.
    """

    def __init__(self, mirror: Mirror, network: Network, host_ports: HostPorts, node_name: str, clock: Clock) -> None:
        self._mirror = mirror
        self._network = network
        self._host_ports = host_ports
        self._node_name = node_name
        self._clock = clock
        self.objects_changed: Callable[[str], object] = lambda namespace: None
        self.ports_changed: Callable[[Key], object] = lambda key: None
        self.port_refused: Callable[[Key, str], object] = lambda key, why: None
        self._begun = asyncio.Event()
        self._dirty = asyncio.Event()
        self._told = asyncio.Event()
        self._serving: frozenset[str] = frozenset()
        self._ending: set[str] = set()
        self._told_ports: frozenset[tuple[tuple[Key, str], str]] = frozenset()
        self._apply: Callable[[Sequence[PodChange]], object] | None = None
        self._group: asyncio.TaskGroup

    def begin(self) -> None:
        """All that was there at the start is known."""
        self._dirty.set()
        self._begun.set()

    def hear(self, changes: Iterable[Changed]) -> None:
        """Objects have changed."""
        pods: list[PodChange] = []
        for changed in changes:
            document = changed.after if changed.after is not None else changed.before
            if document is None:
                continue
            if changed.kind in (SERVICE, ENDPOINT_SLICE):
                self._dirty.set()
            elif changed.kind in (CONFIG_MAP, SECRET):
                self.objects_changed(key_of(document).namespace)
            elif changed.kind == POD and self._apply is not None and self._is_here(document):
                pods += self._pod(document, changed.after)
        if pods and self._apply is not None:
            self._apply(pods)

    def _is_here(self, pod: Document) -> bool:
        return bool(pod["spec"].get("nodeName") == self._node_name)

    def _pod(self, document: Document, after: Document | None) -> list[PodChange]:
        key, uid = key_of(document), uid_of(document)
        if after is None:
            self._ending.discard(uid)
            return [PodChange(*key, None)]
        if not is_deleted(after) or uid not in self._serving:
            return [PodChange(*key, after)]
        if after["metadata"].get("deletionGracePeriodSeconds", 1) == 0:
            return [PodChange(*key, after)]
        if uid not in self._ending:
            self._ending.add(uid)
            self._group.create_task(self._withdraw(key, uid))
        return []

    async def _withdraw(self, key: Key, uid: str) -> None:
        """Pass on that a pod ends when nobody is led to it any more."""
        try:
            async with asyncio.timeout(WITHDRAWAL):
                while uid in self._serving:
                    await self._told.wait()
        except TimeoutError:
            log.warning("the endpoints of pod %s/%s are not withdrawn in time", *key)
        await self._clock.sleep(LINGER)
        self._ending.discard(uid)
        pod = self._mirror.get(POD, *key)
        if pod is not None and uid_of(pod) == uid and self._apply is not None:
            self._apply([PodChange(*key, pod)])

    async def run(self, apply: Callable[[Sequence[PodChange]], object]) -> None:
        """Pass on the pods of this node, until cancelled."""
        await self._begun.wait()
        async with asyncio.TaskGroup() as self._group:
            self._apply = apply
            apply([PodChange(*key_of(pod), pod) for pod in self._mirror.list(POD) if self._is_here(pod)])
            await asyncio.get_running_loop().create_future()

    async def keep_network(self) -> None:
        """Tell the network what has changed, until cancelled."""
        await self._begun.wait()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._tell()
            except Exception:
                # What stands goes on; one object that cannot be served must not end the node.
                log.exception("the network does not take what it is told")
                await self._clock.sleep(RETRY)
                self._dirty.set()

    async def _tell(self) -> None:
        services = list(self._mirror.list(SERVICE))
        slices = list(self._mirror.list(ENDPOINT_SLICE))
        found = (addressing.slice_of(each) for each in slices)
        await self._network.update(map(addressing.service_of, services), [each for each in found if each is not None])
        self._serving = frozenset(
            str(endpoint["targetRef"].get("uid", ""))
            for each in slices
            for endpoint in each.get("endpoints") or ()
            if endpoint.get("targetRef") and not (endpoint.get("conditions") or {}).get("terminating")
        )
        self._told.set()
        self._told = asyncio.Event()
        changed, refused = await self._host_ports.keep(services)
        for key in sorted(changed):
            self.ports_changed(key)
        for slot in sorted(refused):
            self.port_refused(slot[0], self._host_ports.refused[slot])
            self.ports_changed(slot[0])
        self._tell_of_node_ports(services)

    def _tell_of_node_ports(self, services: Iterable[Document]) -> None:
        """Say of each node port, once, that this machine has another one for it, or none."""
        now: dict[tuple[Key, str], str] = {}
        for service in services:
            key = key_of(service)
            for port in service["spec"].get("ports") or ():
                name, number = f"{'/'.join(key)}:{port['port']}", port.get("nodePort")
                if name in self._network.refused:
                    now[key, name] = f"node port: {self._network.refused[name]}"
                elif number and self._network.ports.get(name, number) != number:
                    found = self._network.ports[name]
                    now[key, name] = f"node port: {number} is taken on this machine, 127.0.0.1:{found} leads here"
        for (key, _), words in sorted(now.items() - self._told_ports):
            self.port_refused(key, words)
        self._told_ports = frozenset(now.items())
