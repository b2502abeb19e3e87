"""How an object is named in the metadata of what it shaped, as Istio names it for its tools and for EnvoyFilters."""

from __future__ import annotations

import re

from ostria.base import ObjectKey
from ostria.resources import KINDS

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


def object_of(path: str, cluster: str = "") -> ObjectKey | None:
    """The object that a place names: `config_path` the other way round; None for what is no such place."""
    parts = path.split("/")
    if "namespaces" not in parts or parts.index("namespaces") + 4 != len(parts):
        return None
    at = parts.index("namespaces")
    namespace, word, name = parts[at + 1 :]
    group = "/".join(parts[2 : at - 1])
    for kind in KINDS.values():
        if kind.group == group and _WORD.sub("-", kind.name.rpartition("/")[2]).lower() == word:
            return ObjectKey(cluster, kind.name, namespace, name)
    return None
