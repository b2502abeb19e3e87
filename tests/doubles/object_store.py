"""An API for controllers, in memory: objects, versions, conflicts, owners, and a list-watch that may lag behind.

It answers what `sources.api.Api` is asked by the controllers' runner. What the API server does beside storing is here
as far as controllers rely on it: names are made, generations counted, statuses kept apart, owned objects collected.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import yaml

from ostria.base import ObjectKey
from ostria.base.clock import Clock, ManualClock
from ostria.base.merge_patch import merge_patch
from ostria.base.times import timestamp
from ostria.node.controllers.mirror import Mirror
from ostria.node.controllers.objects import EVENT, LEASE, WATCHED, Document
from ostria.node.controllers.recorder import Recorder
from ostria.node.controllers.runner import Runner
from ostria.node.controllers.writes import Changed, Controller
from ostria.resources import Change, Kind
from ostria.resources.shapes import Meta
from ostria.sources.api import ApiError
from ostria.sources.documents import Document as Whole

_KINDS = {(kind.group, kind.plural): kind for kind in (*WATCHED, EVENT, LEASE)}
_SPECLESS = {"ConfigMap", "Secret", "ServiceAccount", "Endpoints", "EndpointSlice", "Event"}


def _place(path: str) -> tuple[str, list[str]]:
    """The namespace of a path, and what follows."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if rest[0] == "namespaces" and len(rest) > 2:
        return rest[1], rest[2:]
    return "", rest


def kind_at(path: str) -> Kind:
    """The kind of a path's objects."""
    parts = path.strip("/").split("/")
    return _KINDS["" if parts[0] == "api" else parts[1], _place(path)[1][0]]


