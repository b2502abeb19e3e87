"""Services of type LoadBalancer: which ports of the host they are reached by, and how they tell it.

    Services -> exposures (what shall be open) -> the network opens them -> status and annotation

Ports 80 and 443 prefer 8080 and 8443, as most people are not root; others prefer their own number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import msgspec

from ostria.node.controllers.objects import (
    SERVICE,
    Document,
    Key,
    View,
    annotations_of,
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

Opened = Mapping[Key, Mapping[int, int]]
"""The host's port of each port of each Service."""


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


def reconcile(opened: Callable[[], Opened], view: View, key: Key, now: float) -> Outcome:
    """Tell a Service which ports it has."""
    service = view.get(SERVICE, *key)
    if service is None or is_deleted(service):
        return NOTHING
    ports = opened().get(key, {}) if is_balanced(service) else {}
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
    balancer = {"ingress": ingress} if ingress else {}
    if (status_of(service).get("loadBalancer") or {}) != balancer:
        status = {**status_of(service), "loadBalancer": balancer}
        writes.append(Update(SERVICE, {**service, "status": status}, "status"))
    return Outcome(tuple(writes))


def _port(number: int) -> dict[str, int | str]:
    return {"port": number, "protocol": "TCP"}


def controller(opened: Callable[[], Opened]) -> Controller:
    """The controller that tells what `opened` says."""
    return Controller("loadbalancer", concerned, partial(reconcile, opened))
