"""What one pod's proxy is to be: the revision's settings, and the pod's annotations over them.

See https://istio.io/latest/docs/reference/config/annotations/. An annotation that cannot be read is a Problem that
names it, and refuses the pod: a proxy that captures other traffic than its pod asks for is worse than none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ostria.base import Level, Problem
from ostria.base.yaml import Document, field_path, read_documents
from ostria.capture.settings import Capture, read_annotations
from ostria.injection.merge import merge, named
from ostria.injection.select import annotations_of, labels_of
from ostria.injection.settings import AGENT_PORT, Resources, Settings
from ostria.mesh.proxy_configs import ProxyStart

NATIVE_SIDECAR = "sidecar.istio.io/nativeSidecar"
PROXY_CONFIG = "proxy.istio.io/config"
DNS_CAPTURE = "ISTIO_META_DNS_CAPTURE"
STATUS_PORT = "status.sidecar.istio.io/port"
REWRITE_PROBES = "sidecar.istio.io/rewriteAppHTTPProbers"
MERGE_METRICS = "prometheus.istio.io/merge-metrics"
INTERCEPTION_MODE = "sidecar.istio.io/interceptionMode"
USER_VOLUME, USER_VOLUME_MOUNT = "sidecar.istio.io/userVolume", "sidecar.istio.io/userVolumeMount"
PROXY_USER = 1337
HEALTH_PORT, STATS_PORT = 15021, 15090

# The annotation, the kind of resource, and which.
_RESOURCES = (
    ("sidecar.istio.io/proxyCPU", "requests", "cpu"),
    ("sidecar.istio.io/proxyMemory", "requests", "memory"),
    ("sidecar.istio.io/proxyCPULimit", "limits", "cpu"),
    ("sidecar.istio.io/proxyMemoryLimit", "limits", "memory"),
)
_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3}|[numkMGTPE]|[KMGTPE]i)?", re.ASCII)


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy. `proxy_config` is JSON; `resources` holds only what is set; `user` and `group` are whom it runs as.

    `status_port` 0 means that nobody asks after the proxy's readiness.
    """

    settings: Settings
    native: bool
    image: str
    init_image: str
    capture: Capture
    proxy_config: Mapping[str, Any]
    status_port: int
    readiness_initial_delay: int
    readiness_period: int
    readiness_failures: int
    hold_application: bool
    rewrite_probes: bool
    merge_metrics: bool
    resources: Resources
    log_level: str
    component_log_level: str
    agent_log_level: str
    user: int = PROXY_USER
    group: int = PROXY_USER
    volumes: tuple[Mapping[str, Any], ...] = ()
    volume_mounts: tuple[Mapping[str, Any], ...] = ()

    @property
    def agent_port(self) -> int:
        """Where the agent answers."""
        configured = self.proxy_config.get("statusPort")
        return self.status_port or (configured if isinstance(configured, int) else 0) or AGENT_PORT

    @property
    def metadata(self) -> Mapping[str, str]:
        """What ProxyConfig adds to the proxy's environment."""
        found = self.proxy_config.get("proxyMetadata")
        return {name: str(value) for name, value in found.items()} if isinstance(found, Mapping) else {}


