"""A whole node in a test: real namespaces and programs, everything around them in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from ostria.base.clock import SystemClock
from ostria.node import kubelet
from ostria.node.cluster import Token
from ostria.node.ground import Ground, Settings
from ostria.node.images import Images
from ostria.node.kubelet import Node, PodChange
from ostria.node.lifecycle import Pace
from ostria.node.network.network import Network
from ostria.node.pods import Pod, PodKey
from ostria.node.roots import this_machine
from ostria.node.userns import NodeNamespaces

BOUND = 20.0
FAST = Pace(first=0.05, longest=0.4, forgiven=600.0, configuration=0.05)


class NoAddresses(NamedTuple):
    v4: str = "127.0.0.1"
    v6: str = ""


class NoNetwork:
    """Pods that have their loopback only; probes then go to it from within."""

    def __init__(self) -> None:
        self.attached: set[str] = set()

    async def attach(self, pod: str, namespace_fd: int) -> NoAddresses:
        self.attached.add(pod)
        return NoAddresses()

    async def detach(self, pod: str) -> None:
        self.attached.discard(pod)

    def resolv_conf(self, namespace: str) -> str:
        return f"nameserver 10.96.0.10\nsearch {namespace}.svc.cluster.local svc.cluster.local cluster.local\n"


class World:
    """Everything a node asks of its surroundings, and what it has said to them."""

    def __init__(self) -> None:
        self.config_maps: dict[tuple[str, str], Mapping[str, bytes]] = {}
        self.secrets: dict[tuple[str, str], Mapping[str, bytes]] = {}
        self.statuses: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.removed: list[PodKey] = []
        self.events: list[tuple[str, str, str]] = []
        self.tokens = 0
        self.token_seconds = 3600.0
        self._changed = asyncio.Event()
        self._documents: dict[tuple[str, str], dict[str, Any]] = {}
        self._apply: Callable[[Sequence[PodChange]], object] | None = None

    # --- Cluster, StatusSink, EventSink ----------------------------------------------------------------------------

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.config_maps.get((namespace, name))

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return self.secrets.get((namespace, name))

    async def request_token(self, namespace: str, account: str, audience: str, seconds: int, pod: PodKey) -> Token:
        self.tokens += 1
        text = f"{namespace}/{account}/{audience}/{pod.name}#{self.tokens}"
        return Token(text, SystemClock().now() + self.token_seconds)

    async def write_status(self, key: PodKey, status: Mapping[str, Any]) -> None:
        self.statuses[key.name] = dict(status)
        self.history.setdefault(key.name, []).append(dict(status))
        self._changed.set()

    async def remove_pod(self, key: PodKey) -> None:
        self.removed.append(key)
        self.statuses.pop(key.name, None)
        self._changed.set()

    def emit(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        self.events.append((pod.metadata.name, reason, message))
        self._changed.set()

    # --- PodSource -------------------------------------------------------------------------------------------------

    async def run(self, apply: Callable[[Sequence[PodChange]], object]) -> None:
        self._apply = apply
        apply([PodChange(*key, document) for key, document in self._documents.items()])
        await asyncio.Event().wait()

    def put(self, text: str) -> None:
        """Pods as YAML documents; a pod's uid is its name unless it is written."""
        for document in yaml.safe_load_all(text):
            meta = document["metadata"]
            meta.setdefault("namespace", "default")
            meta.setdefault("uid", f"uid-{meta['name']}")
            self._documents[meta["namespace"], meta["name"]] = document
            if self._apply is not None:
                self._apply([PodChange(meta["namespace"], meta["name"], document)])

    def delete(self, name: str, grace: int | None = None) -> None:
        """As an API server does: the object stays, with its end on it, until the node has cleaned up."""
        document = self._documents[("default", name)]
        meta = {**document["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        if grace is not None:
            meta["deletionGracePeriodSeconds"] = grace
        self._documents[("default", name)] = {**document, "metadata": meta}
        assert self._apply is not None
        self._apply([PodChange("default", name, self._documents[("default", name)])])

    def forget(self, name: str) -> None:
        self._documents.pop(("default", name), None)

    # --- what tests wait for ---------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition holds for what has been written; bounded."""
        try:
            async with asyncio.timeout(BOUND):
                while not (value := condition()):
                    self._changed.clear()
                    await self._changed.wait()
                return value
        except TimeoutError:
            raise AssertionError(f"statuses: {self.statuses}\nevents: {self.events}") from None

    async def until_status(self, name: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        await self.until(lambda: name in self.statuses and condition(self.statuses[name]))
        return self.statuses[name]

    async def until_phase(self, name: str, phase: str) -> dict[str, Any]:
        return await self.until_status(name, lambda status: status["phase"] == phase)

    async def until_ready(self, name: str) -> dict[str, Any]:
        return await self.until_status(name, lambda status: condition_of(status, "Ready") == "True")

    async def until_removed(self, name: str) -> None:
        await self.until(lambda: any(key.name == name for key in self.removed))


def condition_of(status: Mapping[str, Any], kind: str) -> str:
    return next(str(each["status"]) for each in status["conditions"] if each["type"] == kind)


def container_of(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    every = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
    return next(each for each in every if each["name"] == name)


def settings_of(folder: pathlib.Path, *, rootless: bool, **more: Any) -> Settings:
    return Settings(folder / "state", rootless=rootless, pace=FAST, second=0.05, **more)


class RunningNode(NamedTuple):
    node: Node
    world: World
    settings: Settings
    namespaces: NodeNamespaces
    network: NoNetwork

    async def logs(self, pod: str, container: str, **options: Any) -> str:
        pieces = [piece async for piece in self.node.read_logs("default", pod, container, **options)]
        return b"".join(pieces).decode()

    async def exec(self, pod: str, container: str, *argv: str) -> tuple[int, str]:
        reading, writing = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            started = self.node.exec("default", pod, container, argv, (nothing, writing, writing))
        finally:
            os.close(writing)
            os.close(nothing)
        code = await started.wait()
        with open(reading, "rb") as output:
            return code, output.read().decode()


@contextlib.asynccontextmanager
async def running_node(
    settings: Settings, world: World, images: Images | None = None, *, keep: bool = False, networked: bool = False
) -> AsyncIterator[RunningNode]:
    """A node over a world; afterwards nothing of it is left unless it is to be kept for the next."""
    namespaces = NodeNamespaces.open(settings.run, rootless=settings.rootless)
    nothing = NoNetwork()
    folder = settings.state / "network"
    try:
        async with contextlib.AsyncExitStack() as stack:
            network = await stack.enter_async_context(Network.create(folder, namespaces)) if networked else nothing
            known = images or Images()
            ground = Ground(
                settings, namespaces, network, world, world, world, SystemClock(), this_machine(), lambda: known
            )
            node = Node(ground)
            async with asyncio.TaskGroup() as group:
                task = group.create_task(node.run(world))
                try:
                    yield RunningNode(node, world, settings, namespaces, nothing)
                finally:
                    task.cancel()
    finally:
        namespaces.close()
        if not keep:
            if networked:
                await Network.remove(folder)
            kubelet.down(settings)
