"""A Kubernetes API as a person's commands ask it: discovery, server-side apply, tables, logs, exec.

What is served is told by the real discovery; applying replaces what was there. A ConfigMap with the key `forbidden` is
refused at that field; one with the key `warn` is answered with a warning.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from ostria.kubeapi.discovery import aggregated
from ostria.kubeapi.kinds import BUILT_IN


class EditableApi:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.logs: dict[str, list[bytes]] = {}
        """Pieces of the log of `POD/CONTAINER`."""
        self.answers: dict[str, str] = {}
        """What a command's last word is answered with; a command that is not here ends with 3."""
        self.url = ""

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        value = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
        }
        path.write_text(json.dumps(value))
        return path

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[EditableApi]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.requests.append(f"{request.method} {path}")
        if path in ("/api", "/apis"):
            return web.json_response(aggregated(BUILT_IN, core=path == "/api"))
        if path.endswith("/log"):
            return await self._log(request)
        if path.endswith("/exec"):
            return await self._exec(request)
        if request.method == "PATCH":
            return await self._apply(request)
        if request.method == "POST":
            value = json.loads(await request.read())
            self.objects[f"{path}/{value['metadata']['name']}"] = value
            return web.json_response(value, status=201)
        known = self.objects.get(path)
        if known is None and not self._is_list(path):
            words = f'{path.split("/")[-2]} "{path.split("/")[-1]}" not found'
            return _status(404, "NotFound", words)
        if request.method == "DELETE":
            del self.objects[path]
            return web.json_response({"kind": "Status", "status": "Success"})
        items = [known] if known is not None else self._below(path, request.query.get("labelSelector", ""))
        if "as=Table" in request.headers["Accept"]:
            return web.json_response(_table(items))
        return web.json_response(known if known is not None else {"kind": "List", "metadata": {}, "items": items})

    @staticmethod
    def _is_list(path: str) -> bool:
        return any(path.endswith(f"/{resource.plural}") for resource in BUILT_IN)

    def _below(self, path: str, selector: str) -> list[dict[str, Any]]:
        plural = path.rsplit("/", 1)[-1]
        wanted = dict(term.split("=") for term in selector.split(",") if term)
        prefix = path.removesuffix(plural) if "/namespaces/" in path else ""
        return [
            value
            for place, value in sorted(self.objects.items())
            if place.split("/")[-2] == plural
            and place.startswith(prefix)
            and wanted.items() <= value["metadata"].get("labels", {}).items()
        ]

    async def _apply(self, request: web.Request) -> web.Response:
        value = json.loads(await request.read())
        if "forbidden" in value.get("data", {}):
            cause = {"reason": "FieldValueInvalid", "field": "data.forbidden", "message": "not this"}
            return _status(422, "Invalid", "ConfigMap is invalid: data.forbidden: not this", [cause])
        known = self.objects.get(request.path)
        same = known is not None and {**known, "metadata": {**known["metadata"], "resourceVersion": ""}} == {
            **value,
            "metadata": {**value["metadata"], "resourceVersion": ""},
        }
        version = known["metadata"]["resourceVersion"] if known and same else str(len(self.requests))
        value["metadata"]["resourceVersion"] = version
        if "dryRun" not in request.query:
            self.objects[request.path] = value
        headers = {"Warning": '299 - "it is \\"stored\\" and not acted on"'} if "warn" in value.get("data", {}) else {}
        return web.json_response(value, status=200 if known else 201, headers=headers)

    async def _log(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in self.logs[f"{request.path.split('/')[-2]}/{request.query['container']}"]:
            await response.write(piece)
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        stream = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await stream.prepare(request)
        answer = self.answers.get(request.query.getall("command")[-1])
        if answer is None:
            await stream.send_bytes(b"\x02error: no answer\n")
            causes = {"causes": [{"reason": "ExitCode", "message": "3"}]}
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": causes}
        else:
            for at in range(0, len(answer), 5000):
                await stream.send_bytes(b"\x01" + answer[at : at + 5000].encode())
            status = {"status": "Success"}
        await stream.send_bytes(b"\x03" + json.dumps(status).encode())
        await stream.close()
        return stream


def _status(code: int, reason: str, message: str, causes: list[dict[str, str]] | None = None) -> web.Response:
    value = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"causes": causes or []}}
    return web.json_response(value, status=code)


def _table(items: list[dict[str, Any]]) -> dict[str, Any]:
    columns = [{"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "Node", "priority": 1}]
    rows = [
        {"cells": [item["metadata"]["name"], True, None], "object": {"metadata": item["metadata"]}} for item in items
    ]
    return {"kind": "Table", "columnDefinitions": columns, "rows": rows}
