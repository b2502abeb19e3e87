"""What a policy is attached to by name: https://istio.io/latest/docs/reference/config/type/workload-selector/."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta as Limit

from ostria.resources.shapes import Strict


class PolicyTargetReference(Strict, frozen=True):
    """One object whose proxies a policy is for; `group` "" is Kubernetes' own, and `namespace` must be left out."""

    group: Annotated[str, Limit(max_length=253)] = ""
    kind: Annotated[str, Limit(max_length=63)] = ""
    name: Annotated[str, Limit(max_length=253)] = ""
    namespace: str = ""
