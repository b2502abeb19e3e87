"""WorkloadEntry: https://istio.io/latest/docs/reference/config/networking/workload-entry/."""

from __future__ import annotations

import re

from ostria.resources.validation.findings import (
    CONFLICT,
    INVALID,
    MISSING,
    NO_EFFECT,
    Findings,
    check_address,
    check_labels,
    check_port,
    entry,
    error,
    warning,
)
from ostria.resources.workload_entry import WorkloadEntry, WorkloadEntrySpec

UNIX = "unix://"

# The API server's own rule for the names of ports in WorkloadEntries.
_PORT_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?", re.ASCII)


def validate_workload_entry(workload: WorkloadEntry) -> Findings:
    """Everything that is wrong with one workload."""
    spec = workload.spec
    if spec.address.startswith(UNIX):
        yield from check_socket("spec", spec)
    else:
        yield from check_reachable("spec", spec)
        if spec.address:
            yield from check_address("spec.address", spec.address)
    yield from check_ports("spec.ports", spec)
    yield from check_labels("spec.labels", spec.labels)


def check_reachable(field: str, spec: WorkloadEntrySpec) -> Findings:
    """Whether there is a way to the workload: its own address, or its network's gateway."""
    if spec.address:
        return
    if spec.network:
        message = "the endpoint has no address and is reached through its network's gateway only"
        yield warning(NO_EFFECT, f"{field}.address", message)
    else:
        yield error(MISSING, f"{field}.address", "an endpoint needs an address")


def check_socket(field: str, spec: WorkloadEntrySpec) -> Findings:
    """A Unix socket: an absolute path or an abstract name, and no ports."""
    path = spec.address.removeprefix(UNIX)
    if not path.startswith(("/", "@")):
        yield error(INVALID, f"{field}.address", f'"{spec.address[:100]}" is not an absolute path')
    elif path.endswith("/"):
        yield error(INVALID, f"{field}.address", f'"{spec.address[:100]}" is a directory and no socket')
    if spec.ports:
        yield error(CONFLICT, f"{field}.ports", "a UNIX socket has no ports")


def check_ports(field: str, spec: WorkloadEntrySpec) -> Findings:
    """The workload's own ports, by the names of the service's."""
    for name, number in spec.ports.items():
        place = entry(field, name)
        if not _PORT_NAME.fullmatch(name):
            yield error(INVALID, place, f'"{name[:100]}" cannot be a port\'s name')
        yield from check_port(place, number)
