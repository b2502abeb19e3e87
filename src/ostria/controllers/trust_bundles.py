"""The mesh's roots in every namespace: the ConfigMap `istio-ca-root-cert`, which pods mount before they trust anybody.

trust bundle (identity) + namespaces and their ConfigMaps, as read -> the ConfigMaps to make and to correct
"""

from __future__ import annotations

import msgspec

from ostria.base import ObjectKey
from ostria.controllers.writer import DesiredWrite
from ostria.engine import Engine, query
from ostria.identity.trust_bundle import CONFIG_MAP, KEY, trust_bundle_input
from ostria.mesh.settings import settings
from ostria.resources import by_kind, objects
from ostria.resources.kubernetes import ConfigMap

# Kubernetes' own namespaces, in which no workload of a mesh runs (as Istio).
IGNORED = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


@query
def trust_bundle_writes(db: Engine) -> tuple[DesiredWrite, ...]:
    """What differs from the trust bundle; empty when every namespace has it."""
    namespaces = (key for key in by_kind(db, "Namespace") if key.cluster == settings(db).cluster)
    return tuple(write for key in namespaces if key.name not in IGNORED for write in _write(db, key.name))


@query
def _write(db: Engine, namespace: str) -> tuple[DesiredWrite, ...]:
    roots = trust_bundle_input(db, "")
    if not roots:
        return ()
    key = ObjectKey(settings(db).cluster, "ConfigMap", namespace, CONFIG_MAP)
    found = objects(db, key)
    data = {"data": {KEY: roots}}
    if isinstance(found, ConfigMap):
        return () if found.data.get(KEY) == roots else (DesiredWrite(key, msgspec.json.encode(data)),)
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": namespace, "labels": {"istio.io/config": "true"}},
        **data,
    }
    return (DesiredWrite(key, msgspec.json.encode(document), create=True),)
