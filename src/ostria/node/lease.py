"""The node's Lease: a sign of life, renewed now and then, as kubelet gives it."""

from __future__ import annotations

import datetime
import logging

import msgspec

from ostria.base.clock import Clock
from ostria.node.controllers.mirror import Mirror
from ostria.node.controllers.objects import LEASE, NODE, with_metadata
from ostria.node.controllers.owners import owner_reference
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.reflector import collection_path

log = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
PERIOD, DURATION, RETRY = 15.0, 40, 1.0
"""Seconds between renewals, for how long each holds, and after which one that has failed is tried again."""


async def keep_lease(api: Api, mirror: Mirror, node_name: str, clock: Clock) -> None:
    """Renew the Lease until cancelled."""
    path = collection_path(LEASE, "v1", NAMESPACE)
    while True:
        moment = datetime.datetime.fromtimestamp(clock.now(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": node_name, "leaseDurationSeconds": DURATION, "renewTime": moment}
        try:
            await _renew(api, mirror, path, node_name, spec)
        except (ApiError, *FAILURES) as error:
            # At the start the Node, which the Lease belongs to, is still to be made.
            log.debug("the lease of %s is not renewed: %s", node_name, error)
            await clock.sleep(RETRY)
        else:
            await clock.sleep(PERIOD)


async def _renew(api: Api, mirror: Mirror, path: str, node_name: str, spec: dict[str, object]) -> None:
    patch = msgspec.json.encode({"spec": spec})
    try:
        await api.send("PATCH", f"{path}/{node_name}", patch, content_type="application/merge-patch+json")
    except ApiError as error:
        node = mirror.get(NODE, "", node_name)
        if error.status != 404 or node is None:
            raise
        made = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.name,
            "metadata": {"name": node_name, "namespace": NAMESPACE},
            "spec": spec,
        }
        owners = [{**owner_reference(node), "controller": False, "blockOwnerDeletion": False}]
        await api.send("POST", path, msgspec.json.encode(with_metadata(made, ownerReferences=owners)))
