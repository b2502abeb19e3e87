"""Endpoints that people write by hand, for Services without a selector, as EndpointSlices: all else reads those only.

See https://kubernetes.io/docs/concepts/services-networking/service/#endpointslice-mirroring.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from ostria.node.controllers.endpoint_slices import MANAGED_BY, SERVICE_NAME
from ostria.node.controllers.objects import (
    ENDPOINT_SLICE,
    ENDPOINTS,
    SERVICE,
    Document,
    Key,
    View,
    is_deleted,
    key_of,
    labels_of,
)
from ostria.node.controllers.owners import owner_reference
from ostria.node.controllers.writes import Changed, Controller, Create, Delete, Outcome, Update, Write

OURS = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_API = Key("default", "kubernetes")


def concerned(view: View, changed: Changed) -> Iterable[Key]:
    """The Service of this name, or whose slice it is."""
    for document in (changed.before, changed.after):
        if document is None:
            continue
        if changed.kind in (SERVICE, ENDPOINTS):
            yield key_of(document)
        elif changed.kind == ENDPOINT_SLICE and labels_of(document).get(MANAGED_BY) == OURS:
            yield Key(key_of(document).namespace, labels_of(document).get(SERVICE_NAME, ""))


def reconcile(view: View, key: Key, now: float) -> Outcome:
    """The slices of one Service's Endpoints."""
    endpoints, service = view.get(ENDPOINTS, *key), view.get(SERVICE, *key)
    wanted: dict[str, dict[str, Any]] = {}
    if endpoints is not None and service is not None and _is_mirrored(endpoints, service):
        wanted = {each["metadata"]["name"]: each for each in _slices(endpoints)}
    writes: list[Write] = []
    for known in view.list(ENDPOINT_SLICE, key.namespace):
        labels = labels_of(known)
        if labels.get(SERVICE_NAME) != key.name or labels.get(MANAGED_BY) != OURS or is_deleted(known):
            continue
        new = wanted.pop(known["metadata"]["name"], None)
        if new is None:
            writes.append(Delete(ENDPOINT_SLICE, known))
        elif known.get("endpoints") != new["endpoints"]:
            writes.append(Update(ENDPOINT_SLICE, {**known, "endpoints": new["endpoints"]}))
    return Outcome((*(Create(ENDPOINT_SLICE, new) for new in wanted.values()), *writes))


def _is_mirrored(endpoints: Document, service: Document) -> bool:
    if service["spec"].get("selector") or is_deleted(endpoints) or key_of(endpoints) == _API:
        return False
    told = labels_of(endpoints).get(SKIP) == "true"
    return not told and _LEADER not in (endpoints["metadata"].get("annotations") or {})


def _slices(endpoints: Document) -> Iterable[dict[str, Any]]:
    """One for each family of each subset."""
    key = key_of(endpoints)
    for subset in endpoints.get("subsets") or ():
        ports = subset.get("ports") or []
        every = [(each, True) for each in subset.get("addresses") or ()]
        every += [(each, False) for each in subset.get("notReadyAddresses") or ()]
        for version in (4, 6):
            held = [
                _endpoint(each, ready=ready)
                for each, ready in every
                if ipaddress.ip_address(each["ip"]).version == version
            ]
            if not held:
                continue
            code = blake2b(msgspec.json.encode([version, ports]), digest_size=3).hexdigest()
            yield {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{key.name[:56]}-{code}",
                    "namespace": key.namespace,
                    "labels": {**labels_of(endpoints), SERVICE_NAME: key.name, MANAGED_BY: OURS},
                    "ownerReferences": [owner_reference(endpoints)],
                },
                "addressType": f"IPv{version}",
                "endpoints": held,
                "ports": [{"name": "", "protocol": "TCP", **port} for port in ports],
            }


def _endpoint(given: Mapping[str, Any], *, ready: bool) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"addresses": [given["ip"]], "conditions": {"ready": ready}}
    return endpoint | {name: given[name] for name in ("hostname", "nodeName", "targetRef") if given.get(name)}


CONTROLLER = Controller("endpointslicemirroring", concerned, reconcile)
