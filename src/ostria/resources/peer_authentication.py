"""PeerAuthentication, as the API has it: https://istio.io/latest/docs/reference/config/security/peer_authentication/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ostria.resources.destination_rule import WorkloadSelector
from ostria.resources.shapes import Object, Strict

MutualTLSMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class MutualTLS(Strict, frozen=True):
    """Whether callers must, may or cannot present a workload certificate; UNSET asks the wider policy."""

    mode: MutualTLSMode = "UNSET"


class PeerAuthenticationSpec(Strict, frozen=True):
    """The mode of the selected workloads, and of single ports (by the workload's own numbers, as text)."""

    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: Mapping[str, MutualTLS] = {}


class PeerAuthentication(Object, frozen=True):
    """What a workload demands of its callers."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()
