"""Services of type LoadBalancer: which ports of the host they are reached by, and how they tell it.

    Services -> exposures (what shall be open) -> the network opens them -> status and annotation

Ports 80 and 443 prefer 8080 and 8443, as most people are not root; others prefer their own number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

import msgspec

from ostria.node.controllers.objects import (
    SERVICE,
    Condition,
    Document,
    Key,
    View,
    annotations_of,
    condition_of,
    is_deleted,
    key_of,
    status_of,
    with_metadata,
)
from ostria.node.controllers.writes import NOTHING, Changed, Controller, Outcome, Say, Update, Write
from ostria.node.network.inbound import Exposure

ANNOTATION = "ostria.dev/host-ports"
ADDRESS = "127.0.0.1"
PREFERRED: Mapping[int, int] = {80: 8080, 443: 8443}

CONDITION = "HostPorts"
"""The condition that says False when a port of the host could not be had."""


class Ports(Protocol):
    """What has come of the wishes."""

    def opened(self) -> Mapping[Key, Mapping[int, int]]:
        """The host's port of each port of each Service."""

    @property
    def refused(self) -> Mapping[tuple[Key, int], str]:
        """Why some have none, by Service and port."""


def is_balanced(service: Document) -> bool:
    """Whether a Service wants to be reached from the host."""
    spec = service["spec"]
    own = spec.get("loadBalancerClass") is None
    return bool(spec.get("type") == "LoadBalancer" and own and not is_deleted(service))


def exposures(
    services: Iterable[Document], preferred: Mapping[int, int], *, strict: bool
) -> dict[tuple[Key, int], Exposure]:
    """What shall be open, by Service and port: TCP only."""
    found = {}
    for service in sorted(filter(is_balanced, services), key=key_of):
        key, address = key_of(service), service["spec"].get("clusterIP", "")
        if address in ("", "None"):
            continue
        for port in service["spec"].get("ports") or ():
            if port.get("protocol", "TCP") == "TCP":
                number = port["port"]
                name = f"LoadBalancer {key.namespace}/{key.name}:{number}"
                wish = preferred.get(number, number)
                found[key, number] = Exposure(name, wish, address, number, strict=strict)
    return found


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The Service."""
    if changed.kind == SERVICE and changed.after is not None:
        yield key_of(changed.after)


def reconcile(host: Ports, view: View, key: Key, now: float) -> Outcome:
    """Tell a Service which ports it has."""
    service = view.get(SERVICE, *key)
    if service is None or is_deleted(service):
        return NOTHING
    ports = host.opened().get(key, {}) if is_balanced(service) else {}
    told = msgspec.json.encode({str(port): ports[port] for port in sorted(ports)}).decode() if ports else None
    writes: list[Write] = []
    annotations = dict(annotations_of(service))
    if annotations.get(ANNOTATION) != told:
        annotations.pop(ANNOTATION, None)
        if told:
            annotations[ANNOTATION] = told
            words = ", ".join(f"{port} on {ADDRESS}:{ports[port]}" for port in sorted(ports))
            writes.append(Say(service, "HostPorts", f"Reachable from this machine: {words}"))
        service = with_metadata(service, annotations=annotations or None)
        writes.insert(0, Update(SERVICE, service))
    ingress = [{"ip": ADDRESS, "ipMode": "VIP", "ports": [_port(port) for port in sorted(ports)]}] if ports else []
    status = {**status_of(service), "loadBalancer": {"ingress": ingress} if ingress else {}}
    why = "; ".join(host.refused[slot] for slot in sorted(host.refused) if slot[0] == key)
    conditions = [each for each in status.get("conditions") or () if each["type"] != CONDITION]
    if why:
        conditions.append(Condition(CONDITION, "False", "PortTaken", why).over(condition_of(service, CONDITION), now))
    if conditions or "conditions" in status:
        status["conditions"] = conditions
    if status != {"loadBalancer": {}, **status_of(service)}:
        writes.append(Update(SERVICE, {**service, "status": status}, "status"))
    return Outcome(tuple(writes))


def _port(number: int) -> dict[str, int | str]:
    return {"port": number, "protocol": "TCP"}


def controller(host: Ports) -> Controller:
    """The controller that tells what `host` has come to."""
    return Controller("loadbalancer", concerned, partial(reconcile, host))
