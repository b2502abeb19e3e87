"""The gRPC service: ADS streams in, delta and state of the world, each authenticated by its bearer token; bytes out.

All of this room's IO is here.

A stream is served if its token holds, if its node claims no other pod than the token's, and if the traits query knows
the two. It ends a little before its token does, so that Envoy returns with the next one.

    token --verify--> Identity --+
    first request --> Node ------+--> Delivery.connect --> requests in, commands out

One event loop owns the engine, the delivery and all streams; call `push` on it after every epoch.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
import grpc.aio

from ostria.xds import wire
from ostria.xds.callers import Node, Verified, Verifier, claims_another
from ostria.xds.clients import Client
from ostria.xds.delivery import Command, Delivery, Send
from ostria.xds.enforcement import Enforcement
from ostria.xds.protocol import Limits, Request, WholeRequest

T = TypeVar("T")
AnyRequest = Request | WholeRequest
Read = Callable[[bytes], AnyRequest]

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
WHOLE_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"

FIRST_REQUEST_BOUND = 10.0
"""How long (seconds) a stream may take to say its first word."""

EXPIRY_MARGIN = (30.0, 0.2)
"""A stream ends before its token: by at most so many seconds, and at most this share of the token's rest."""

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Without these two a burst of some thousand new streams is never completed.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 100_000),
    ("grpc.so_reuseport", 0),
    # Who connects and says nothing is sent away: within the handshake, and once nothing is being answered.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_send_message_length", -1),
    # A peer that vanished without a word is noticed within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


class Address(NamedTuple):
    """Where to listen: "127.0.0.1:15012" (port 0: any), "[::1]:15012", "unix:/path"; without credentials, in plain."""

    text: str
    credentials: grpc.ServerCredentials | None = None


