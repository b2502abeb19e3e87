"""Which object is meant: one key for every object of every kind, in every cluster."""

from __future__ import annotations

from typing import NamedTuple


class ObjectKey(NamedTuple):
    """An object's identity. `cluster` is "" for the mesh's own; `namespace` is "" for cluster-scoped kinds.

    `kind` is the registry's name of the kind ("VirtualService"), the same for all its API versions. Where two API
    groups use one word, the registry qualifies the later one ("Gateway" is Istio's, "gateway.networking.k8s.io/Gateway"
    the Gateway API's).
    """

    cluster: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}" + (f" in {self.cluster}" if self.cluster else "")
