"""Synthetic delta ADS clients: hundreds in one process, raw bytes, each with what it holds and when it accepted it.

async with ads_channel("127.0.0.1:15010") as channel:
    async with AdsClient(channel, pod="a") as client:
        client.subscribe(ResourceType.ENDPOINTS, "outbound|80||a")      # a wildcard without names
        await client.wait_holds(ResourceType.ENDPOINTS, "outbound|80||a", version)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse

from ostria.envoy.fragments import ResourceType
from ostria.xds.server import METHOD

# Many streams share one connection; Envoys have one each, but the server cannot tell and we are one process.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@contextlib.asynccontextmanager
async def ads_channel(address: str, roots: bytes | None = None) -> AsyncIterator[grpc.aio.Channel]:
    """A connection; over TLS if roots are given (the name to check is localhost)."""
    if roots is None:
        channel = grpc.aio.insecure_channel(address, _OPTIONS)
    else:
        credentials = grpc.ssl_channel_credentials(roots)
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", "localhost")]
        channel = grpc.aio.secure_channel(address, credentials, options)
    async with channel:
        yield channel


class AdsClient:
    """One stream. `held` is what it has accepted, by type and name; `accepted_at` when each was accepted (monotonic).

    `refuses` may give the reason to refuse a response. Without `answers` nothing is answered. A client made with the
    `held` of another brings it as a returning Envoy would.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        pod: str,
        token: str | None = None,
        node: str | None = None,
        held: Mapping[ResourceType, Mapping[str, tuple[str, bytes]]] | None = None,
        refuses: Callable[[DeltaDiscoveryResponse], str | None] = lambda response: None,
        answers: bool = True,
    ) -> None:
        self.held: dict[ResourceType, dict[str, tuple[str, bytes]]] = {
            type: dict((held or {}).get(type, {})) for type in ResourceType
        }
        self.accepted_at: dict[tuple[ResourceType, str], float] = {}
        self.responses: list[DeltaDiscoveryResponse] = []
        self.refusals = 0
        self._known = {type: {name: version for name, (version, _) in h.items()} for type, h in (held or {}).items()}
        self._channel = channel
        self._node = pod if node is None else node
        self._metadata = (("authorization", f"Bearer {pod if token is None else token}"),)
        self._refuses = refuses
        self._answers = answers
        self._outbox: asyncio.Queue[DeltaDiscoveryRequest] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._first = True
        self.ended: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> AdsClient:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        method = self._channel.stream_stream(METHOD)
        self._call: Any = method(metadata=self._metadata)
        self._tasks = [self._group.create_task(self._write()), self._group.create_task(self._read())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def subscribe(self, type: ResourceType, *names: str) -> None:
        """Ask for these names, or for everything; what an earlier stream held goes along with the first request."""
        self._request(type, subscribe=names, known=self._known.pop(type, {}))

    def unsubscribe(self, type: ResourceType, *names: str) -> None:
        self._request(type, unsubscribe=names)
        for name in names:
            self.held[type].pop(name, None)

    def version(self, type: ResourceType, name: str) -> str | None:
        """The version it holds."""
        entry = self.held[type].get(name)
        return None if entry is None else entry[0]

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is asked after each response."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def wait_holds(self, type: ResourceType, name: str, version: str | None) -> float:
        """Wait until it holds this version (None: nothing); when it accepted it."""
        await self.wait(lambda: self.version(type, name) == version)
        return self.accepted_at.get((type, name), 0.0)

    def _request(
        self,
        type: ResourceType,
        *,
        subscribe: tuple[str, ...] = (),
        unsubscribe: tuple[str, ...] = (),
        known: Mapping[str, str] | None = None,
        nonce: str = "",
        error: str | None = None,
    ) -> None:
        request = DeltaDiscoveryRequest(
            type_url=type,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=known or {},
            response_nonce=nonce,
        )
        if self._first:
            request.node.id = self._node
            self._first = False
        if error is not None:
            request.error_detail.code = 13
            request.error_detail.message = error
        self._outbox.put_nowait(request)

    async def _write(self) -> None:
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                request = await self._outbox.get()
                await self._call.write(request.SerializeToString())

    async def _read(self) -> None:
        try:
            while (data := await self._call.read()) is not grpc.aio.EOF:
                await self._receive(DeltaDiscoveryResponse.FromString(data))
        except grpc.RpcError:
            pass
        code, details = await self._call.code(), await self._call.details()
        self.ended.set_result((code, details))

    async def _receive(self, response: DeltaDiscoveryResponse) -> None:
        type = ResourceType(response.type_url)
        self.responses.append(response)
        reason = self._refuses(response)
        if reason is None:
            now = time.monotonic()
            for entry in response.resources:
                self.held[type][entry.name] = (entry.version, entry.resource.value)
                self.accepted_at[type, entry.name] = now
            for name in response.removed_resources:
                self.held[type].pop(name, None)
        else:
            self.refusals += 1
        if self._answers:
            self._request(type, nonce=response.nonce, error=reason)
        async with self._changed:
            self._changed.notify_all()
