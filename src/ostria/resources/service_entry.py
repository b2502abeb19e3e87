"""ServiceEntry, as the API has it: https://istio.io/latest/docs/reference/config/networking/service-entry/."""

from __future__ import annotations

from typing import Literal

from ostria.resources.shapes import Labels, Lenient, Object, Strict, UInt32
from ostria.resources.workload_entry import WorkloadEntrySpec


class ServicePort(Strict, frozen=True):
    """A port of the service; `target_port` 0 means the same number at the endpoint."""

    number: UInt32
    name: str
    protocol: str = ""
    target_port: UInt32 = 0


class EndpointSelector(Strict, frozen=True):
    """The pods and WorkloadEntries of the namespace that have all these labels."""

    labels: Labels = {}


class ServiceEntrySpec(Strict, frozen=True):
    """A service that the registry would not know otherwise."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: EndpointSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class ServiceEntryAddress(Lenient, frozen=True):
    """An address that the mesh has allocated to one of the hosts."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(Lenient, frozen=True):
    """Of the status, what proxies need: the allocated addresses."""

    addresses: tuple[ServiceEntryAddress, ...] = ()


class ServiceEntry(Object, frozen=True):
    """A service added to the mesh's registry."""

    spec: ServiceEntrySpec
    status: ServiceEntryStatus = ServiceEntryStatus()
