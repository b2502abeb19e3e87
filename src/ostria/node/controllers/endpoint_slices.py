"""EndpointSlices and Endpoints: where the pods are that a Service selects, and whether they may be called.

A slice holds one address family and one set of port numbers (a named target port may be another number in each pod).
Its name follows from these, so that what is there already is found again. A pod that ends stays in its slice, marked
terminating, until it is gone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from ostria.base.selectors import matches_labels
from ostria.node.controllers.objects import (
    ENDPOINT_SLICE,
    ENDPOINTS,
    POD,
    SERVICE,
    Document,
    Key,
    View,
    is_deleted,
    is_ready,
    key_of,
    labels_of,
    status_of,
    uid_of,
    with_metadata,
)
from ostria.node.controllers.owners import owner_reference
from ostria.node.controllers.writes import NOTHING, Changed, Controller, Create, Delete, Outcome, Update, Write

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
OURS = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
MOST = 100
"""Endpoints in a slice."""


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The Service, whose slice it is, or which select the pod or have selected it."""
    for document in (changed.before, changed.after):
        if document is None:
            continue
        namespace, name = key_of(document)
        if changed.kind in (SERVICE, ENDPOINTS):
            yield Key(namespace, name)
        elif changed.kind == ENDPOINT_SLICE:
            if labels_of(document).get(MANAGED_BY) == OURS:
                yield Key(namespace, labels_of(document).get(SERVICE_NAME, ""))
        elif changed.kind == POD:
            for service in view.list(SERVICE, namespace):
                selector = service["spec"].get("selector")
                if selector and matches_labels(selector, labels_of(document)):
                    yield key_of(service)


class Port(NamedTuple):
    """One port as endpoints have it."""

    name: str
    number: int
    protocol: str
    app_protocol: str


class _Place(NamedTuple):
    """Endpoints of one slice: which family, which ports."""

    family: str
    ports: tuple[Port, ...]


def reconcile(view: View, key: Key, now: float) -> Outcome:
    """What one Service needs."""
    service = view.get(SERVICE, *key)
    if service is None or is_deleted(service) or not service["spec"].get("selector"):
        # Without a selector they are somebody else's; with the Service they go by their owner.
        return NOTHING
    if service["spec"].get("type") == "ExternalName":
        return NOTHING
    pods = _pods(view, service)
    wanted = {each["metadata"]["name"]: each for each in _slices(service, pods)}
    writes: list[Write] = []
    for known in view.list(ENDPOINT_SLICE, key.namespace):
        labels = labels_of(known)
        if labels.get(SERVICE_NAME) != key.name or labels.get(MANAGED_BY) != OURS or is_deleted(known):
            continue
        new = wanted.pop(known["metadata"]["name"], None)
        if new is None:
            writes.append(Delete(ENDPOINT_SLICE, known))
        elif _differs(known, new):
            meta = with_metadata(known, labels=new["metadata"]["labels"])["metadata"]
            writes.append(Update(ENDPOINT_SLICE, {**new, "metadata": meta}))
    # What is new first: no address shall be missing in between.
    fresh: list[Write] = [Create(ENDPOINT_SLICE, new) for new in wanted.values()]
    return Outcome((*fresh, *writes, *_endpoints(view, service, pods)))


def _differs(known: Document, new: Document) -> bool:
    if any(known.get(field) != new[field] for field in ("endpoints", "ports")):
        return True
    return any(labels_of(known).get(name) != value for name, value in labels_of(new).items())


def _pods(view: View, service: Document) -> list[Document]:
    selector = service["spec"]["selector"]
    return sorted(
        (
            pod
            for pod in view.list(POD, key_of(service).namespace)
            if matches_labels(selector, labels_of(pod))
            and addresses_of(pod)
            and status_of(pod).get("phase") not in ("Succeeded", "Failed")
        ),
        key=key_of,
    )


def addresses_of(pod: Document) -> tuple[str, ...]:
    """A pod's addresses, of both families."""
    status = status_of(pod)
    found = [each["ip"] for each in status.get("podIPs") or () if each.get("ip")]
    return tuple(found) or ((status["podIP"],) if status.get("podIP") else ())


def _families(service: Document, pods: Sequence[Document]) -> tuple[str, ...]:
    """Those of the Service; a headless one that says nothing has those of its pods."""
    given = service["spec"].get("ipFamilies")
    if given:
        return tuple(given)
    cluster_ip = service["spec"].get("clusterIP", "")
    if cluster_ip and cluster_ip != "None":
        return (_family(cluster_ip),)
    found = {_family(address) for pod in pods for address in addresses_of(pod)}
    return tuple(sorted(found)) or ("IPv4",)


