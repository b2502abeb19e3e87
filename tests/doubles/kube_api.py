"""A small Kubernetes API on loopback, for what is hard to get a real one to do.

It lists in pages, watches with bookmarks, forgets its history, patches, and can be told to fail in every way that a
client must survive. It checks nothing: no schema, no admission, no authorization beyond `token` and `forbidden`.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from ostria.base import ObjectKey
from ostria.base.merge_patch import merge_patch
from ostria.base.yaml import read_documents
from ostria.resources import KINDS, Kind, kind_of
from ostria.sources.access import Access, Bytes, Written

DROP = object()


class Event(NamedTuple):
    version: int
    type: str
    kind: str
    object: dict[str, Any]


class KubeApi:
    def __init__(self) -> None:
        self.objects: dict[ObjectKey, dict[str, Any]] = {}
        self.history: list[Event] = []
        self.version = 100
        self.floor = 0
        self.absent: set[str] = set()
        """Kinds that are not served."""
        self.forbidden: set[str] = set()
        """Kinds that may not be read."""
        self.versions: dict[str, list[str]] = {}
        """Versions served of a group, where they are not those of the table."""
        self.tokens: dict[str, tuple[str, str, str]] = {}
        self.token = ""
        self.failures: list[int] = []
        """Statuses that the next requests are answered with."""
        self.failures_at: dict[str, int] = {}
        """Statuses that the next request holding a text is answered with."""
        self.page_limit = 10_000
        self.stale: dict[ObjectKey, dict[str, Any]] | None = None
        """What a list at resourceVersion=0 shows, if not what is there."""
        self.requests: list[str] = []
        self.heard: Callable[[ObjectKey], object] = lambda key: None
        """Told of every object that changes."""
        self.watchers: dict[int, tuple[str, asyncio.Queue[Any]]] = {}
        self._pages: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._ids = itertools.count(1)
        self._runner: web.AppRunner
        self.url = ""

    def access(self, **more: Any) -> Access:
        return Access(self.url, Written(token=Bytes(given=self.token.encode() or None)), **more)

    # --- what a person with kubectl does ---------------------------------------------------------------------------

    def apply(self, text: str) -> None:
        for document in read_documents(text, "apply"):
            kind = kind_of(document.value["apiVersion"], document.value["kind"])
            assert kind is not None
            self.put(kind, document.value)

    def put(self, kind: Kind, value: Mapping[str, Any]) -> dict[str, Any]:
        value = copy.deepcopy(dict(value))
        meta = value.setdefault("metadata", {})
        if kind.namespaced:
            meta.setdefault("namespace", "default")
        key = ObjectKey("", kind.name, meta.get("namespace", ""), meta["name"])
        known = self.objects.get(key)
        meta["uid"] = known["metadata"]["uid"] if known else f"uid-{next(self._ids)}"
        return self._record("MODIFIED" if known else "ADDED", key, value)

    def delete(self, key: ObjectKey) -> None:
        self._record("DELETED", key, copy.deepcopy(self.objects[key]))

    def _record(self, what: str, key: ObjectKey, value: dict[str, Any]) -> dict[str, Any]:
        asyncio.get_running_loop().call_soon(self.heard, key)
        self.version += 1
        value["metadata"]["resourceVersion"] = str(self.version)
        if what == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = value
        event = Event(self.version, what, key.kind, value)
        self.history.append(event)
        for kind, queue in self.watchers.values():
            if kind == key.kind:
                queue.put_nowait(event)
        return value

    # --- what goes wrong -------------------------------------------------------------------------------------------

    def compact(self) -> None:
        """Forget the history: whoever asks for it is told that it is gone."""
        self.floor = self.version
        self.history.clear()
        self._pages.clear()

    def drop(self) -> None:
        """Cut every watch in the middle of a line."""
        for _, queue in self.watchers.values():
            queue.put_nowait(DROP)

    def send(self, kind: str, line: str) -> None:
        """Put a line of one's own into every watch of a kind."""
        for watched, queue in self.watchers.values():
            if watched == kind:
                queue.put_nowait(line)

    def bookmark(self) -> None:
        for kind, queue in self.watchers.values():
            meta = {"metadata": {"resourceVersion": str(self.version)}}
            queue.put_nowait(Event(self.version, "BOOKMARK", kind, meta))

    # --- the server ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[KubeApi]:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Go away."""
        self.drop()
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized")
        if self.failures:
            return status(self.failures.pop(0), "Failure")
        for text in list(self.failures_at):
            if text in request.path_qs:
                return status(self.failures_at.pop(text), "Failure")
        if request.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            return self._review(await request.json())
        parts = request.path.strip("/").split("/")
        if len(parts) == 2 and parts[0] == "apis":
            return self._group(parts[1])
        group, rest = ("", parts[1:]) if parts[0] == "api" else (parts[1], parts[2:])
        version, rest = rest[0], rest[1:]
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = next((kind for kind in KINDS.values() if (kind.group, kind.plural) == (group, rest[0])), None)
        if kind is None or kind.name in self.absent or version not in self._versions(kind):
            return web.Response(status=404, text="404 page not found")
        if kind.name in self.forbidden:
            return status(403, "Forbidden")
        if len(rest) == 1 and request.method == "GET":
            if request.query.get("watch") == "true":
                return await self._watch(request, kind)
            return self._list(request, kind)
        return await self._write(request, kind, ObjectKey("", kind.name, namespace, [*rest, ""][1]))

    def _versions(self, kind: Kind) -> tuple[str, ...] | list[str]:
        return self.versions.get(kind.group, kind.versions)

    def _group(self, group: str) -> web.Response:
        kinds = [kind for kind in KINDS.values() if kind.group == group and kind.name not in self.absent]
        if not kinds:
            return web.Response(status=404, text="404 page not found")
        served = [{"groupVersion": f"{group}/{version}", "version": version} for version in self._versions(kinds[0])]
        return web.json_response({"kind": "APIGroup", "name": group, "versions": served})

    def _list(self, request: web.Request, kind: Kind) -> web.Response:
        limit = min(int(request.query.get("limit", self.page_limit)), self.page_limit)
        token = request.query.get("continue", "")
        if token:
            if token not in self._pages:
                return status(410, "Expired")
            version, items = self._pages.pop(token)
        else:
            shown = self.objects
            if request.query.get("resourceVersion") == "0" and self.stale is not None:
                shown = self.stale
            items = [value for key, value in sorted(shown.items()) if key.kind == kind.name]
            version = self.version if shown is self.objects else max(self.floor, 1)
        meta = {"resourceVersion": str(version)}
        if len(items) > limit:
            meta["continue"] = f"page-{next(self._ids)}"
            self._pages[meta["continue"]] = (version, items[limit:])
        return web.json_response({"kind": "List", "metadata": meta, "items": items[:limit]})

    async def _watch(self, request: web.Request, kind: Kind) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.floor:
            return status(410, "Expired")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[Any] = asyncio.Queue()
        for event in self.history:
            if event.kind == kind.name and event.version > since:
                queue.put_nowait(event)
        me = next(self._ids)
        self.watchers[me] = (kind.name, queue)
        try:
            await response.prepare(request)
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "300"))):
                while True:
                    event = await queue.get()
                    if event is DROP:
                        await response.write(b'{"type":"ADDED","object":{"metadata":{"na')
                        assert request.transport is not None
                        request.transport.close()
                        return response
                    line = event if isinstance(event, str) else json.dumps({"type": event.type, "object": event.object})
                    await response.write(line.encode() + b"\n")
        except (TimeoutError, ConnectionError):
            pass
        finally:
            del self.watchers[me]
        return response

    def _review(self, review: Mapping[str, Any]) -> web.Response:
        """Whose a token is, by `tokens`: token -> (namespace, service account, pod)."""
        found = self.tokens.get(review["spec"]["token"])
        if found is None:
            return web.json_response({**review, "status": {"authenticated": False}}, status=201)
        namespace, account, pod = found
        extra = {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": ["uid"]}
        user = {"username": f"system:serviceaccount:{namespace}:{account}", "extra": extra}
        result = {"authenticated": True, "user": user, "audiences": review["spec"]["audiences"]}
        return web.json_response({**review, "status": result}, status=201)

    async def _write(self, request: web.Request, kind: Kind, key: ObjectKey) -> web.Response:
        if request.method == "POST":
            value = await request.json()
            meta = value["metadata"]
            key = key._replace(name=meta["name"])
            if key in self.objects:
                return status(409, "AlreadyExists")
            return web.json_response(self.put(kind, value), status=201)
        known = self.objects.get(key)
        if known is None:
            return status(404, "NotFound")
        if request.method == "GET":
            return web.json_response(known)
        if request.method == "DELETE":
            self.delete(key)
            return status(200, "")
        value = await request.json()
        if request.method == "PATCH":
            assert request.content_type == "application/merge-patch+json"
            value = merge_patch(known, value)
            if value == known:
                return web.json_response(known)
        elif (
            value["metadata"].get("resourceVersion", known["metadata"]["resourceVersion"])
            != (known["metadata"]["resourceVersion"])
        ):
            return status(409, "Conflict")
        return web.json_response(self.put(kind, value))


def status(code: int, reason: str) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "code": code,
        "reason": reason,
        "message": f"the double says {reason}",
    }
    headers = {"Retry-After": "0"} if code == 429 else {}
    return web.json_response(body, status=code, headers=headers)