def read_parameters(
    pod: Mapping[str, Any], settings: Settings, namespace: str = ""
) -> tuple[Parameters, tuple[Problem, ...]]:
    """What a pod's proxy is to be in `namespace`; where there are problems, their parts are the settings' own."""
    read = _Reader(annotations_of(pod))
    config = effective_config(read.mapping(PROXY_CONFIG), settings, namespace, labels_of(pod))
    hold = config.get("holdApplicationUntilProxyStarts")
    image = read.text("sidecar.istio.io/proxyImage", image_of_type(settings.image, config))
    user, group = _owner(pod)
    status_port = read.integer(STATUS_PORT, settings.status_port, 0, 65535)
    capture, problems = _capture(pod, settings.capture, config, (user, group), status_port)
    parameters = Parameters(
        settings=settings,
        native=read.boolean(NATIVE_SIDECAR, settings.native_sidecars),
        image=image,
        init_image=settings.init_image or image,
        capture=capture,
        proxy_config=config,
        status_port=status_port,
        readiness_initial_delay=read.integer(
            "readiness.status.sidecar.istio.io/initialDelaySeconds", settings.readiness_initial_delay
        ),
        readiness_period=read.integer("readiness.status.sidecar.istio.io/periodSeconds", settings.readiness_period, 1),
        readiness_failures=read.integer(
            "readiness.status.sidecar.istio.io/failureThreshold", settings.readiness_failures, 1
        ),
        hold_application=hold if isinstance(hold, bool) else settings.hold_application,
        rewrite_probes=read.boolean(REWRITE_PROBES, settings.rewrite_probes),
        merge_metrics=read.boolean(MERGE_METRICS, settings.merge_metrics),
        resources=_resources(read, settings.resources),
        log_level=read.text("sidecar.istio.io/logLevel", settings.log_level),
        component_log_level=read.text("sidecar.istio.io/componentLogLevel", settings.component_log_level),
        agent_log_level=read.text("sidecar.istio.io/agentLogLevel", settings.agent_log_level),
        user=user,
        group=group,
        volumes=tuple({"name": name, **volume} for name, volume in read.mappings(USER_VOLUME)),
        volume_mounts=tuple({"name": name, **mount} for name, mount in read.mappings(USER_VOLUME_MOUNT)),
    )
    return parameters, (*read.problems, *problems)


