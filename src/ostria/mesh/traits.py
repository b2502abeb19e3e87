"""What may differ between the proxies that one resource is made for, and nothing else.

A client's traits are the facts of it that some live object could tell apart. A scope says which of them one
resource does tell apart; projecting the traits on it gives the variant's key, so that proxies that get the same
bytes share one value in the engine:

    traits of a proxy --scope(resource).project--> the part that matters --> one fragment for all who share it
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class ProxyType(enum.StrEnum):
    """What a proxy is for. The values are those that Istio's node ids carry."""

    SIDECAR = "sidecar"
    GATEWAY = "router"


class ClientTraits(NamedTuple):
    """The facts that may tell one proxy from another; "" and () mean "not told apart".

    `labels` are those of the proxy's pod, sorted by key.
    """

    proxy_type: ProxyType = ProxyType.SIDECAR
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    def has_labels(self, selector: tuple[tuple[str, str], ...]) -> bool:
        """Whether the pod has every label of an equality selector."""
        return all(pair in self.labels for pair in selector)


class Scope(NamedTuple):
    """Which traits tell clients apart for one resource: these namespaces by name, these label pairs; None is each."""

    proxy_type: bool = False
    namespaces: frozenset[str] | None = frozenset()
    labels: frozenset[tuple[str, str]] | None = frozenset()

    def project(self, traits: ClientTraits) -> ClientTraits:
        """The traits with everything dropped that this resource does not tell apart."""
        labels = traits.labels
        if self.labels is not None:
            labels = tuple(pair for pair in labels if pair in self.labels)
        return ClientTraits(
            traits.proxy_type if self.proxy_type else ProxyType.SIDECAR,
            traits.namespace if self.namespaces is None or traits.namespace in self.namespaces else "",
            labels,
        )

    def __or__(self, other: object) -> Scope:
        """The scope that tells apart what either does."""
        assert isinstance(other, Scope)
        return Scope(
            self.proxy_type or other.proxy_type,
            None if self.namespaces is None or other.namespaces is None else self.namespaces | other.namespaces,
            None if self.labels is None or other.labels is None else self.labels | other.labels,
        )


EACH = Scope(proxy_type=True, namespaces=None, labels=None)
"""Every client may get something of its own."""
