"""A whole node: kubelet, network and controllers over one API, put together.

    the API (one list-watch) -> Mirror -> controllers -> writes -> the API
                                       -> Feed -> network, then kubelet -> statuses, events -> the API

It may be killed at any moment: pods, network and ports of the host go on, and the next one takes them over. `down`
takes everything away.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import pathlib
import platform
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.clock import Clock, SystemClock
from ostria.node import api_relay, kubelet
from ostria.node.api_cluster import ApiCluster
from ostria.node.controllers import addressing, service_accounts
from ostria.node.controllers.api_service import Place
from ostria.node.controllers.load_balancers import PREFERRED
from ostria.node.controllers.mirror import Mirror
from ostria.node.controllers.nodes import Facts
from ostria.node.controllers.objects import CONFIG_MAP, SECRET, SERVICE, WATCHED, Key
from ostria.node.controllers.recorder import Recorder, note_about
from ostria.node.controllers.runner import Runner
from ostria.node.controllers.table import Surroundings, controllers
from ostria.node.controllers.writes import Changed
from ostria.node.feed import Feed
from ostria.node.ground import Ground, capacity_of_machine
from ostria.node.ground import Settings as KubeletSettings
from ostria.node.host_ports import HostPorts
from ostria.node.images import Images
from ostria.node.kubelet import Node
from ostria.node.lease import keep_lease
from ostria.node.network.addresses import Plan
from ostria.node.network.network import Network
from ostria.node.roots import this_machine
from ostria.node.userns import NodeNamespaces
from ostria.resources import Change, Kind
from ostria.sources.access import Access
from ostria.sources.api import Api
from ostria.sources.documents import Documents
from ostria.sources.kubernetes import KubernetesSource
from ostria.sources.reflector import Pace

PACE = Pace(first=0.05, most=1.0, absent=5.0)
"""How soon the API is asked again: it is on this machine, and comes back within seconds."""
CONFIGURATION = 3.0
"""Seconds after which a pod's status, or what it lacks, is tried again; kubelet's ten are a cluster's."""
CONNECTIONS = 8
"""Requests to the API at a time; watches have connections of their own."""
KUBERNETES_VERSION = "v1.33.0"
"""The version whose manners the node has."""


class Settings(NamedTuple):
    """What a person decides about a node.

    `preferred_ports` are the host's ports for ports of LoadBalancers, where they are not the usual ones.
    """

    kubelet: KubeletSettings
    plan: Plan = Plan()
    images: Callable[[], Images] = Images
    allow_host: bool = False
    preferred_ports: Mapping[int, int] = {}
    strict_ports: bool = False

    @property
    def network(self) -> pathlib.Path:
        """Where the network keeps what it has."""
        return self.kubelet.state / "network"


def settings_of(kubelet_settings: KubeletSettings, **more: object) -> Settings:
    """Settings whose pods are told the gateway as their host's address."""
    plan = Plan()
    pace = kubelet_settings.pace
    known = kubelet_settings._replace(
        host_ip=str(plan.gateway[0]), pace=pace._replace(configuration=min(pace.configuration, CONFIGURATION))
    )
    return Settings(known, plan)._replace(**more)  # type: ignore[arg-type]


class Running(NamedTuple):
    """What others may ask of a node that runs: its pods and their network. `synced` is set once it knows the API."""

    node: Node
    network: Network
    mirror: Mirror
    runner: Runner
    host_ports: HostPorts
    synced: asyncio.Event


