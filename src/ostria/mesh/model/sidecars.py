"""Sidecars: what a workload's proxy is told of the mesh, and what becomes of calls that it knows nothing of."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ostria.base.hosts import matches, overlap
from ostria.mesh.model.routes import ClusterRef, MissingDestination
from ostria.mesh.model.services import Protocol

ANY = ("0.0.0.0", "::")  # noqa: S104 - What a listener spells every address by.


class Import(NamedTuple):
    """Hosts of one namespace ("*" is each): one by name, those under `*.suffix`, or `*`."""

    namespace: str
    host: str

    def covers(self, host: str, namespace: str) -> bool:
        """Whether a host that a namespace declares is among them."""
        return self.namespace in ("*", namespace) and matches(self.host, host)

    def concerns(self, host: str, namespace: str) -> bool:
        """Whether a rule of a namespace for a host, or for a pattern of hosts, speaks of any of them."""
        return self.namespace in ("*", namespace) and overlap(self.host, host)


class Egress(NamedTuple):
    """One listener's share of what a workload may call: the hosts that are imported, less those that are excluded.

    `port` 0 is every port that no other listener of the Sidecar names, unless `bind` is a Unix socket. `proxied` says
    that requests name their host and port themselves (HTTP_PROXY). `captured` is False where the workload connects
    to the listener itself.
    """

    imports: tuple[Import, ...]
    excluded: tuple[Import, ...] = ()
    port: int = 0
    protocol: Protocol = Protocol.AUTO
    bind: str = ""
    captured: bool = True
    proxied: bool = False

    @property
    def is_socket(self) -> bool:
        """Whether it listens on a Unix socket."""
        return self.bind.startswith("unix:")

    @property
    def names_all(self) -> bool:
        """Whether it is connected to for whatever service and port: requests say by themselves which they mean."""
        return self.proxied or self.is_socket

    @property
    def takes_the_rest(self) -> bool:
        """Whether it is for every port that no other listener names."""
        return not self.port and not self.is_socket

    @property
    def address(self) -> str:
        """Where it listens by itself; "" where connections are caught wherever they go."""
        if not self.captured or self.is_socket:
            return self.bind or "127.0.0.1"
        return "" if self.bind in ANY else self.bind

    def covers(self, host: str, namespace: str) -> bool:
        """Whether a host as a namespace declares it is known here."""
        return any(each.covers(host, namespace) for each in self.imports) and not any(
            each.covers(host, namespace) for each in self.excluded
        )

    def concerns(self, hosts: tuple[str, ...], namespace: str) -> bool:
        """Whether a VirtualService of a namespace for these hosts is known here."""
        return any(
            each.concerns(host, namespace)
            for each in self.imports
            for host in hosts
            if not any(gone.covers(host, namespace) for gone in self.excluded)
        )


EVERYTHING = Egress((Import("*", "*"),))
"""What a workload knows that no Sidecar says anything of."""


class OutboundMode(enum.StrEnum):
    """What becomes of a call to what the workload does not know."""

    REGISTRY_ONLY = "registry_only"
    ALLOW_ANY = "allow_any"
    DYNAMIC_DNS = "allow_any_dynamic_dns"  # Requests go to the host that they name, looked up by the proxy.


class OutboundPolicy(NamedTuple):
    """What becomes of calls to what the workload does not know; `proxy` is where they go instead of out."""

    mode: OutboundMode = OutboundMode.ALLOW_ANY
    proxy: ClusterRef | MissingDestination | None = None
