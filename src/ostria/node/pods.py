"""Pods as the node reads them: what it acts on, and nothing else of the API's objects.

Shapes follow https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ and are lenient: what is
unknown is ignored, what is absent has the API's default. `read_pod` is the door; nothing below it sees JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec


class PodKey(NamedTuple):
    """Which pod. A pod that is deleted and made anew has the same name and another uid."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Shape(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    pass


class Reference(_Shape, frozen=True):
    """A name of an object, and whether it may be absent."""

    name: str = ""
    key: str = ""
    optional: bool = False


class FieldRef(_Shape, frozen=True):
    """A field of the pod itself."""

    field_path: str = ""


class ResourceFieldRef(_Shape, frozen=True):
    """A request or limit of a container."""

    resource: str = ""
    container_name: str = ""
    divisor: str | int = "1"


class EnvSource(_Shape, frozen=True):
    """Where a variable's value comes from."""

    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    config_map_key_ref: Reference | None = None
    secret_key_ref: Reference | None = None


class EnvVar(_Shape, frozen=True):
    """One variable."""

    name: str
    value: str = ""
    value_from: EnvSource | None = None


class EnvFrom(_Shape, frozen=True):
    """All keys of an object as variables."""

    prefix: str = ""
    config_map_ref: Reference | None = None
    secret_ref: Reference | None = None


class HttpHeader(_Shape, frozen=True):
    """One header of a probe."""

    name: str
    value: str = ""


class HttpGet(_Shape, frozen=True):
    """An HTTP request as a check. A port may be a name."""

    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HttpHeader] = []


class TcpSocket(_Shape, frozen=True):
    """A connection as a check."""

    port: int | str
    host: str = ""


class GrpcCheck(_Shape, frozen=True):
    """A call of the gRPC health protocol as a check."""

    port: int
    service: str = ""


class Exec(_Shape, frozen=True):
    """A command in the container as a check."""

    command: list[str] = []


class Sleep(_Shape, frozen=True):
    """Waiting as a hook."""

    seconds: int = 0


class Probe(_Shape, frozen=True):
    """A check that is made again and again."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: GrpcCheck | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Hook(_Shape, frozen=True):
    """What is done once after a start or before an end."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: Sleep | None = None


class Lifecycle(_Shape, frozen=True):
    """A container's hooks."""

    post_start: Hook | None = None
    pre_stop: Hook | None = None


class Capabilities(_Shape, frozen=True):
    """Capabilities by name, without CAP_."""

    add: list[str] = []
    drop: list[str] = []


class SecurityContext(_Shape, frozen=True):
    """Who a container runs as and what it may. The pod's own has the same fields as far as they exist there."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    supplemental_groups: list[int] = []
    privileged: bool = False
    read_only_root_filesystem: bool = False
    allow_privilege_escalation: bool | None = None
    capabilities: Capabilities = Capabilities()
    sysctls: list[EnvVar] = []
    seccomp_profile: Any = None
    se_linux_options: Any = None
    app_armor_profile: Any = None


class VolumeMount(_Shape, frozen=True):
    """Where a container sees a volume."""

    name: str
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""
    read_only: bool = False


class ContainerPort(_Shape, frozen=True):
    """A named port."""

    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class Resources(_Shape, frozen=True):
    """Requests and limits."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class Container(_Shape, frozen=True):
    """A program of a pod."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFrom] = []
    ports: list[ContainerPort] = []
    resources: Resources = Resources()
    volume_mounts: list[VolumeMount] = []
    startup_probe: Probe | None = None
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    security_context: SecurityContext = SecurityContext()
    restart_policy: str = ""
    termination_message_path: str = "/dev/termination-log"

    @property
    def listens_on(self) -> frozenset[int]:
        """The TCP ports that it says it serves."""
        return frozenset(port.container_port for port in self.ports if port.protocol == "TCP")


class KeyToPath(_Shape, frozen=True):
    """One key of an object as a file."""

    key: str
    path: str
    mode: int | None = None


class ConfigMapVolume(_Shape, frozen=True):
    """A ConfigMap's keys as files."""

    name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool = False


class SecretVolume(_Shape, frozen=True):
    """A Secret's keys as files. A projected source names it `name`, a volume `secretName`."""

    secret_name: str = ""
    name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool = False


class DownwardFile(_Shape, frozen=True):
    """A field of the pod as a file."""

    path: str
    field_ref: FieldRef | None = None
    resource_field_ref: ResourceFieldRef | None = None
    mode: int | None = None