class _Hub:
    """Takes what has been read and what has been written, and tells everybody."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.runner: Runner
        self.feed: Feed
        self._begun = False

    def apply(self, changes: Sequence[Change]) -> None:
        self.tell(list(self._mirror.apply(changes)))
        if not self._begun:
            self._begun = True
            self.runner.begin()
            self.feed.begin()

    def tell(self, changes: Iterable[Changed]) -> None:
        changes = list(changes)
        self.runner.hear(changes)
        self.feed.hear(changes)


@asynccontextmanager
async def running(settings: Settings, access: Access, clock: Clock | None = None) -> AsyncIterator[Running]:
    """A node that runs for the time of the block; its pods go on after it.

    Raises BlockingIOError if another node works on the folder, userns.Unavailable or NetlinkError if the machine
    refuses, and ExceptionGroup for what fails later.
    """
    clock = clock or SystemClock()
    node_settings = settings.kubelet
    async with AsyncExitStack() as stack:
        stack.enter_context(kubelet.exclusive(node_settings))
        namespaces = NodeNamespaces.open(node_settings.run, rootless=node_settings.rootless)
        stack.callback(namespaces.close)
        network = await stack.enter_async_context(
            Network.create(settings.network, namespaces, settings.plan, allow_host=settings.allow_host)
        )
        api = await stack.enter_async_context(Api(access, connections=CONNECTIONS))
        mirror = Mirror()
        recorder = Recorder(api, clock, node_settings.node_name)
        host_ports = HostPorts(network, {**PREFERRED, **settings.preferred_ports}, strict=settings.strict_ports)
        around = _surroundings(settings, access, host_ports)
        cluster = ApiCluster(api, mirror, recorder, clock)
        node = Node(
            Ground(
                node_settings,
                namespaces,
                network,
                cluster,
                cluster,
                cluster,
                clock,
                this_machine(),
                settings.images,
                lambda namespace: {
                    # Also before the Service is known: a pod that is started without them never has them.
                    "KUBERNETES_SERVICE_HOST": around.api.cluster_ip,
                    "KUBERNETES_SERVICE_PORT": "443",
                    **addressing.variables_of(mirror.list(SERVICE), namespace),
                },
            )
        )
        hub = _Hub(mirror)
        hub.runner = Runner(api, mirror, controllers(around), recorder, clock, hub.tell)
        hub.feed = _feed(mirror, network, host_ports, hub.runner, recorder, node, node_settings.node_name, clock)
        source = KubernetesSource(access, kinds=WATCHED, reading=Documents(_is_head), pace=PACE, clock=clock)
        listener = network.listen(api_relay.PORT)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work, name=name)
                for name, work in (
                    ("network", network.keep()),
                    ("relay", api_relay.relay(listener, access.server)),
                    ("source", source.run(hub.apply)),
                    ("controllers", hub.runner.run()),
                    ("events", recorder.run()),
                    ("services", hub.feed.keep_network()),
                    ("kubelet", node.run(hub.feed)),
                    ("lease", keep_lease(api, mirror, node_settings.node_name, clock)),
                )
            ]
            yield Running(node, network, mirror, hub.runner, host_ports, source.synced)
            for task in tasks:
                task.cancel()


async def down(settings: KubeletSettings) -> None:
    """End every pod, process, namespace, mount and socket of a node that does not run any more; keep the logs."""
    await Network.remove(settings.state / "network")
    kubelet.down(settings)


def _feed(
    mirror: Mirror,
    network: Network,
    host_ports: HostPorts,
    runner: Runner,
    recorder: Recorder,
    node: Node,
    node_name: str,
    clock: Clock,
) -> Feed:
    def refused(key: Key, why: str) -> None:
        service = mirror.get(SERVICE, *key)
        if service is not None:
            recorder.say(note_about(service, "Warning", "HostPortTaken", why, "loadbalancer-controller"))

    feed = Feed(mirror, network, host_ports, node_name, clock)
    feed.objects_changed = node.objects_changed
    feed.ports_changed = lambda key: runner.ask("loadbalancer", key)
    feed.port_refused = refused
    return feed


def _is_head(kind: Kind, key: ObjectKey) -> bool:
    """Of what pods mount it is enough to know that it has changed; the content is asked for when it is wanted."""
    return kind == SECRET or (kind == CONFIG_MAP and key.name != service_accounts.ROOTS)


def _surroundings(settings: Settings, access: Access, host_ports: HostPorts) -> Surroundings:
    plan = settings.plan
    capacity = capacity_of_machine()
    roots = access.authority.read() or b""
    system = platform.freedesktop_os_release() if pathlib.Path("/etc/os-release").exists() else {}
    facts = Facts(
        settings.kubelet.node_name,
        tuple(map(str, plan.gateway)),
        int(capacity.cpu),
        int(capacity.memory),
        plan.capacity,
        (plan.pods_v4, plan.pods_v6),
        {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        f"{KUBERNETES_VERSION}-ostria.{metadata.version('ostria')}",
        {"kernelVersion": os.uname().release, "osImage": system.get("PRETTY_NAME", "Linux")},
    )
    first = ipaddress.ip_network(plan.services_v4)[1]
    place = Place(str(first), str(plan.gateway[0]), api_relay.PORT)
    return Surroundings(facts, roots.decode(), place, host_ports)