class Certificate:
    """A TLS certificate that can be replaced while it serves; new connections get the new one."""

    def __init__(self, key: bytes, chain: bytes) -> None:
        # gRPC asks for it on threads of its own.
        self._lock = threading.Lock()
        self._pair = (key, chain)
        self._changed = False

    def replace(self, key: bytes, chain: bytes) -> None:
        """Serve this one from now on; PEM."""
        with self._lock:
            self._pair = (key, chain)
            self._changed = True

    def credentials(self) -> grpc.ServerCredentials:
        """For one Address. Clients are not asked for certificates: their tokens say who they are."""
        # For gRPC a fetched None means "as before"; its stubs do not know.
        return grpc.dynamic_ssl_server_credentials(
            grpc.ssl_server_certificate_configuration([self._pair]),
            self._fetch,  # type: ignore[arg-type]
            require_client_authentication=False,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            if not self._changed:
                return None
            self._changed = False
            return grpc.ssl_server_certificate_configuration([self._pair])


class _Ending(NamedTuple):
    """Why a stream ends; None for a plain end."""

    code: grpc.StatusCode | None = None
    message: str = ""


_END = _Ending()


class _Line:
    """The server's side of one client: what waits to be written, and how the stream is to end."""

    def __init__(self, limits: Limits) -> None:
        self.queue: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(limits.queue)
        self.ended: asyncio.Future[_Ending] = asyncio.get_running_loop().create_future()

    def end(self, ending: _Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)

    def send(self, body: bytes, tail: bytes) -> None:
        try:
            self.queue.put_nowait((body, tail))
        except asyncio.QueueFull:
            # One response a type can wait at most, so this is a defect, or a client that answers what it has not read.
            self.end(_Ending(grpc.StatusCode.RESOURCE_EXHAUSTED, "responses are answered without being read"))


class Server(Generic[T]):
    """Use as `async with Server(...) as server:`; leaving the block ends all streams and the server.

    `clock` is the wall clock that tokens expire by, `jitter` draws from [0, 1). `handlers` are other services of the
    same ports; they authenticate for themselves.
    """

    def __init__(
        self,
        delivery: Delivery[T],
        verify: Verifier,
        addresses: Sequence[Address],
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen.
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        grace: float = 1.0,
        handlers: Sequence[grpc.GenericRpcHandler] = (),
    ) -> None:
        self._delivery = delivery
        self._verify = verify
        self._addresses = addresses
        self._limits = limits
        self._clock = clock
        self._jitter = jitter
        self._grace = grace
        self._handlers = handlers
        self._lines: dict[Client[Any], _Line] = {}
        self._waiting: list[tuple[int, asyncio.Future[Enforcement]]] = []
        self._timer: asyncio.TimerHandle | None = None
        # Kept for as long as it serves: a server of grpc.aio that nobody refers to is collected while it runs.
        self._server: grpc.aio.Server | None = None
        self._stopping = False
        self.ports: tuple[int, ...] = ()

    async def __aenter__(self) -> Server[T]:
        self._loop = asyncio.get_running_loop()
        options = [*_OPTIONS, ("grpc.max_receive_message_length", self._limits.request_bytes)]
        self._server = grpc.aio.server(handlers=[_Handlers(self._stream), *self._handlers], options=options)
        self.ports = tuple([self._bind(self._server, address) for address in self._addresses])
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._stopping = True
        for line in self._lines.values():
            line.end(_Ending(grpc.StatusCode.UNAVAILABLE, "the control plane is going away"))
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._waiting:
            future.cancel()
        await self._server.stop(self._grace)

    def push(self) -> None:
        """The model has changed: send what follows from it."""
        self._perform(self._delivery.flush(self._now()))

    async def wait_enforced(self, epoch: int) -> Enforcement:
        """Wait until all streams that the epoch (or an earlier one) concerned have accepted it, or have ended."""
        state = self._delivery.enforcement(epoch)
        if state.settled:
            return state
        future: asyncio.Future[Enforcement] = self._loop.create_future()
        self._waiting.append((epoch, future))
        return await future

    # --- commands and time -----------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._loop.time()

    def _perform(self, commands: Iterable[Command]) -> None:
        for command in commands:
            line = self._lines.get(command.client)
            if line is None:
                continue
            if isinstance(command, Send):
                line.send(command.body, command.tail)
            else:
                line.end(_Ending(grpc.StatusCode.RESOURCE_EXHAUSTED, command.message))
        self._tell_enforced()
        self._schedule()

    def _tell_enforced(self) -> None:
        waiting, self._waiting = self._waiting, []
        for epoch, future in waiting:
            if future.done():
                continue
            state = self._delivery.enforcement(epoch)
            if state.settled:
                future.set_result(state)
            else:
                self._waiting.append((epoch, future))

    def _schedule(self) -> None:
        deadline = self._delivery.deadline()
        if self._timer is not None:
            if deadline == self._timer.when():
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None and not self._stopping:
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self._delivery.tick(self._now()))

    # --- one stream ------------------------------------------------------------------------------------------

    async def _stream(self, context: grpc.aio.ServicerContext[bytes, bytes], *, whole: bool) -> None:
        read = wire.whole_request if whole else wire.request
        verified = await self._authenticate(context)
        async with asyncio.timeout(FIRST_REQUEST_BOUND):
            data = await _next(context)
        if data is None:
            return
        request = await self._decode(context, data, read)
        node = (request.node or Node())._replace(whole=whole)
        if claims_another(verified.identity, node):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the node claims another pod than its token's")
        client = self._delivery.connect(node.id, verified.identity, node, whole=whole)
        if client is None:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the token's pod is not known to this mesh")
        line = self._lines[client] = _Line(self._limits)
        if self._stopping:
            line.end(_Ending(grpc.StatusCode.UNAVAILABLE, "the control plane is going away"))
        try:
            ending = await self._converse(client, line, request, read, context, self._lifetime(verified))
        finally:
            del self._lines[client]
            self._perform(self._delivery.disconnect(client, self._now()))
        if ending.code is not None:
            await context.abort(ending.code, ending.message)

    async def _authenticate(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> Verified:
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str):
                scheme, _, token = value.partition(" ")
                verified = await self._verify(token.strip()) if scheme.lower() == "bearer" else None
                if verified is not None and verified.expires > self._clock():
                    return verified
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is required")

    async def _decode(self, context: grpc.aio.ServicerContext[bytes, bytes], data: bytes, read: Read) -> AnyRequest:
        try:
            return read(data)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def _lifetime(self, verified: Verified) -> float:
        rest = verified.expires - self._clock()
        at_most, share = EXPIRY_MARGIN
        margin = min(at_most, rest * share)
        return rest - margin * (1 + self._jitter()) / 2

    async def _converse(
        self,
        client: Client[T],
        line: _Line,
        first: AnyRequest,
        read: Read,
        context: grpc.aio.ServicerContext[bytes, bytes],
        lifetime: float,
    ) -> _Ending:
        async with asyncio.TaskGroup() as group:
            tasks = (
                group.create_task(self._read(client, line, first, read, context)),
                group.create_task(self._write(line, context)),
            )
            try:
                async with asyncio.timeout(lifetime):
                    return await line.ended
            except TimeoutError:
                return _END
            finally:
                for task in tasks:
                    task.cancel()

    async def _read(
        self,
        client: Client[T],
        line: _Line,
        first: AnyRequest,
        read: Read,
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> None:
        self._perform(self._delivery.receive(client, first, self._now()))
        while (data := await _next(context)) is not None:
            try:
                request = read(data)
            except ValueError as error:
                line.end(_Ending(grpc.StatusCode.INVALID_ARGUMENT, str(error)))
                return
            self._perform(self._delivery.receive(client, request, self._now()))
        line.end(_END)

    async def _write(self, line: _Line, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        try:
            while True:
                body, tail = await line.queue.get()
                await context.write(body + tail)
        except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            # The peer is gone; its reader ends the stream in good order.
            line.end(_END)

    @staticmethod
    def _bind(server: grpc.aio.Server, address: Address) -> int:
        if address.credentials is None:
            return server.add_insecure_port(address.text)
        return server.add_secure_port(address.text, address.credentials)


async def _next(context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes | None:
    """The next message, None at the end."""
    data: object = await context.read()
    return data if isinstance(data, bytes) else None


class _Handlers(grpc.GenericRpcHandler):
    """The two methods, bytes in and out."""

    def __init__(self, stream: Callable[..., Awaitable[None]]) -> None:
        async def delta(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await stream(context, whole=False)

        async def whole(_: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await stream(context, whole=True)

        self._methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            METHOD: grpc.stream_stream_rpc_method_handler(delta),
            WHOLE_METHOD: grpc.stream_stream_rpc_method_handler(whole),
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """The handler of the called method, if it is ours."""
        return self._methods.get(details.method)
