"""What may differ between the proxies that one resource is made for, and nothing else.

A client's traits are the facts of it that some live object could tell apart. A scope says which of them one
resource does tell apart; projecting the traits on it gives the variant's key, so that proxies that get the same
bytes share one value in the engine:

    traits of a proxy --scope(resource).project--> the part that matters --> one fragment for all who share it
"""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeVar

from ostria.base import ObjectKey

T = TypeVar("T")
Pairs = tuple[tuple[str, str], ...]


class ProxyType(enum.StrEnum):
    """What a proxy is for. The values are those that Istio's node ids carry."""

    SIDECAR = "sidecar"
    GATEWAY = "router"


class ClientTraits(NamedTuple):
    """The facts that may tell one proxy from another; "" and () mean "not told apart".

    `labels` are those of the proxy's pod, sorted by key. `sidecar` is the Sidecar that governs the proxy, and says
    what it knows of the mesh; None is everything. `addresses` are its pod's, where something has to name them.
    `version` (ISTIO_VERSION) and `metadata` are what its node says of itself, and decide nothing but which patches a
    person meant for it.
    `serving` are the objects that name the pod's own address as an endpoint of theirs; `node` is where it runs; `dns`
    says that it asks the mesh for names. `locality` is where it is ("region/zone/subzone"), where that matters to the
    choice of endpoints. `on_demand` says that the proxy holds only what its workload calls.
    `proxyless` is a client that is no proxy at all and is sent other shapes of everything, so no scope drops it.
    """

    proxy_type: ProxyType = ProxyType.SIDECAR
    namespace: str = ""
    labels: Pairs = ()
    sidecar: ObjectKey | None = None
    addresses: tuple[str, ...] = ()
    version: str = ""
    metadata: Pairs = ()
    serving: tuple[ObjectKey, ...] = ()
    node: str = ""
    dns: bool = False
    locality: str = ""
    on_demand: bool = False
    proxyless: bool = False

    def has_labels(self, selector: tuple[tuple[str, str], ...]) -> bool:
        """Whether the pod has every label of an equality selector."""
        return all(pair in self.labels for pair in selector)


class Scope(NamedTuple):
    """Which traits tell clients apart for one resource: these namespaces by name, these pairs; None is each.

    Labels may be told apart by pair or, with `label_keys`, whatever their value is.

    A resource that tells Sidecars apart tells apart the namespaces of those that a Sidecar governs: what one imports
    may be written in words of the workload's own namespace. Where there is no Sidecar this costs nothing.
    """

    proxy_type: bool = False
    namespaces: frozenset[str] | None = frozenset()
    labels: frozenset[tuple[str, str]] | None = frozenset()
    sidecar: bool = False
    addresses: bool = False
    version: bool = False
    metadata: frozenset[tuple[str, str]] | None = frozenset()
    serving: bool = False
    node: bool = False
    dns: bool = False
    label_keys: frozenset[str] = frozenset()
    locality: bool = False
    on_demand: bool = False

    def project(self, traits: ClientTraits) -> ClientTraits:
        """The traits with everything dropped that this resource does not tell apart."""
        governed = self.sidecar and traits.sidecar is not None
        named = governed or self.namespaces is None or traits.namespace in self.namespaces
        return ClientTraits(
            traits.proxy_type if self.proxy_type else ProxyType.SIDECAR,
            traits.namespace if named else "",
            _among(traits.labels, self.labels, self.label_keys),
            traits.sidecar if governed else None,
            traits.addresses if self.addresses else (),
            traits.version if self.version else "",
            _among(traits.metadata, self.metadata),
            traits.serving if self.serving else (),
            traits.node if self.node else "",
            traits.dns if self.dns else False,
            traits.locality if self.locality else "",
            on_demand=traits.on_demand and self.on_demand,
            proxyless=traits.proxyless,
        )

    def __or__(self, other: object) -> Scope:
        """The scope that tells apart what either does."""
        assert isinstance(other, Scope)
        if other in (NOBODY, self):
            return self
        if self == NOBODY:
            return other
        return Scope(
            self.proxy_type or other.proxy_type,
            _either(self.namespaces, other.namespaces),
            _either(self.labels, other.labels),
            self.sidecar or other.sidecar,
            self.addresses or other.addresses,
            self.version or other.version,
            _either(self.metadata, other.metadata),
            self.serving or other.serving,
            self.node or other.node,
            self.dns or other.dns,
            self.label_keys | other.label_keys if other.label_keys else self.label_keys,
            self.locality or other.locality,
            on_demand=self.on_demand or other.on_demand,
        )


NOBODY = Scope()
"""All clients get the same."""


def _either(these: frozenset[T] | None, those: frozenset[T] | None) -> frozenset[T] | None:
    """What is in either, None being everything. What is there already is shared: a service has tens of scopes."""
    if these is None or those is None:
        return None
    if those <= these:
        return these
    return those if these <= those else these | those


def _among(pairs: Pairs, told_apart: frozenset[tuple[str, str]] | None, keys: frozenset[str] = frozenset()) -> Pairs:
    if told_apart is None or not pairs:
        return pairs
    return tuple(pair for pair in pairs if pair in told_apart or pair[0] in keys)


EACH = Scope(
    proxy_type=True,
    namespaces=None,
    labels=None,
    sidecar=True,
    addresses=True,
    version=True,
    metadata=None,
    serving=True,
    node=True,
    dns=True,
    locality=True,
    on_demand=True,
)
"""Every client may get something of its own."""
