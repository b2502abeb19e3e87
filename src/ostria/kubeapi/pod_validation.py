"""What is wrong with a pod's spec, or that of a template, beyond the types of its fields.

See https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from ostria.base import quantities
from ostria.kubeapi import causes
from ostria.kubeapi.errors import Cause
from ostria.kubeapi.fields import at, mapping, objects
from ostria.kubeapi.metadata import LABEL, check_labels, check_name
from ostria.kubeapi.requests import Document

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:-?[a-z0-9])*", re.ASCII)
_VARIABLE = re.compile(r"[^=\x00-\x1f\x7f-\U0010ffff]+")


def check_port(field: str, value: Any) -> Iterator[Cause]:
    """What is wrong with a port's number."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        yield causes.wrong(field, value, "must be between 1 and 65535, inclusive")


def check_port_name(field: str, name: str) -> Iterator[Cause]:
    """What is wrong with a port's name, as a container or a targetPort has it."""
    if len(name) > 15:
        yield causes.wrong(field, name, "must be no more than 15 characters")
    elif not _PORT_NAME.fullmatch(name):
        told = (
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter, "
            "and no hyphens at its ends or two in a row"
        )
        yield causes.wrong(field, name, told)


def check_pod_spec(spec: Document, field: str = "spec") -> Iterator[Cause]:
    """Everything that is wrong with a spec that stands at `field`."""
    if not spec.get("containers"):
        yield causes.required(f"{field}.containers")
    yield from _words(spec, field, "restartPolicy", ("Always", "OnFailure", "Never"))
    yield from _words(spec, field, "dnsPolicy", ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"))
    if spec.get("serviceAccountName"):
        yield from check_name(f"{field}.serviceAccountName", spec["serviceAccountName"], LABEL._replace(most=253))
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        told = "must be greater than or equal to 0"
        yield causes.wrong(f"{field}.terminationGracePeriodSeconds", spec["terminationGracePeriodSeconds"], told)
    yield from check_labels(f"{field}.nodeSelector", spec.get("nodeSelector"))
    yield from _volumes(spec, field)
    volumes = {volume.get("name") for volume in objects(spec, "volumes")}
    names: set[str] = set()
    if spec.get("ephemeralContainers"):
        yield causes.forbidden(f"{field}.ephemeralContainers", "no container is added to a pod that runs")
    for kind in ("initContainers", "containers"):
        for place, container in enumerate(objects(spec, kind)):
            where = f"{field}.{kind}[{place}]"
            yield from _name(f"{where}.name", container.get("name"), names)
            yield from _container(container, where, kind, volumes)


def _words(place: Document, field: str, name: str, known: Iterable[str]) -> Iterator[Cause]:
    value = place.get(name)
    if value is not None and value not in known:
        yield causes.unsupported(f"{field}.{name}", value, known)


def _name(field: str, name: Any, names: set[str]) -> Iterator[Cause]:
    if not name:
        yield causes.required(field)
        return
    yield from check_name(field, name, LABEL)
    if name in names:
        yield causes.duplicate(field, name)
    names.add(name)


def _container(container: Document, field: str, kind: str, volumes: set[Any]) -> Iterator[Cause]:
    if not container.get("image"):
        yield causes.required(f"{field}.image")
    elif container["image"] != container["image"].strip():
        yield causes.wrong(f"{field}.image", container["image"], "must not have leading or trailing whitespace")
    yield from _words(container, field, "imagePullPolicy", ("Always", "IfNotPresent", "Never"))
    yield from _words(container, field, "terminationMessagePolicy", ("FallbackToLogsOnError", "File"))
    if kind == "initContainers":
        yield from _words(container, field, "restartPolicy", ("Always",))
    elif container.get("restartPolicy") is not None:
        yield causes.forbidden(f"{field}.restartPolicy", "may not be set for non-init containers")
    yield from _ports(container, field)
    yield from _env(container, field)
    yield from _mounts(container, field, volumes)
    yield from _resources(container, field)
    native = kind == "initContainers" and container.get("restartPolicy") == "Always"
    for name in _PROBES:
        probe = container.get(name)
        if not isinstance(probe, dict):
            continue
        if kind == "initContainers" and not native:
            yield causes.forbidden(f"{field}.{name}", "may not be set for init containers without restartPolicy=Always")
        yield from _probe(probe, f"{field}.{name}", name)
    for name in ("postStart", "preStop"):
        handler = at(container, "lifecycle", name)
        if isinstance(handler, dict):
            yield from _handler(handler, f"{field}.lifecycle.{name}", ("exec", "httpGet", "sleep", "tcpSocket"))


def _ports(container: Document, field: str) -> Iterator[Cause]:
    names: set[str] = set()
    for place, port in enumerate(objects(container, "ports")):
        where = f"{field}.ports[{place}]"
        if not port.get("containerPort"):
            yield causes.required(f"{where}.containerPort")
        else:
            yield from check_port(f"{where}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from check_port(f"{where}.hostPort", port["hostPort"])
        yield from _words(port, where, "protocol", ("SCTP", "TCP", "UDP"))
        if port.get("name"):
            yield from check_port_name(f"{where}.name", port["name"])
            if port["name"] in names:
                yield causes.duplicate(f"{where}.name", port["name"])
            names.add(port["name"])


def _env(container: Document, field: str) -> Iterator[Cause]:
    for place, variable in enumerate(objects(container, "env")):
        where = f"{field}.env[{place}]"
        name = variable.get("name")
        if not name:
            yield causes.required(f"{where}.name")
        elif not _VARIABLE.fullmatch(name):
            told = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield causes.wrong(f"{where}.name", name, told)
        source = variable.get("valueFrom")
        if not isinstance(source, dict):
            continue
        if variable.get("value"):
            yield causes.wrong(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
        given = [key for key, value in source.items() if isinstance(value, dict)]
        if not given:
            told = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            yield causes.wrong(f"{where}.valueFrom", "", told)
        elif len(given) > 1:
            yield causes.wrong(f"{where}.valueFrom", "", "may not have more than one field specified at a time")


def _mounts(container: Document, field: str, volumes: set[Any]) -> Iterator[Cause]:
    paths: set[str] = set()
    for place, mount in enumerate(objects(container, "volumeMounts")):
        where = f"{field}.volumeMounts[{place}]"
        if not mount.get("name"):
            yield causes.required(f"{where}.name")
        elif mount["name"] not in volumes:
            yield causes.not_found(f"{where}.name", mount["name"])
        path = mount.get("mountPath")
        if not path:
            yield causes.required(f"{where}.mountPath")
        elif path in paths:
            yield causes.wrong(f"{where}.mountPath", path, "must be unique")
        paths.add(str(path))
        for name in ("subPath", "subPathExpr"):
            inside = mount.get(name) or ""
            if inside.startswith("/"):
                yield causes.wrong(f"{where}.{name}", inside, "must be a relative path")
            elif ".." in inside.split("/"):
                yield causes.wrong(f"{where}.{name}", inside, "must not contain '..'")


def _resources(container: Document, field: str) -> Iterator[Cause]:
    limits = mapping(container, "resources", "limits")
    most: dict[str, Decimal] = {}
    for kind in ("limits", "requests"):
        for name, text in mapping(container, "resources", kind).items():
            where = f"{field}.resources.{kind}[{name}]"
            try:
                amount = quantities.parse(text)
            except ValueError:
                told = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                yield causes.wrong(where, text, told)
                continue
            if amount < 0:
                yield causes.wrong(where, text, "must be greater than or equal to 0")
            elif kind == "limits":
                most[name] = amount
            elif amount > most.get(name, amount):
                told = f"must be less than or equal to {name} limit of {limits[name]}"
                yield causes.wrong(f"{field}.resources.requests", text, told)


def _probe(probe: Document, field: str, name: str) -> Iterator[Cause]:
    yield from _handler(probe, field, _HANDLERS)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if (probe.get(key) or 0) < 0:
            yield causes.wrong(f"{field}.{key}", probe[key], "must be greater than or equal to 0")
    if name != "readinessProbe" and probe.get("successThreshold") not in (None, 1):
        yield causes.wrong(f"{field}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(place: Document, field: str, known: Iterable[str]) -> Iterator[Cause]:
    given = [name for name in known if isinstance(place.get(name), dict)]
    if not given:
        yield causes.required(field, "must specify a handler type")
    for name in given[1:]:
        yield causes.forbidden(f"{field}.{name}", "may not specify more than 1 handler type")
    for name in given:
        handler = place[name]
        if name == "exec":
            if not handler.get("command"):
                yield causes.required(f"{field}.exec.command")
        elif name != "sleep":
            port = handler.get("port")
            if port is None:
                yield causes.required(f"{field}.{name}.port")
            elif isinstance(port, str):
                yield from check_port_name(f"{field}.{name}.port", port)
            else:
                yield from check_port(f"{field}.{name}.port", port)


def _volumes(spec: Document, field: str) -> Iterator[Cause]:
    names: set[str] = set()
    for place, volume in enumerate(objects(spec, "volumes")):
        where = f"{field}.volumes[{place}]"
        yield from _name(f"{where}.name", volume.get("name"), names)
        sources = [name for name, value in volume.items() if isinstance(value, dict)]
        for name in sources[1:]:
            yield causes.forbidden(f"{where}.{name}", "may not specify more than 1 volume type")
        for name, part in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
            source = volume.get(name)
            if isinstance(source, dict) and not source.get(part):
                yield causes.required(f"{where}.{name}.{part}")


def check_pod_update(old: Document, new: Document) -> Iterator[Cause]:
    """What an update changes that stays as it was: nearly all of a pod's spec."""
    if _frozen(old, old) == _frozen(new, old):
        return
    told = (
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    yield causes.forbidden("spec", told)


def _frozen(spec: Document, old: Document) -> Document:
    """The part of a spec that may not change, seen from the spec that was."""
    found = {**spec}
    for kind in ("initContainers", "containers"):
        if kind in found:
            found[kind] = [{**container, "image": ""} for container in objects(found, kind)]
    if found.get("activeDeadlineSeconds") and _sooner(found["activeDeadlineSeconds"], old.get("activeDeadlineSeconds")):
        found.pop("activeDeadlineSeconds")
    before = objects(old, "tolerations")
    if all(toleration in objects(found, "tolerations") for toleration in before):
        found.pop("tolerations", None)
    return found


def _sooner(seconds: int, before: int | None) -> bool:
    return before is None or seconds <= before