def _family(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"


def ports_of(service: Document, pod: Document) -> tuple[Port, ...]:
    """The Service's ports as this pod has them; a named one that the pod lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        target = port.get("targetPort", port["port"])
        number = _named(pod, target, protocol) if isinstance(target, str) else target or port["port"]
        if number is not None:
            found.append(Port(port.get("name", ""), number, protocol, port.get("appProtocol", "")))
    return tuple(found)


def _named(pod: Document, name: str, protocol: str) -> int | None:
    if name.isdecimal():
        return int(name)
    spec = pod["spec"]
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    for container in (*spec["containers"], *sidecars):
        for port in container.get("ports") or ():
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return None


def _slices(service: Document, pods: Sequence[Document]) -> Iterable[dict[str, Any]]:
    families = _families(service, pods)
    placed: dict[_Place, list[dict[str, Any]]] = {}
    for pod in pods:
        for family in families:
            inside = [address for address in addresses_of(pod) if _family(address) == family]
            if inside:
                place = _Place(family, ports_of(service, pod))
                placed.setdefault(place, []).append(_endpoint(service, pod, inside[0]))
    for family in families:
        if not any(place.family == family for place in placed):
            # A Service without pods has an empty slice, so that it can be told from one that is not known yet.
            placed[_Place(family, ())] = []
    for place, endpoints in sorted(placed.items(), key=lambda item: item[0]):
        for number, start in enumerate(range(0, max(1, len(endpoints)), MOST)):
            yield _slice(service, place, number, endpoints[start : start + MOST])


def _slice(service: Document, place: _Place, number: int, endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    namespace, name = key_of(service)
    code = blake2b(msgspec.json.encode([place, number]), digest_size=3).hexdigest()
    # The Service's own labels go along, as they do in Kubernetes.
    labels = {**labels_of(service), SERVICE_NAME: name, MANAGED_BY: OURS}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name[:56]}-{code}",
            "namespace": namespace,
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": place.family,
        "endpoints": endpoints,
        "ports": [_port(port) for port in place.ports],
    }


def _port(port: Port) -> dict[str, Any]:
    written: dict[str, Any] = {"name": port.name, "port": port.number, "protocol": port.protocol}
    return written | ({"appProtocol": port.app_protocol} if port.app_protocol else {})


def _endpoint(service: Document, pod: Document, address: str) -> dict[str, Any]:
    serving, ends = is_ready(pod), is_deleted(pod)
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    endpoint: dict[str, Any] = {
        "addresses": [address],
        "conditions": {"ready": anyway or (serving and not ends), "serving": serving, "terminating": ends},
        "targetRef": _reference(pod),
    }
    if pod["spec"].get("nodeName"):
        endpoint["nodeName"] = pod["spec"]["nodeName"]
    if hostname := _hostname(service, pod):
        endpoint["hostname"] = hostname
    return endpoint


def _hostname(service: Document, pod: Document) -> str:
    """A pod that names this Service as its subdomain has a name of its own in it."""
    spec = pod["spec"]
    return str(spec.get("hostname", "")) if spec.get("subdomain") == service["metadata"]["name"] else ""


def _reference(pod: Document) -> dict[str, str]:
    namespace, name = key_of(pod)
    return {"kind": "Pod", "name": name, "namespace": namespace, "uid": uid_of(pod)}


# --- v1 Endpoints ----------------------------------------------------------------------------------------------------


def _endpoints(view: View, service: Document, pods: Sequence[Document]) -> tuple[Write, ...]:
    """The same in the older kind: one family, and without what ends."""
    key = key_of(service)
    family = _families(service, pods)[0]
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    groups: dict[tuple[Port, ...], tuple[list[Any], list[Any]]] = {}
    for pod in pods:
        address = next((each for each in addresses_of(pod) if _family(each) == family), None)
        if address is None or is_deleted(pod):
            continue
        entry: dict[str, Any] = {"ip": address, "targetRef": _reference(pod)}
        if pod["spec"].get("nodeName"):
            entry["nodeName"] = pod["spec"]["nodeName"]
        if hostname := _hostname(service, pod):
            entry["hostname"] = hostname
        ready, others = groups.setdefault(ports_of(service, pod), ([], []))
        (ready if anyway or is_ready(pod) else others).append(entry)
    subsets = [_subset(ports, *held) for ports, held in sorted(groups.items())]
    labels = {**labels_of(service), "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    known = view.get(ENDPOINTS, *key)
    if known is None:
        meta = {"name": key.name, "namespace": key.namespace, "labels": labels}
        made = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}
        return (Create(ENDPOINTS, made),)
    if is_deleted(known) or ((known.get("subsets") or []) == subsets and labels_of(known) == labels):
        return ()
    return (Update(ENDPOINTS, {**with_metadata(known, labels=labels), "subsets": subsets}),)


def _subset(ports: Iterable[Port], ready: list[Any], others: list[Any]) -> Mapping[str, Any]:
    subset: dict[str, Any] = {}
    if ready:
        subset["addresses"] = ready
    if others:
        subset["notReadyAddresses"] = others
    written = [_port(port) for port in ports]
    if written:
        subset["ports"] = [{name: value for name, value in port.items() if value != ""} for port in written]
    return subset


CONTROLLER = Controller("endpointslice", concerned, reconcile)
