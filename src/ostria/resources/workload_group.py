"""WorkloadGroup, as the API has it: https://istio.io/latest/docs/reference/config/networking/workload-group/."""

from __future__ import annotations

from ostria.resources.shapes import Int32, Labels, Object, OneOf, Strict, UInt32
from ostria.resources.workload_entry import WorkloadEntrySpec


class ObjectMeta(Strict, frozen=True):
    """What every workload of the group is marked with."""

    labels: Labels = {}
    annotations: Labels = {}


class HTTPHeader(Strict, frozen=True):
    """A header that a probe sends."""

    name: str = ""
    value: str = ""


class HTTPHealthCheckConfig(Strict, frozen=True):
    """Healthy is who answers an HTTP request."""

    port: UInt32 = 0
    path: str = ""
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPHealthCheckConfig(Strict, frozen=True):
    """Healthy is who takes a connection."""

    port: UInt32 = 0
    host: str = ""


class ExecHealthCheckConfig(Strict, frozen=True):
    """Healthy is where a command ends with 0."""

    command: tuple[str, ...] = ()


class GrpcHealthCheckConfig(Strict, frozen=True):
    """Healthy is who says so by gRPC's health service."""

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(OneOf, frozen=True):
    """How it is found out whether a workload of the group is ready; 0 is the default of each number."""

    MEMBERS = (("httpGet", "tcpSocket", "exec", "grpc"),)

    initial_delay_seconds: Int32 | None = None
    timeout_seconds: Int32 | None = None
    period_seconds: Int32 | None = None
    success_threshold: Int32 | None = None
    failure_threshold: Int32 | None = None
    http_get: HTTPHealthCheckConfig | None = None
    tcp_socket: TCPHealthCheckConfig | None = None
    exec: ExecHealthCheckConfig | None = None
    grpc: GrpcHealthCheckConfig | None = None


class WorkloadGroupSpec(Strict, frozen=True):
    """What the workloads of a group have in common."""

    template: WorkloadEntrySpec
    metadata: ObjectMeta | None = None
    probe: ReadinessProbe | None = None


class WorkloadGroup(Object, frozen=True):
    """Workloads that are no pods and are made alike: to them what a Deployment is to pods."""

    spec: WorkloadGroupSpec