class ObjectStore:
    """The objects. `heard` is told of each change as the watch would."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.version = 0
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.failures: dict[str, list[int]] = {}
        """Statuses that the next requests whose `METHOD path` begins so are answered with."""
        self.heard: Callable[[Change], None] = lambda change: None
        self._names = itertools.count(1)

    # --- what a person does ----------------------------------------------------------------------------------------

    def apply(self, text: str) -> None:
        for document in yaml.safe_load_all(text):
            group = document["apiVersion"].rpartition("/")[0]
            kind = next(kind for kind in _KINDS.values() if (kind.name, kind.group) == (document["kind"], group))
            if kind.namespaced:
                document["metadata"].setdefault("namespace", "default")
            key = _key(kind, document)
            if key in self.objects:
                known = self.objects[key]
                self._put(kind, {**known, **document, "metadata": {**known["metadata"], **document["metadata"]}})
            else:
                self._create(kind, document)

    def change(self, kind: Kind, name: str, namespace: str = "default", **patch: Any) -> None:
        known = self.objects[ObjectKey("", kind.name, namespace if kind.namespaced else "", name)]
        self._put(kind, merge_patch(known, patch))

    def get(self, kind: Kind, name: str, namespace: str = "default") -> dict[str, Any]:
        return self.objects[ObjectKey("", kind.name, namespace if kind.namespaced else "", name)]

    def all(self, kind: Kind) -> list[dict[str, Any]]:
        return [value for key, value in sorted(self.objects.items()) if key.kind == kind.name]

    def delete(self, kind: Kind, name: str, namespace: str = "default", *, grace: int = 0) -> None:
        key = ObjectKey("", kind.name, namespace if kind.namespaced else "", name)
        known = self.objects[key]
        if grace:
            meta = {**known["metadata"], "deletionTimestamp": timestamp(self.clock.now())}
            self._put(kind, {**known, "metadata": {**meta, "deletionGracePeriodSeconds": grace}})
            return
        del self.objects[key]
        self.version += 1
        self.heard(Change(key, None))
        uid = known["metadata"]["uid"]
        for other in list(self.objects):
            held = self.objects.get(other, {"metadata": {}})["metadata"]
            if any(owner["uid"] == uid for owner in held.get("ownerReferences", ())):
                kind = next(each for each in _KINDS.values() if each.name == other.kind)
                self.delete(kind, other.name, other.namespace)

    # --- what the runner asks --------------------------------------------------------------------------------------

    async def get_path(self, path: str) -> bytes:
        return await self.send("GET", path)

    async def send(self, method: str, path: str, body: bytes | None = None, **more: Any) -> bytes:
        await asyncio.sleep(0)
        self.requests.append(f"{method} {path}")
        for begin, codes in self.failures.items():
            if codes and f"{method} {path}".startswith(begin):
                raise ApiError(codes.pop(0), "Failure", "the double says no")
        namespace, rest = _place(path)
        kind = kind_at(path)
        document = msgspec.json.decode(body) if body else {}
        if method == "POST" and len(rest) == 1:
            document["metadata"].setdefault("namespace", namespace)
            return msgspec.json.encode(self._create(kind, document))
        key = ObjectKey("", kind.name, namespace, rest[1])
        known = self.objects.get(key)
        if known is None:
            raise ApiError(404, "NotFound")
        if method == "GET":
            return msgspec.json.encode(known)
        if rest[2:] == ["binding"]:
            new = {**known, "spec": {**known["spec"], "nodeName": document["target"]["name"]}}
            return msgspec.json.encode(self._put(kind, new))
        if method == "DELETE":
            wanted = document.get("preconditions", {}).get("uid", known["metadata"]["uid"])
            if wanted != known["metadata"]["uid"]:
                raise ApiError(409, "Conflict")
            grace = known["spec"].get("terminationGracePeriodSeconds", 30) if kind.name == "Pod" else 0
            grace = document.get("gracePeriodSeconds", grace)
            self.delete(kind, rest[1], namespace, grace=grace)
            return msgspec.json.encode(self.objects.get(key, {"kind": "Status", "status": "Success"}))
        if method == "PATCH":
            return msgspec.json.encode(self._put(kind, merge_patch(known, document)))
        if document["metadata"].get("resourceVersion") != known["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict")
        if rest[2:] == ["status"]:
            document = {**known, "status": document.get("status", {})}
        else:
            document = {**document, "status": known.get("status", {})}
        return msgspec.json.encode(self._put(kind, document))

    def _create(self, kind: Kind, document: Mapping[str, Any]) -> dict[str, Any]:
        meta = dict(document["metadata"])
        if "name" not in meta:
            meta["name"] = f"{meta['generateName']}{next(self._names):05d}"
        if not kind.namespaced:
            meta.pop("namespace", None)
        key = ObjectKey("", kind.name, meta.get("namespace", ""), meta["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists")
        meta |= {"uid": f"uid-{next(self._names)}", "creationTimestamp": timestamp(self.clock.now()), "generation": 0}
        return self._put(kind, {**document, "metadata": meta})

    def _put(self, kind: Kind, document: Mapping[str, Any]) -> dict[str, Any]:
        value: dict[str, Any] = copy.deepcopy(dict(document))
        meta = value["metadata"]
        key = _key(kind, value)
        known = self.objects.get(key)
        if kind.name not in _SPECLESS and (known is None or known.get("spec") != value.get("spec")):
            meta["generation"] = meta.get("generation", 0) + 1
        value.setdefault("status", {})
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        self.objects[key] = value
        self.heard(Change(key, Whole(Meta(key.name, key.namespace), value)))
        return value


def _key(kind: Kind, document: Document) -> ObjectKey:
    meta = document["metadata"]
    return ObjectKey("", kind.name, meta.get("namespace", "") if kind.namespaced else "", meta["name"])


class _Api:
    """The part of `Api` that is asked."""

    def __init__(self, store: ObjectStore) -> None:
        self.send = store.send
        self.get = store.get_path


class Controlled:
    """Controllers at work over an ObjectStore. `lag` holds the watch back until `catch_up`."""

    def __init__(self, *controllers: Controller) -> None:
        self.clock = ManualClock()
        self.store = ObjectStore(self.clock)
        self.store.heard = self._hear
        self.lag = False
        self._held: list[Change] = []
        self.mirror = Mirror()
        api: Any = _Api(self.store)
        self.recorder = Recorder(api, self.clock, "node")
        self.runner = Runner(api, self.mirror, controllers, self.recorder, self.clock)
        self.after_settling: Callable[[], bool] = lambda: False
        """What else happens once the controllers rest; whether it has done something."""
        self.watched: Callable[[], None] = lambda: None
        """Called after each round, to hold a law."""

    def _hear(self, change: Change) -> None:
        self._held.append(change)
        if not self.lag:
            self.catch_up()

    def catch_up(self) -> None:
        """The watch tells what it has held back."""
        held, self._held = self._held, []
        self.runner.hear(list(self.mirror.apply(held)))

    async def settle(self, *, after: float = 0.0) -> None:
        """Until nobody has anything to do; `after` so many seconds, which the controllers live through."""
        if after:
            # The alarms of an earlier time have ended with it.
            self.look_again()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.runner.run()), group.create_task(self.recorder.run())]
            self.runner.begin()
            for _ in range(5000):
                for _ in range(10):
                    await asyncio.sleep(0)
                self.watched()
                if self.runner.idle and self.recorder.idle and not self.after_settling():
                    if not after:
                        break
                    self.clock.advance(after)
                    after = 0.0
            else:
                raise AssertionError("the controllers do not come to rest")
            for task in tasks:
                task.cancel()

    def look_again(self) -> None:
        """Every controller looks at everything."""
        for kind in WATCHED:
            self.runner.hear([Changed(kind, each, each) for each in self.store.all(kind)])

    def events(self) -> list[str]:
        return [f"{each['reason']}: {each['message']}" for each in self.store.all(EVENT)]
