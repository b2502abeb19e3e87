"""Probes of applications, sent to the agent instead: the kubelet has no certificate, and capture would refuse it.

    httpGet :8080/healthz  ->  httpGet :15020/app-health/<container>/livez, and what it was in ISTIO_KUBE_APP_PROBERS

The agent asks the application in the kubelet's place. Probes that run a command stay as they are. See
https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

PROBERS = "ISTIO_KUBE_APP_PROBERS"

Container = Mapping[str, Any]
Probers = dict[str, dict[str, Any]]

# Where a container has a probe or hook, and under which path the agent answers for it.
_PLACES = (
    (("livenessProbe",), "/app-health/{}/livez"),
    (("readinessProbe",), "/app-health/{}/readyz"),
    (("startupProbe",), "/app-health/{}/startupz"),
    (("lifecycle", "postStart"), "/app-lifecycle/{}/poststartz"),
    (("lifecycle", "preStop"), "/app-lifecycle/{}/prestopz"),
)
_SENT = ("httpGet", "tcpSocket", "grpc")


def rewrite(container: Container, port: int) -> tuple[dict[str, Any], Probers]:
    """A container whose probes ask the agent at `port`, and what they were, by the agent's paths."""
    changed = dict(container)
    probers: Probers = {}
    for place, pattern in _PLACES:
        probe = _at(container, place)
        action = _action(probe, container)
        if probe is None or action is None:
            continue
        path = pattern.format(container["name"])
        timeout = probe.get("timeoutSeconds")
        probers[path] = action | ({"timeoutSeconds": timeout} if timeout else {})
        rest = {name: value for name, value in probe.items() if name not in _SENT}
        _put(changed, place, {**rest, "httpGet": {"path": path, "port": port}})
    return changed, probers


def restore(container: Container, probers: Mapping[str, Any]) -> dict[str, Any]:
    """The container with its own probes again."""
    changed = dict(container)
    for place, pattern in _PLACES:
        probe = _at(container, place)
        path = pattern.format(container["name"])
        was = probers.get(path)
        if probe is None or not isinstance(was, Mapping) or (probe.get("httpGet") or {}).get("path") != path:
            continue
        rest = {name: value for name, value in probe.items() if name not in _SENT}
        _put(changed, place, rest | {name: was[name] for name in _SENT if name in was})
    return changed


def encode(probers: Probers) -> str:
    """What they were, as the agent reads it."""
    return json.dumps(probers, separators=(",", ":"), sort_keys=True)


def decode(text: str) -> Mapping[str, Any]:
    """The reverse; what cannot be read is nothing."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def _at(container: Container, place: Iterable[str]) -> Mapping[str, Any] | None:
    value: Any = container
    for step in place:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else None


def _put(container: dict[str, Any], place: tuple[str, ...], probe: dict[str, Any]) -> None:
    if len(place) == 1:
        container[place[0]] = probe
    else:
        container[place[0]] = {**container[place[0]], place[1]: probe}


def _action(probe: Mapping[str, Any] | None, container: Container) -> dict[str, Any] | None:
    """What a probe sends, with its port as a number; None for one that sends nothing or to a port no one named."""
    for name in _SENT:
        sent = (probe or {}).get(name)
        if isinstance(sent, Mapping):
            port = _number(sent.get("port"), container)
            return None if port is None else {name: {**sent, "port": port}}
    return None


def _number(port: Any, container: Container) -> int | None:
    if isinstance(port, int):
        return port
    if isinstance(port, str) and port.isascii() and port.isdecimal():
        return int(port)
    return next(_named(port, container), None)


def _named(name: Any, container: Container) -> Iterator[int]:
    for port in container.get("ports") or ():
        if port.get("name") == name and isinstance(port.get("containerPort"), int):
            yield port["containerPort"]