def effective_config(
    own: Mapping[str, Any], settings: Settings, namespace: str, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The ProxyConfig of a pod, from the widest to the narrowest: MeshConfig's, that of the mesh, of the namespace,
    what the pod's annotation says (`own`), and that which selects it (istio.io: ProxyConfig)."""
    found = dict(settings.proxy_config)
    for start in _first(each for each in settings.proxy_starts if not each.namespace):
        found = merge(found, _as_json(start))
    for start in _first(each for each in settings.proxy_starts if each.namespace == namespace and not each.labels):
        found = merge(found, _as_json(start))
    found = merge(found, own)
    for start in _first(
        each
        for each in settings.proxy_starts
        if each.namespace == namespace and each.labels and set(each.labels) <= set(labels.items())
    ):
        found = merge(found, _as_json(start))
    return found


def _first(starts: Iterable[ProxyStart]) -> Iterable[ProxyStart]:
    return itertools.islice(starts, 1)


def _as_json(start: ProxyStart) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if start.concurrency is not None:
        found["concurrency"] = start.concurrency
    if start.environment:
        found["proxyMetadata"] = dict(start.environment)
    if start.image_type:
        found["image"] = {"imageType": start.image_type}
    return found


def image_of_type(image: str, config: Mapping[str, Any]) -> str:
    """The image in the variant that ProxyConfig asks for, which its tag names: `hub/proxy:1.0-distroless`."""
    asked = config.get("image")
    kind = asked.get("imageType") if isinstance(asked, Mapping) else ""
    name, colon, tag = image.rpartition(":")
    if not kind or kind == "default" or not colon or "/" in tag or "@" in name:
        return image
    plain = next((tag.removesuffix(f"-{each}") for each in ("debug", "distroless") if tag.endswith(f"-{each}")), tag)
    return f"{name}:{plain}-{kind}"


def _owner(pod: Mapping[str, Any]) -> tuple[int, int]:
    """Whom the proxy runs as: the user may say so in a container of the proxy's name, and redirection must agree."""
    spec = pod.get("spec") or {}
    own = named(spec.get("containers"), "istio-proxy") or named(spec.get("initContainers"), "istio-proxy") or {}
    context = own.get("securityContext") or {}
    user, group = context.get("runAsUser"), context.get("runAsGroup")
    return (
        user if isinstance(user, int) else PROXY_USER,
        group if isinstance(group, int) else PROXY_USER,
    )


def _capture(
    pod: Mapping[str, Any], default: Capture, config: Mapping[str, Any], ids: tuple[int, int], status_port: int
) -> tuple[Capture, tuple[Problem, ...]]:
    """The redirection that the pod asks for; an agent that answers elsewhere is left alone there."""
    # The port's annotation is read here, because 0 says something about probes that redirection need not know.
    annotations = {name: value for name, value in annotations_of(pod).items() if name != STATUS_PORT}
    mode = config.get("interceptionMode")
    if isinstance(mode, str):
        annotations.setdefault(INTERCEPTION_MODE, mode)
    capture, problems = read_annotations(annotations, defaults=default)
    own = dict.fromkeys((STATS_PORT, HEALTH_PORT, *((status_port,) if status_port else ())))
    changes: dict[str, Any] = {"own_ports": tuple(own)}
    if captures_dns(config):
        changes["dns_servers"] = "*"
    if default.mark is None:
        changes |= {"proxy_uids": (ids[0],), "proxy_gids": (ids[1],)}
    return msgspec.structs.replace(capture, **changes), problems


def captures_dns(config: Mapping[str, Any]) -> bool:
    """Whether ProxyConfig has questions for names come to the proxy (istio.io: DNS proxying)."""
    metadata = config.get("proxyMetadata")
    return isinstance(metadata, Mapping) and str(metadata.get(DNS_CAPTURE, "")).lower() == "true"


def _resources(read: _Reader, default: Resources) -> Resources:
    """Annotations stand for all resources as soon as there is one, as in Istio's template."""
    found: dict[str, dict[str, str]] = {}
    for name, kind, which in _RESOURCES:
        quantity = read.text(name, "", _check_quantity)
        if quantity:
            found.setdefault(kind, {})[which] = quantity
    return found or {kind: dict(amounts) for kind, amounts in default.items() if amounts}


Check = Callable[[str], None]


class _Reader:
    """Annotations by their type; what is wrong is collected, and then the default stands."""

    def __init__(self, annotations: Mapping[str, str]) -> None:
        self._annotations = annotations
        self.problems: list[Problem] = []

    def text(self, name: str, default: str, check: Check | None = None) -> str:
        value = self._annotations.get(name)
        if value is None:
            return default
        try:
            if check:
                check(value)
        except ValueError as error:
            self._wrong(name, str(error))
            return default
        return value

    def boolean(self, name: str, default: bool) -> bool:  # noqa: FBT001 - It is the value that is asked for.
        value = self._annotations.get(name, "").lower()
        if value and value not in ("true", "false"):
            self._wrong(name, f'"{value[:60]}" is neither "true" nor "false"')
        return default if value not in ("true", "false") else value == "true"

    def integer(self, name: str, default: int, low: int = 0, high: int = 2**31 - 1) -> int:
        value = self._annotations.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,10}", value, re.ASCII) or not low <= int(value) <= high:
            self._wrong(name, f'"{value[:60]}" is no whole number from {low} to {high}')
            return default
        return int(value)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An annotation whose text is a map in YAML or JSON."""
        found = self._value(name)
        if isinstance(found, Mapping):
            return found
        if found is not None:
            self._wrong(name, "expected a map")
        return {}

    def mappings(self, name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """An annotation that holds maps by name, or a list of maps that have their names in them."""
        found = self._value(name)
        pairs: list[tuple[Any, Any]] = []
        if isinstance(found, Mapping):
            pairs = list(found.items())
        elif isinstance(found, Sequence) and not isinstance(found, str):
            pairs = [(each.get("name") if isinstance(each, Mapping) else None, each) for each in found]
        elif found is not None:
            pairs = [(None, None)]
        if all(isinstance(key, str) and isinstance(value, Mapping) for key, value in pairs):
            return pairs
        self._wrong(name, "expected maps by name, or a list of maps with a name")
        return []

    def _value(self, name: str) -> Any:
        """What an annotation's YAML or JSON says; None where there is none, or none that can be read."""
        for document in read_documents(self._annotations.get(name, ""), name):
            if isinstance(document, Document):
                return document.value
            self._wrong(name, document.message)
        return None

    def _wrong(self, name: str, message: str) -> None:
        field = field_path(("metadata", "annotations", name))
        self.problems.append(Problem("invalid-annotation", Level.ERROR, f"annotation {name}: {message}", field=field))


def _check_quantity(text: str) -> None:
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f'"{text[:60]}" is no quantity: write one such as 100m, 0.5 or 128Mi')
