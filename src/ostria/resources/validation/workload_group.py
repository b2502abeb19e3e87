"""WorkloadGroup: https://istio.io/latest/docs/reference/config/networking/workload-group/."""

from __future__ import annotations

import re

from ostria.resources.validation.findings import (
    INVALID,
    MISSING,
    Findings,
    check_labels,
    check_not_negative,
    check_port,
    error,
)
from ostria.resources.workload_group import ReadinessProbe, WorkloadGroup

_HEADER = re.compile(r"[-_A-Za-z0-9]+", re.ASCII)


def validate_workload_group(group: WorkloadGroup) -> Findings:
    """Everything that is wrong with one group. The template is filled in when a workload joins, so it may lack much."""
    spec = group.spec
    if spec.metadata:
        yield from check_labels("spec.metadata.labels", spec.metadata.labels)
    yield from check_labels("spec.template.labels", spec.template.labels)
    if spec.probe is not None:
        yield from _probe("spec.probe", spec.probe)


def _probe(field: str, probe: ReadinessProbe) -> Findings:
    for name, number in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        yield from check_not_negative(f"{field}.{name}", number or 0)
    if probe.http_get is not None:
        http = probe.http_get
        yield from check_port(f"{field}.httpGet.port", http.port)
        if http.scheme not in ("", "HTTP", "HTTPS"):
            yield error(INVALID, f"{field}.httpGet.scheme", f'"{http.scheme[:60]}" is neither HTTP nor HTTPS')
        for index, header in enumerate(http.http_headers):
            if not _HEADER.fullmatch(header.name):
                place = f"{field}.httpGet.httpHeaders[{index}].name"
                yield error(INVALID, place, f'"{header.name[:100]}" cannot be a header\'s name')
    elif probe.tcp_socket is not None:
        yield from check_port(f"{field}.tcpSocket.port", probe.tcp_socket.port)
    elif probe.grpc is not None:
        yield from check_port(f"{field}.grpc.port", probe.grpc.port)
    elif probe.exec is None:
        yield error(MISSING, field, "a probe needs one of httpGet, tcpSocket, exec and grpc")
    elif not probe.exec.command:
        yield error(MISSING, f"{field}.exec.command", "a probe by a command needs the command")