class DownwardVolume(_Shape, frozen=True):
    """Fields of the pod as files."""

    items: list[DownwardFile] = []
    default_mode: int | None = None


class TokenProjection(_Shape, frozen=True):
    """A token of the pod's account as a file, renewed before it expires."""

    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class Projection(_Shape, frozen=True):
    """One source of a projected volume."""

    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    downward_api: DownwardVolume | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: TokenProjection | None = None


class ProjectedVolume(_Shape, frozen=True):
    """Several sources in one folder."""

    sources: list[Projection] = []
    default_mode: int | None = None


class EmptyDir(_Shape, frozen=True):
    """A folder that lives as long as the pod."""

    medium: str = ""
    size_limit: str | int = ""


class HostPath(_Shape, frozen=True):
    """A folder or file of the machine."""

    path: str
    type: str = ""


class Volume(_Shape, frozen=True):
    """A volume of a pod; exactly one of the sources is set, or it is a kind that the node does not know."""

    name: str
    empty_dir: EmptyDir | None = None
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    downward_api: DownwardVolume | None = msgspec.field(name="downwardAPI", default=None)
    projected: ProjectedVolume | None = None
    host_path: HostPath | None = None


class HostAlias(_Shape, frozen=True):
    """Lines of /etc/hosts."""

    ip: str
    hostnames: list[str] = []


class DnsOption(_Shape, frozen=True):
    """An option of resolv.conf."""

    name: str = ""
    value: str = ""


class DnsConfig(_Shape, frozen=True):
    """What a pod adds to its resolv.conf, or all of it."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[DnsOption] = []


class ReadinessGate(_Shape, frozen=True):
    """A condition that somebody else sets and that readiness waits for."""

    condition_type: str


class PodSpec(_Shape, frozen=True):
    """What a pod should be."""

    containers: list[Container] = []
    init_containers: list[Container] = []
    volumes: list[Volume] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    service_account_name: str = "default"
    hostname: str = ""
    subdomain: str = ""
    host_aliases: list[HostAlias] = []
    share_process_namespace: bool = False
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    host_ipc: bool = msgspec.field(name="hostIPC", default=False)
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig = DnsConfig()
    readiness_gates: list[ReadinessGate] = []
    security_context: SecurityContext = SecurityContext()
    node_name: str = ""
    enable_service_links: bool = True

    @property
    def grace(self) -> int:
        """Seconds between TERM and KILL."""
        return 30 if self.termination_grace_period_seconds is None else self.termination_grace_period_seconds


class Metadata(_Shape, frozen=True):
    """What names a pod."""

    name: str
    namespace: str = "default"
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class GateCondition(_Shape, frozen=True):
    """A condition that the object brings."""

    type: str
    status: str


class GivenStatus(_Shape, frozen=True):
    """Of the status that an object brings, what others write."""

    conditions: list[GateCondition] = []


class Pod(_Shape, frozen=True):
    """One pod."""

    metadata: Metadata
    spec: PodSpec
    status: GivenStatus = GivenStatus()

    @property
    def key(self) -> PodKey:
        """Which pod it is."""
        return PodKey(self.metadata.namespace, self.metadata.name, self.metadata.uid)

    @property
    def programs(self) -> tuple[Container, ...]:
        """All containers, those of the initialisation first."""
        return (*self.spec.init_containers, *self.spec.containers)

    @property
    def sidecars(self) -> tuple[Container, ...]:
        """Containers of the initialisation that stay beside the others (KEP-753)."""
        return tuple(program for program in self.spec.init_containers if program.restart_policy == "Always")

    def program(self, name: str) -> Container:
        """The container of that name. Raises KeyError."""
        for program in self.programs:
            if program.name == name:
                return program
        raise KeyError(name)

    @property
    def is_deleted(self) -> bool:
        """Whether somebody has asked for its end."""
        return self.metadata.deletion_timestamp is not None


def read_pod(document: Mapping[str, Any]) -> Pod:
    """A pod from its JSON. Raises msgspec.ValidationError, with the field's path, if it cannot be understood."""
    return msgspec.convert(document, Pod, strict=False)


def write_pod(pod: Pod) -> bytes:
    """The pod as JSON, for the node's own state."""
    return msgspec.json.encode(pod)


def stored_pod(text: bytes) -> Pod:
    """A pod from `write_pod`."""
    return msgspec.json.decode(text, type=Pod)
