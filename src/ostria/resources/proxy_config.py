"""ProxyConfig, as the API has it: https://istio.io/latest/docs/reference/config/networking/proxy-config/.

It is told apart from `mesh_config.ProxyConfig`, the defaults that MeshConfig and an annotation of a pod give.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta as Limit

from ostria.resources.destination_rule import WorkloadSelector
from ostria.resources.shapes import Labels, Object, Strict


class ProxyImage(Strict, frozen=True):
    """Which image the proxy has."""

    image_type: str = ""


class ProxyConfigSpec(Strict, frozen=True):
    """How the proxies of some workloads, of a namespace or of the mesh are started."""

    selector: WorkloadSelector | None = None
    concurrency: Annotated[int, Limit(ge=0, le=2**31 - 1)] | None = None
    environment_variables: Labels = {}
    image: ProxyImage | None = None


class ProxyConfig(Object, frozen=True):
    """How a proxy is started."""

    spec: ProxyConfigSpec = ProxyConfigSpec()
