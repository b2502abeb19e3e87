"""The Service `default/kubernetes`: how pods reach the API, by an address of the pods' own network.

The node listens on the gateway's address and relays to the API server, which runs on the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from ostria.node.controllers.endpoint_slices import SERVICE_NAME
from ostria.node.controllers.objects import (
    ENDPOINT_SLICE,
    ENDPOINTS,
    NAMESPACE,
    SERVICE,
    Key,
    View,
    is_deleted,
    key_of,
    labels_of,
    with_metadata,
)
from ostria.node.controllers.writes import NOTHING, Changed, Controller, Create, Outcome, Update, Write

KEY = Key("default", "kubernetes")


class Place(NamedTuple):
    """The Service's virtual address, and where the node listens for it."""

    cluster_ip: str
    address: str
    port: int


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """It is one."""
    mirrored = changed.kind in (SERVICE, ENDPOINTS, ENDPOINT_SLICE)
    for document in (changed.before, changed.after):
        if document is None:
            continue
        if (mirrored and key_of(document) == KEY) or (
            changed.kind == NAMESPACE and key_of(document).name == KEY.namespace
        ):
            yield KEY


def reconcile(place: Place, view: View, key: Key, now: float) -> Outcome:
    """The Service, its EndpointSlice and its Endpoints."""
    if view.get(NAMESPACE, "", KEY.namespace) is None:
        return NOTHING
    writes: list[Write] = []
    labels = {"component": "apiserver", "provider": "kubernetes"}
    meta = {"name": KEY.name, "namespace": KEY.namespace}
    if view.get(SERVICE, *KEY) is None:
        port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": place.port}
        spec = {"type": "ClusterIP", "clusterIP": place.cluster_ip, "clusterIPs": [place.cluster_ip], "ports": [port]}
        spec |= {"ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        made = {"apiVersion": "v1", "kind": "Service", "metadata": {**meta, "labels": labels}, "spec": spec}
        writes.append(Create(SERVICE, made))
    port = {"name": "https", "port": place.port, "protocol": "TCP"}
    piece: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {SERVICE_NAME: KEY.name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [place.address], "conditions": {"ready": True}}],
        "ports": [port],
    }
    subsets = [{"addresses": [{"ip": place.address}], "ports": [port]}]
    older: dict[str, Any] = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": subsets}
    for kind, wanted, fields in ((ENDPOINT_SLICE, piece, ("endpoints", "ports")), (ENDPOINTS, older, ("subsets",))):
        known = view.get(kind, *KEY)
        if known is None:
            writes.append(Create(kind, wanted))
        elif not is_deleted(known) and any(known.get(field) != wanted[field] for field in fields):
            kept = with_metadata(known, labels={**labels_of(known), **wanted["metadata"].get("labels", {})})
            writes.append(Update(kind, {**wanted, "metadata": kept["metadata"]}))
    return Outcome(tuple(writes))


def controller(place: Place) -> Controller:
    """The controller that keeps it."""
    return Controller("kubernetes-service", concerned, partial(reconcile, place))
