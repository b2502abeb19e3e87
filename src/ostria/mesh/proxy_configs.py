"""How proxies are started, as ProxyConfig objects say it.

    ProxyConfig -> proxy_starts -> what injection lays over MeshConfig's defaultConfig and a pod's annotation

See https://istio.io/latest/docs/reference/config/networking/proxy-config/. Of several at one level the oldest counts.
"""

from __future__ import annotations

from typing import NamedTuple

from ostria.engine import Engine, query
from ostria.mesh.model import Labels
from ostria.mesh.services import age
from ostria.mesh.settings import root_namespace
from ostria.resources import by_kind, objects
from ostria.resources.proxy_config import ProxyConfig


class ProxyStart(NamedTuple):
    """What one object says: for workloads of `namespace` ("" is every one) with all of the labels (() is all)."""

    namespace: str
    labels: Labels = ()
    concurrency: int | None = None
    environment: tuple[tuple[str, str], ...] = ()
    image_type: str = ""


@query
def proxy_starts(db: Engine) -> tuple[ProxyStart, ...]:
    """What all of them say, the oldest first. One with a selector is for its own namespace only."""
    root = root_namespace(db)
    found = []
    for key in sorted(by_kind(db, "ProxyConfig"), key=lambda key: (age(db, key), key)):
        value = objects(db, key)
        if isinstance(value, ProxyConfig):
            spec = value.spec
            labels = tuple(sorted(spec.selector.match_labels.items())) if spec.selector else ()
            found.append(
                ProxyStart(
                    "" if key.namespace == root and not labels else key.namespace,
                    labels,
                    spec.concurrency,
                    tuple(sorted(spec.environment_variables.items())),
                    spec.image.image_type if spec.image else "",
                )
            )
    return tuple(found)
