"""A real Envoy in front of workloads that policies guard: what they let in, over HTTP and as bytes.

Each workload's inbound listener is used as it was built, but for what loopback forces: it is bound at a free port, and
each call says in a PROXY header where it was going, which Envoy takes for the address that the kernel would have told
it. A call comes from the very address (127.0.0.0/8) that it says it comes from.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener

from doubles.certificates import Authority, client_context, write_identity
from doubles.file_envoy import FileEnvoy, as_dict, file_envoy, free_port
from ostria.engine import Engine
from ostria.envoy.catalogue import fragment, scope
from ostria.envoy.clusters import BLACK_HOLE_CLUSTER
from ostria.envoy.fragments import ResourceType
from ostria.envoy.server_first import SILENT
from ostria.mesh.traits import ClientTraits

SERVER = "spiffe://cluster.local/ns/default/sa/server"
BANNER = b"220 hello, whoever you are\r\n"
_LOG = "/log/access.json"
LOGGED = {
    "id": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "ended": "%CONNECTION_TERMINATION_DETAILS%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
}
LOGGING = {"accessLogFile": _LOG, "accessLogEncoding": "JSON", "accessLogFormat": json.dumps(LOGGED)}
_TIMEOUT = 20.0
_SILENCE = 0.5  # As long as a pod's proxy waits to find out what is spoken.
_PROXY_PROTOCOL = {
    "name": "envoy.filters.listener.proxy_protocol",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
}


class Answered(NamedTuple):
    """What came back: a status (0 where it was no HTTP), what followed, and what the workload saw of the request."""

    status: int = 0
    body: bytes = b""
    headers: Mapping[str, str] = {}

    @property
    def seen(self) -> Any:
        return json.loads(self.body)


class GuardedEnvoy:
    """A running one. Workloads go by name."""

    def __init__(self, folder: pathlib.Path, authority: Authority, ports: Mapping[str, int]) -> None:
        self.folder = folder
        self.authority = authority
        self.envoy: FileEnvoy
        self._ports = ports
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}

    async def http(
        self,
        workload: str,
        path: str | bytes = "/",
        *,
        port: int = 80,
        method: str = "GET",
        host: str = "server",
        headers: Iterable[tuple[str, str]] = (),
        caller: str = "",
        source: str = "127.0.0.1",
        destination: str = "127.0.0.1",
        sni: str = "server",
    ) -> Answered:
        """A request; `caller` is the SPIFFE id that it is made by in mutual TLS, "" is plaintext."""
        path = path.encode() if isinstance(path, str) else path
        lines = [f"host: {host}", "connection: close", *(f"{name}: {value}" for name, value in headers)]
        request = method.encode() + b" " + path + b" HTTP/1.1\r\n" + "\r\n".join([*lines, "", ""]).encode()
        raw = await self._exchange(workload, request, port, caller, "istio-http/1.1", source, destination, sni)
        if not raw.startswith(b"HTTP/"):
            return Answered()
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in rest)
        return Answered(int(first.split()[1]), body, {name.lower(): value.strip() for name, _, value in fields})

    async def tcp(
        self,
        workload: str,
        data: bytes = b"bytes",
        *,
        port: int = 9000,
        caller: str = "",
        source: str = "127.0.0.1",
        destination: str = "127.0.0.1",
        sni: str = "server",
    ) -> bytes:
        """What comes back when these bytes are sent, up to the end or the first pause; b"" where it is closed."""
        return await self._exchange(workload, data, port, caller, "istio", source, destination, sni, pause=True)

    async def _exchange(
        self,
        workload: str,
        data: bytes,
        port: int,
        caller: str,
        alpn: str,
        source: str,
        destination: str,
        sni: str,
        *,
        pause: bool = False,
    ) -> bytes:
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self._ports[workload], local_addr=(source, 0)
                )
                try:
                    own = writer.get_extra_info("sockname")[1]
                    writer.write(f"PROXY TCP4 {source} {destination} {own} {port}\r\n".encode())
                    if caller:
                        await writer.start_tls(self._context(caller, alpn), server_hostname=sni)
                    writer.write(data)
                    return await reader.read(65536) if pause else await _answer_of(reader)
                finally:
                    writer.transport.abort()
        return b""

    def _context(self, caller: str, alpn: str) -> ssl.SSLContext:
        if (caller, alpn) not in self._contexts:
            context = client_context(self.folder, self.authority.issue(caller), alpn=(alpn,))
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self._contexts[caller, alpn] = context
        return self._contexts[caller, alpn]

    async def logged(self, number: int) -> list[dict[str, str]]:
        """The lines that Envoy has written of calls, once there are so many of them."""
        path = self.folder / "access.json"
        async with asyncio.timeout(_TIMEOUT):
            while True:
                text = path.read_text() if path.exists() else ""
                lines = [json.loads(line) for line in text.splitlines()]
                if len(lines) >= number and text.endswith("\n"):
                    return [{name: str(value) for name, value in line.items()} for line in lines]
                await asyncio.sleep(0.02)


async def _answer_of(reader: asyncio.StreamReader) -> bytes:
    """A whole answer; Envoy keeps a connection open for a while that it has refused something on."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0")
    return head + await reader.readexactly(int(length))


