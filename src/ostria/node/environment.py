"""A container's command and variables, as kubelet makes them. Pure: objects that variables name are handed in.

See https://kubernetes.io/docs/tasks/inject-data-application/ and the API's notes on `$(VAR)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from ostria.base import quantities
from ostria.node.pods import Container, Pod, ResourceFieldRef

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class Unresolved(LookupError):
    """A value names something that is not there: the container waits with CreateContainerConfigError."""


class Addresses(NamedTuple):
    """What is known of a pod once its network stands. `ips` has the primary address first."""

    ips: tuple[str, ...] = ()
    host_ip: str = ""
    host_ips: tuple[str, ...] = ()
    node_name: str = ""


class Objects(NamedTuple):
    """The ConfigMaps and Secrets of the pod's namespace that it names, by name; one that is absent is not in them."""

    config_maps: Mapping[str, Mapping[str, bytes]] = {}
    secrets: Mapping[str, Mapping[str, bytes]] = {}


class Capacity(NamedTuple):
    """What a container without limits may use."""

    cpu: Decimal = Decimal(1)
    memory: Decimal = Decimal(1 << 30)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; `$$` is one `$`, and an unknown name stays as written."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def variables_of(
    pod: Pod, container: Container, objects: Objects, addresses: Addresses, base: Mapping[str, str], capacity: Capacity
) -> dict[str, str]:
    """All variables of a container: the base, then envFrom, then env in order. Raises Unresolved."""
    found = dict(base)
    for source in container.env_from:
        for reference, kind, held in (
            (source.config_map_ref, "configmap", objects.config_maps),
            (source.secret_ref, "secret", objects.secrets),
        ):
            if reference is None:
                continue
            if reference.name not in held:
                if reference.optional:
                    continue
                raise Unresolved(f'{kind} "{reference.name}" not found')
            for key, value in sorted(held[reference.name].items()):
                if _NAME.fullmatch(source.prefix + key):
                    found[source.prefix + key] = value.decode(errors="replace")
    for variable in container.env:
        origin = variable.value_from
        if origin is None:
            found[variable.name] = expand(variable.value, found)
        elif origin.field_ref is not None:
            found[variable.name] = field_of(pod, origin.field_ref.field_path, addresses)
        elif origin.resource_field_ref is not None:
            found[variable.name] = resource_of(pod, container, origin.resource_field_ref, capacity)
        else:
            for reference, kind, held in (
                (origin.config_map_key_ref, "configmap", objects.config_maps),
                (origin.secret_key_ref, "secret", objects.secrets),
            ):
                if reference is None:
                    continue
                if reference.key in held.get(reference.name, {}):
                    found[variable.name] = held[reference.name][reference.key].decode(errors="replace")
                elif not reference.optional:
                    missing = f"couldn't find key {reference.key} in" if reference.name in held else "not found:"
                    raise Unresolved(f'{missing} {kind} "{pod.metadata.namespace}/{reference.name}"')
    return found


def field_of(pod: Pod, path: str, addresses: Addresses) -> str:
    """A field as the downward API gives it. Raises Unresolved for a path that it does not have."""
    meta, spec = pod.metadata, pod.spec
    if match := _KEYED.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    simple = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": addresses.node_name,
        "spec.serviceAccountName": spec.service_account_name,
        "status.hostIP": addresses.host_ip,
        "status.hostIPs": ",".join(addresses.host_ips or (addresses.host_ip,)),
        "status.podIP": next(iter(addresses.ips), ""),
        "status.podIPs": ",".join(addresses.ips),
        "metadata.labels": _lines(meta.labels),
        "metadata.annotations": _lines(meta.annotations),
    }
    if path not in simple:
        raise Unresolved(f"fieldPath {path!r} is not supported")
    return simple[path]


def resource_of(pod: Pod, container: Container, reference: ResourceFieldRef, capacity: Capacity) -> str:
    """A request or limit in units of the divisor, rounded up; what is not set is what the machine has."""
    if reference.container_name:
        try:
            container = pod.program(reference.container_name)
        except KeyError:
            raise Unresolved(f"container {reference.container_name} not found") from None
    group, _, name = reference.resource.partition(".")
    limits, requests = container.resources.limits, container.resources.requests
    value = (limits if group == "limits" else requests).get(name)
    if value is None and group == "requests":
        value = limits.get(name, 0)
    amount = (
        {"cpu": capacity.cpu, "memory": capacity.memory}.get(name, Decimal(0)) if value is None else quantity(value)
    )
    divisor = quantity(reference.divisor) or Decimal(1)
    return str(math.ceil(amount / divisor))


def quantity(value: str | int | float) -> Decimal:
    """A Kubernetes quantity as a number. Raises Unresolved if it is none."""
    try:
        return quantities.parse(value)
    except ValueError as error:
        raise Unresolved(str(error)) from None


def argv_of(command: Sequence[str], args: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """The program's arguments with their references replaced."""
    return tuple(expand(part, variables) for part in (*command, *args))


def _lines(pairs: Mapping[str, str]) -> str:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'

    return "\n".join(f"{key}={quoted(pairs[key])}" for key in sorted(pairs))
