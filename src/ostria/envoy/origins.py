"""How an object is named in the metadata of what it shaped, as Istio names it for its tools and for EnvoyFilters."""

from __future__ import annotations

import re

from ostria.base import ObjectKey

_GROUPS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
}
_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def config_path(key: ObjectKey) -> str:
    """The object's place: /apis/networking.istio.io/v1/namespaces/default/virtual-service/reviews."""
    kind = key.kind.rpartition("/")[2]
    group = _GROUPS.get(kind, key.kind.rpartition("/")[0] or "v1")
    return f"/apis/{group}/namespaces/{key.namespace}/{_WORD.sub('-', kind).lower()}/{key.name}"
