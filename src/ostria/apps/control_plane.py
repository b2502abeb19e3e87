"""The control plane as one value: objects in at one end, proxies' streams at the other.

    source -> Store -> engine -> Delivery -> Server
                ^                   |
                +-- quarantine -----+--> verdicts -> Desk -> written onto the objects

Everything that istiod does for proxies is put together here, for the process (`istiod`) and for tests alike.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grpc
import msgspec

from ostria.analysis import findings
from ostria.apps.bootstrap_service import BootstrapService
from ostria.apps.key_sets import KeySets, KeySettings
from ostria.apps.modules import Modules
from ostria.base import ObjectKey, Problem
from ostria.controllers.addresses import address_writes
from ostria.controllers.gateway_deployments import deployment_writes
from ostria.controllers.gateway_statuses import gateway_status_writes
from ostria.controllers.ingresses import ingress_writes
from ostria.controllers.refusals import PACE, verdict_writes
from ostria.controllers.trust_bundles import trust_bundle_writes
from ostria.controllers.webhook_bundles import webhook_bundle_writes
from ostria.controllers.writer import Desk, Writer
from ostria.engine import Engine, Epoch, query
from ostria.envoy import catalogue, proxyless
from ostria.envoy.fragments import ResourceType
from ostria.identity.trust_bundle import trust_bundle_input
from ostria.mesh.attachments import asked_of_nodes
from ostria.mesh.clients import traits_of
from ostria.mesh.settings import Settings, settings, settings_input
from ostria.mesh.traits import ClientTraits
from ostria.resources import KINDS, Change, Store
from ostria.resources.discovery import Discovery
from ostria.sources import Source
from ostria.xds import Catalogue, Delivery, Identity, Node, Verifier
from ostria.xds.refusal import is_about_a_file
from ostria.xds.server import Address, Server

log = logging.getLogger("ostria.istiod")

ENFORCED = "enforced"
"""The message of the line that is logged once proxies have accepted a change: `objects`, `proxies`, `milliseconds`."""
ENFORCED_BOUND = 10.0
"""For so many seconds proxies are waited for before the next change is told of."""


@query
def proxy_traits(db: Engine, identity: Identity, node: Node) -> ClientTraits | None:
    """What tells a proxy from others: facts of its token's pod.

    What it says of itself is asked for only where an EnvoyFilter does, and decides which of its patches are meant. And
    a client without a proxy says so: it is sent what its pod's proxy would be, in other shapes.
    """
    pod = ObjectKey(identity.cluster or settings(db).cluster, "Pod", identity.namespace, identity.pod)
    asked = asked_of_nodes(db)
    said = _texts(node) if asked.version or asked.metadata or _GENERATOR in node.metadata else {}
    metadata = tuple(sorted(pair for pair in said.items() if pair in asked.metadata))
    traits = traits_of(db, pod, said.get("ISTIO_VERSION", "") if asked.version else "", metadata)
    if traits is None:
        return None
    # Envoy asks for virtual hosts in delta only.
    traits = traits._replace(on_demand=traits.on_demand and not node.whole)
    return traits._replace(proxyless=True) if said.get(_GENERATOR) == proxyless.GENERATOR else traits


_GENERATOR = "GENERATOR"


def _texts(node: Node) -> dict[str, str]:
    """A node's metadata as far as it is text."""
    try:
        metadata = msgspec.json.decode(node.metadata or "{}", type=dict[str, object])
    except msgspec.DecodeError:
        return {}
    return {name: value for name, value in metadata.items() if isinstance(value, str)}


def spare_the_collector() -> None:
    """Keep Python's cycle collector from reading the whole model again and again.

    What is known now stays for long, and the engine frees what it forgets by itself: the values of a mesh hold no
    cycles. Left alone, the collector took more than half of the time to generate a mesh of 10,000 services.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


class _Batch(NamedTuple):
    """What was changed of the mesh's own objects by one epoch, and when (of a steady clock, in seconds)."""

    epoch: int
    keys: tuple[ObjectKey, ...]
    at: float


def _names(batch: _Batch) -> list[str]:
    return [f"{key.kind} {key.namespace}/{key.name}" for key in batch.keys]


class Enforced(NamedTuple):
    """How far a batch of changes has come: the epoch that it made, and how many proxies it concerned."""

    epoch: int
    proxies: int