@contextlib.asynccontextmanager
async def guarded_envoy(
    folder: pathlib.Path,
    workloads: Mapping[str, tuple[Engine, ClientTraits]],
    *,
    places: Mapping[str, int] | None = None,
    greeting: int = 0,
) -> AsyncIterator[GuardedEnvoy]:
    """One Envoy for all these workloads, for the time of an `async with`.

    Requests are answered with what was seen of them, and bytes find an echo. `places` says where on loopback clusters
    of these hosts are. At `greeting` there is a server that speaks first; it is connected where the client had
    connected to, as it is in a pod.
    """
    authority = Authority()
    ports = dict(zip(workloads, _free_ports(len(workloads)), strict=True))
    async with _serving(_answer) as web, _serving(_echo) as echo, _serving(_greet, greeting), _serving(_hush) as hush:
        listeners, clusters = [], {"BlackHoleCluster": as_dict(Cluster, BLACK_HOLE_CLUSTER)}
        for name, (db, client) in workloads.items():
            found = fragment(
                db,
                ResourceType.LISTENER,
                "virtualInbound",
                scope(db, ResourceType.LISTENER, "virtualInbound").project(client),
            )
            assert found is not None
            listener = as_dict(Listener, found.body)
            listeners.append(_local(listener, name, ports[name]))
            for cluster, http in _inbound(listener):
                if cluster == f"inbound|{greeting}||":
                    clusters[cluster] = _as_built(db, cluster, client)
                else:
                    clusters[cluster] = _static(cluster, web if http else echo)
            for _, cluster in found.references:
                host = cluster.rpartition("|")[2]
                if places and host in places:
                    clusters[cluster] = _static(cluster, places[host], http2="grpc" in host)
        identity = authority.issue(SERVER)
        replace = {**write_identity(folder, identity), _LOG: str(folder / "access.json"), SILENT: f"127.0.0.1:{hush}"}
        guarded = GuardedEnvoy(folder, authority, ports)
        async with file_envoy(
            folder, listeners=listeners, clusters=clusters.values(), replace=replace
        ) as guarded.envoy:
            yield guarded
            assert guarded.envoy.errors() == []


def _free_ports(number: int) -> list[int]:
    found: set[int] = set()
    while len(found) < number:
        found.add(free_port())
    return sorted(found)


def _local(listener: dict[str, Any], name: str, port: int) -> dict[str, Any]:
    listener["name"] = f"virtualInbound-{name}"
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    listener.pop("additional_addresses", None)
    if "listener_filters_timeout" in listener:
        listener["listener_filters_timeout"] = "0.3s"
    inspectors = [each for each in listener["listener_filters"] if "original_dst" not in each["name"]]
    listener["listener_filters"] = [_PROXY_PROTOCOL, *inspectors]
    return listener


def _inbound(listener: dict[str, Any]) -> Iterable[tuple[str, bool]]:
    """The clusters that a listener leads to, and whether by requests."""
    for chain in listener["filter_chains"]:
        last = chain["filters"][-1]["typed_config"]
        if "route_config" in last:
            for host in last["route_config"]["virtual_hosts"]:
                for route in host["routes"]:
                    yield f"{route['route']['cluster']}", True
        elif last["cluster"] != "BlackHoleCluster":
            yield last["cluster"], False


def _as_built(db: Engine, name: str, client: ClientTraits) -> dict[str, Any]:
    found = fragment(db, ResourceType.CLUSTER, name, scope(db, ResourceType.CLUSTER, name).project(client))
    assert found is not None
    made = as_dict(Cluster, found.body)
    made.pop("upstream_bind_config")
    return made


def _static(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    place = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    made: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}]},
    }
    if http2:
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        made["typed_extension_protocol_options"] = {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return made


# --- servers ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _serving(handler: Any, port: int = 0) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", port)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(BANNER)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()


async def _hush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(TimeoutError, ConnectionError):
        await asyncio.wait_for(reader.read(), _SILENCE)
    writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            first, *rest = head.decode("latin-1").split("\r\n")
            method, path, _ = first.split(" ", 2)
            fields = [
                [name.lower(), value.strip()] for name, _, value in (line.partition(":") for line in rest if line)
            ]
            length = next((int(value) for name, value in fields if name == "content-length"), 0)
            await reader.readexactly(length)
            body = json.dumps({"method": method, "path": path, "headers": fields}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    writer.close()
