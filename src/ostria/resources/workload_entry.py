"""WorkloadEntry, as the API has it: https://istio.io/latest/docs/reference/config/networking/workload-entry/."""

from __future__ import annotations

from collections.abc import Mapping

from ostria.resources.shapes import Labels, Lenient, Object, Strict, UInt32


class WorkloadEntrySpec(Strict, frozen=True):
    """One workload outside Kubernetes: an IP address, a DNS name or a unix:// path."""

    address: str = ""
    ports: Mapping[str, UInt32] = {}
    labels: Labels = {}
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""


class WorkloadCondition(Lenient, frozen=True):
    """One thing that is known of a workload; `status` is "True", "False" or "Unknown"."""

    type: str = ""
    status: str = "Unknown"


class WorkloadEntryStatus(Lenient, frozen=True):
    """Of the status, whether the workload is healthy."""

    conditions: tuple[WorkloadCondition, ...] = ()


class WorkloadEntry(Object, frozen=True):
    """A workload that is no pod: a virtual machine, or a machine without one."""

    spec: WorkloadEntrySpec
    status: WorkloadEntryStatus = WorkloadEntryStatus()