class ControlPlane:
    """One mesh: `run` it in a task; `serving` is set once proxies are answered, at `server.ports`.

    Without a writer nothing is written back, without `modules` no WebAssembly module is fetched, and without `keys` no
    issuer's keys.
    `services` are other gRPC services of the same ports; who is in `woken` is told that something may have changed.
    """

    def __init__(
        self,
        source: Source,
        verify: Verifier,
        addresses: Sequence[Address],
        *,
        settings: Settings = Settings(),  # noqa: B008 - frozen.
        envoy_version: str = "",
        writer: Writer | None = None,
        engine: Engine | None = None,
        services: Sequence[grpc.GenericRpcHandler] = (),
        modules: bool = False,
        woken: Sequence[Callable[[], object]] = (),
        keys: KeySettings | None = None,
    ) -> None:
        self._woken = woken
        # The log is for whoever looks into a running istiod: what has just run, not a megabyte of it.
        self.db = engine or Engine(log_size=1_000)
        config_map = f"istio-{settings.revision}" if settings.revision else "istio"
        discovery = Discovery(settings.root_namespace, config_map)
        self.store = Store(self.db, envoy_version=envoy_version, discovery=discovery)
        with self.db.write() as write:
            write.set(settings_input, "", settings)
        self._source = source
        self._changed: dict[ObjectKey, int] = {}
        delivery = Delivery(
            self.db,
            Catalogue(catalogue.names, catalogue.scope, catalogue.fragment),
            proxy_traits,
            self.store,
            self,
            changed=lambda key: self._changed.get(key, 0),
            on_demand=lambda traits: traits.on_demand,
        )
        self.delivery = delivery
        self._fetched: list[Modules | KeySets] = [Modules(self.db, self._push)] if modules else []
        if keys is not None:
            self._fetched.append(KeySets(self.db, self._push, keys))
        services = (*services, BootstrapService(self.db, verify, proxy_traits))
        self.server = Server(delivery, verify, addresses, handlers=services)
        self._watched: asyncio.Queue[_Batch] = asyncio.Queue()
        self._desks: list[Desk] = []
        if writer:
            self._desks = [
                Desk(self.db, verdict_writes, writer, pace=PACE),
                Desk(self.db, address_writes, writer),
                Desk(self.db, trust_bundle_writes, writer),
                Desk(self.db, webhook_bundle_writes, writer),
                Desk(self.db, ingress_writes, writer),
                Desk(self.db, gateway_status_writes, writer),
                Desk(self.db, deployment_writes, writer),
            ]
        self.serving = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled. Proxies are answered once everything that was there at the start is known."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._source.run(self.apply))
            await self._source.synced.wait()
            spare_the_collector()
            for desk in self._desks:
                group.create_task(desk.run())
            for each in self._fetched:
                group.create_task(each.run())
            for each in self._fetched:
                await each.first_tried()
            async with self.server:
                self.serving.set()
                log.info("serving proxies", extra={"ports": self.server.ports})
                await self._tell_enforced()

    def apply(self, batch: Sequence[Change]) -> Epoch:
        """Take changes; what follows from them is on its way to the proxies when this returns."""
        epoch = self.store.apply(batch)
        if epoch.changed:
            self._changed |= {change.key: epoch.number for change in batch}
        if self.serving.is_set():
            keys = tuple(change.key for change in batch if KINDS[change.key.kind].ours) if epoch.changed else ()
            if keys:
                # Before the push: what it leads to is to be counted.
                self._watched.put_nowait(_Batch(epoch.number, keys, time.monotonic()))
            self.server.push()
        self._wake()
        return epoch

    def trust(self, roots: str) -> None:
        """State the mesh's roots (PEM), which every namespace is given and every proxy checks its peers against."""
        with self.db.write() as write:
            write.set(trust_bundle_input, "", roots)
        self._wake()

    def _push(self) -> None:
        if self.serving.is_set():
            self.server.push()

    def _wake(self) -> None:
        for each in self._fetched:
            each.wake()
        for desk in self._desks:
            desk.wake()
        for wake in self._woken:
            wake()

    async def wait_enforced(self, epoch: int) -> Enforced:
        """Wait until every proxy that an epoch concerns has accepted what follows from it."""
        state = await self.server.wait_enforced(epoch)
        return Enforced(epoch, state.concerned)

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with the mesh now."""
        return findings(self.db)

    async def _tell_enforced(self) -> None:
        """Log when the proxies have accepted what people have changed: a line a batch, which `ostria up` shows them."""
        while True:
            batch = await self._watched.get()
            try:
                async with asyncio.timeout(ENFORCED_BOUND):
                    enforced = await self.wait_enforced(batch.epoch)
            except TimeoutError:
                log.warning("some proxies have not accepted a change yet", extra={"objects": _names(batch)})
                continue
            milliseconds = round((time.monotonic() - batch.at) * 1000, 1)
            log.info(
                ENFORCED,
                extra={"objects": _names(batch), "proxies": enforced.proxies, "milliseconds": milliseconds},
            )

    # --- verdicts --------------------------------------------------------------------------------------------

    def convict(self, key: ObjectKey, message: str) -> None:
        """Envoy has refused what an object leads to; the Store holds it back and the desk writes it down."""
        log.warning("set aside: Envoy refuses what it leads to", extra={"object": str(key), "reason": message})
        self._wake()

    def set_aside(self, type: ResourceType, name: str, message: str) -> None:
        """Envoy has refused a resource for which no object can be blamed: a defect of ours, or a file that it lacks."""
        if is_about_a_file(message):
            log.warning("a proxy lacks a file that others have", extra={"resource": name, "reason": message})
        else:
            log.error("a resource was refused that no object explains", extra={"resource": name, "reason": message})
