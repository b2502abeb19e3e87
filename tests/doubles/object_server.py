"""An ObjectStore behind HTTP: lists, watches and writes, as far as a node asks. No authentication, no history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from doubles.object_store import ObjectStore, kind_at
from ostria.base import ObjectKey
from ostria.resources import Change
from ostria.sources.access import Access, Written
from ostria.sources.api import ApiError
from ostria.sources.documents import Document


class ObjectServer:
    """The server of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.url = ""
        self._watchers: list[tuple[str, asyncio.Queue[Any]]] = []
        self._seen: set[ObjectKey] = set()
        self._changed = asyncio.Event()
        store.heard = self._hear

    @property
    def access(self) -> Access:
        return Access(self.url, Written())

    async def until(self, condition: Any, bound: float = 30.0) -> Any:
        """Wait until a condition on the store holds."""
        try:
            async with asyncio.timeout(bound):
                while not (found := condition()):
                    self._changed.clear()
                    await self._changed.wait()
                return found
        except TimeoutError:
            shown = {str(key): value.get("status") for key, value in self.store.objects.items() if key.kind == "Pod"}
            events = [f"{v['reason']}: {v['message']}" for k, v in self.store.objects.items() if k.kind == "Event"]
            raise AssertionError(json.dumps([shown, events], indent=1)[-6000:]) from None

    def _hear(self, change: Change) -> None:
        self._changed.set()
        value: dict[str, Any]
        if isinstance(change.object, Document):
            what, value = "MODIFIED" if change.key in self._seen else "ADDED", dict(change.object.value)
            self._seen.add(change.key)
        else:
            what = "DELETED"
            meta = {"name": change.key.name, "namespace": change.key.namespace}
            value = {"metadata": {**meta, "resourceVersion": str(self.store.version)}}
            self._seen.discard(change.key)
        for kind, queue in self._watchers:
            if kind == change.key.kind:
                queue.put_nowait(json.dumps({"type": what, "object": value}))

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[ObjectServer]:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for _, queue in self._watchers:
                queue.put_nowait(None)
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        if len(parts) == 2 and parts[0] == "apis":
            versions = [{"groupVersion": f"{parts[1]}/v1", "version": "v1"}]
            return web.json_response({"kind": "APIGroup", "name": parts[1], "versions": versions})
        kind = kind_at(request.path)
        if request.path.endswith("/token"):
            expires = "2100-01-01T00:00:00Z"
            return web.json_response({"status": {"token": "a.b.c", "expirationTimestamp": expires}}, status=201)
        if request.method == "GET" and request.path.endswith(f"/{kind.plural}"):
            if request.query.get("watch") == "true":
                return await self._watch(request, kind.name)
            items = self.store.all(kind)
            return web.json_response({"metadata": {"resourceVersion": str(self.store.version)}, "items": items})
        try:
            body = await self.store.send(request.method, request.path, await request.read() or None)
        except ApiError as error:
            status = {"kind": "Status", "reason": error.reason, "message": error.message, "code": error.status}
            return web.json_response(status, status=error.status)
        return web.Response(body=body, content_type="application/json")

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[Any] = asyncio.Queue()
        since = int(request.query["resourceVersion"])
        for key, value in self.store.objects.items():
            if key.kind == kind and int(value["metadata"]["resourceVersion"]) > since:
                queue.put_nowait(json.dumps({"type": "MODIFIED", "object": value}))
        self._watchers.append((kind, queue))
        try:
            await response.prepare(request)
            while (line := await queue.get()) is not None:
                await response.write(line.encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watchers.remove((kind, queue))
        return response
