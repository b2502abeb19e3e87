"""The cluster of an API: what the node's pods ask of it, their statuses and their events.

It answers the protocols of `cluster`. What the API refuses for the moment is an OSError, which the node tries again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ostria.base.clock import Clock
from ostria.node.cluster import Token, config_map_data, secret_data
from ostria.node.controllers.mirror import Mirror
from ostria.node.controllers.objects import (
    CONFIG_MAP,
    POD,
    SECRET,
    SERVICE_ACCOUNT,
    Document,
    moment,
    status_of,
    uid_of,
)
from ostria.node.controllers.recorder import Note, Recorder
from ostria.node.pods import Pod, PodKey
from ostria.resources import Kind
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.reflector import collection_path

_ATTEMPTS = 5
# The node writes these conditions; all others of a pod are somebody else's.
_OURS = frozenset({"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"})


class ApiCluster:
    """A `Cluster`, a `StatusSink` and an `EventSink`."""

    def __init__(self, api: Api, mirror: Mirror, recorder: Recorder, clock: Clock) -> None:
        self._api = api
        self._mirror = mirror
        self._recorder = recorder
        self._clock = clock

    # --- Cluster ---------------------------------------------------------------------------------------------------

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The keys of a ConfigMap, None if there is none."""
        found = await self._get(CONFIG_MAP, namespace, name)
        return None if found is None else config_map_data(found)

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The keys of a Secret, None if there is none."""
        found = await self._get(SECRET, namespace, name)
        return None if found is None else secret_data(found)

    async def request_token(self, namespace: str, account: str, audience: str, seconds: int, pod: PodKey) -> Token:
        """A token of the account that is bound to the pod."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid}
        spec: dict[str, Any] = {"expirationSeconds": seconds, "boundObjectRef": bound}
        if audience:
            spec["audiences"] = [audience]
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"{collection_path(SERVICE_ACCOUNT, 'v1', namespace)}/{account or 'default'}/token"
        try:
            body = await self._api.send("POST", path, msgspec.json.encode(request))
        except (ApiError, *FAILURES) as error:
            raise OSError(f"no token of {namespace}/{account}: {error}") from error
        status = msgspec.json.decode(body)["status"]
        return Token(status["token"], moment(status["expirationTimestamp"]))

    async def _get(self, kind: Kind, namespace: str, name: str) -> Document | None:
        try:
            body = await self._api.get(f"{collection_path(kind, 'v1', namespace)}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise OSError(f"{kind.name} {namespace}/{name}: {error}") from error
        except FAILURES as error:
            raise OSError(f"{kind.name} {namespace}/{name}: {error}") from error
        found: Document = msgspec.json.decode(body)
        return found

    # --- StatusSink ------------------------------------------------------------------------------------------------

    async def write_status(self, key: PodKey, status: Mapping[str, Any]) -> None:
        """Put a status in the place of the one before; conditions that are not the node's stay."""
        known = self._mirror.get(POD, key.namespace, key.name)
        for _ in range(_ATTEMPTS):
            if known is None:
                known = await self._get(POD, key.namespace, key.name)
            if known is None or uid_of(known) != key.uid:
                return
            before = status_of(known)
            others = [each for each in before.get("conditions") or () if each["type"] not in _OURS]
            new = {**status, "conditions": [*status.get("conditions", ()), *others]}
            if new == before:
                return
            path = f"{collection_path(POD, 'v1', key.namespace)}/{key.name}/status"
            try:
                body = await self._api.send("PUT", path, msgspec.json.encode({**known, "status": new}))
            except ApiError as error:
                if error.status not in (404, 409):
                    raise OSError(str(error)) from error
                known = None
            except FAILURES as error:
                raise OSError(str(error)) from error
            else:
                self._mirror.note(POD, msgspec.json.decode(body), self._clock.now())
                return
        raise OSError(f"the status of {key} is changed by others all the time")

    async def remove_pod(self, key: PodKey) -> None:
        """Remove the object of a pod that has ended, and no other of its name."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": key.uid},
        }
        path = f"{collection_path(POD, 'v1', key.namespace)}/{key.name}"
        try:
            await self._api.send("DELETE", path, msgspec.json.encode(options))
        except ApiError as error:
            if error.status not in (404, 409):
                raise OSError(str(error)) from error
        except FAILURES as error:
            raise OSError(str(error)) from error

    # --- EventSink -------------------------------------------------------------------------------------------------

    def emit(self, pod: Pod, kind: str, reason: str, message: str, container: str = "") -> None:
        """Say something about a pod."""
        meta = pod.metadata
        part = "initContainers" if any(each.name == container for each in pod.spec.init_containers) else "containers"
        field = f"spec.{part}{{{container}}}" if container else ""
        self._recorder.say(
            Note("v1", "Pod", meta.namespace, meta.name, meta.uid, kind, reason, message, "kubelet", field)
        )
