"""What every pod of a node stands on: settings, and the few things that the node was given."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

from ostria.base.clock import Clock
from ostria.node.cluster import Cluster, EventSink, Network, StatusSink
from ostria.node.environment import Capacity
from ostria.node.images import Images
from ostria.node.lifecycle import Pace
from ostria.node.roots import Machine
from ostria.node.sandbox import LogLimits
from ostria.node.userns import NodeNamespaces


class Settings(NamedTuple):
    """How a node runs. `second` is how long a second of probes, hooks and grace periods takes: tests make it shorter.

    `host_paths` are the folders of this machine that pods may see (read-only) by hostPath; those of `shared_paths`
    they may change as well: where somebody runs a program in a folder of their own.
    """

    state: pathlib.Path
    node_name: str = "ostria"
    host_ip: str = "127.0.0.1"
    rootless: bool = False
    host_paths: tuple[str, ...] = ()
    shared_paths: tuple[str, ...] = ()
    pace: Pace = Pace()
    log_limits: LogLimits = LogLimits()
    second: float = 1.0

    @property
    def pods(self) -> pathlib.Path:
        """Where pods have their folders."""
        return self.state / "pods"

    @property
    def logs(self) -> pathlib.Path:
        """Where containers' logs are; they stay when the node is taken down."""
        return self.state / "logs"

    @property
    def run(self) -> pathlib.Path:
        """Where the zygote listens."""
        return self.state / "run"


class Ground(NamedTuple):
    """All that a pod's worker needs.

    `images` yields the map as it is now, `service_variables` the variables of services for a namespace.
    """

    settings: Settings
    namespaces: NodeNamespaces
    network: Network
    cluster: Cluster
    statuses: StatusSink
    events: EventSink
    clock: Clock
    machine: Machine
    images: Callable[[], Images] = Images
    service_variables: Callable[[str], Mapping[str, str]] = lambda _: {}


IMAGE_VARIABLES: Mapping[str, str] = {
    "python": sys.executable,
    "ostria": str(pathlib.Path(sys.executable).parent / "ostria"),
}
"""What `${python}` and `${ostria}` stand for in image maps."""


def capacity_of_machine() -> Capacity:
    """What a container without limits may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Capacity(Decimal(os.cpu_count() or 1), Decimal(memory))
