"""The webhook's HTTPS server: all of this room's IO.

Callers are not asked who they are, as an API server shows webhooks no certificate unless it is told to: these
endpoints are public, and answer only from what they are sent and from settings that are no secret. A body is bounded
in size and in the time that it takes to come, and whatever goes wrong, a caller is told one sentence.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from ostria.admission.review import LIMITS, Limits, Refused, mutate, settings_at, validate
from ostria.admission.silence import Silence
from ostria.injection import Settings

PORT = 15017
READY = "/httpsReady"

log = logging.getLogger(__name__)


class Address(NamedTuple):
    """Where to listen: host "" is every address of both families, port 0 any port."""

    host: str = "127.0.0.1"
    port: int = PORT


class Certificate:
    """The server's TLS certificate, which can be replaced while it serves: new connections get the new one."""

    def __init__(self, key: bytes, chain: bytes) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.replace(key, chain)

    def replace(self, key: bytes, chain: bytes) -> None:
        """Serve this key and this chain (PEM) from now on."""
        # The standard library reads certificates from files only; this one is readable to us alone, and gone at once.
        with tempfile.NamedTemporaryFile() as file:
            file.write(key + b"\n" + chain)
            file.flush()
            self.context.load_cert_chain(file.name)


class Server:
    """Use as `async with Server(...) as server:`; leaving the block ends it.

    `settings` is asked at each review, so that they follow MeshConfig; without a certificate it serves plain HTTP,
    for whoever ends TLS in front of it. `ready` answers those who ask whether to send traffic. `ports` are where it
    listens, in the order of `addresses`.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        certificate: Certificate | None,
        addresses: Sequence[Address] = (Address(),),
        *,
        limits: Limits = LIMITS,
        grace: float = 1.0,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        self._addresses = addresses
        self._limits = limits
        self._is_ready = ready
        self._silence = Silence()
        self._group = asyncio.TaskGroup()
        self._ending: asyncio.Task[None] | None = None
        app = web.Application(client_max_size=limits.size, middlewares=[self._silence.heed, self._one_sentence])
        app.router.add_post("/inject", self._inject)
        app.router.add_post("/inject/{rest:.*}", self._inject)
        app.router.add_post("/validate", self._validate)
        app.router.add_get(READY, self._ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace)
        self.ports: tuple[int, ...] = ()

    async def __aenter__(self) -> Server:
        await self._runner.setup()
        ports = []
        try:
            for address in self._addresses:
                context = self._certificate.context if self._certificate else None
                await web.TCPSite(self._runner, address.host or None, address.port, ssl_context=context).start()
                ports.append(self._runner.addresses[-1][1])
        except OSError:
            await self._runner.cleanup()
            raise
        self.ports = tuple(ports)
        await self._group.__aenter__()
        assert self._runner.server is not None
        self._ending = self._group.create_task(self._silence.end(self._runner.server))
        return self

    @property
    def listening(self) -> tuple[tuple[str, int], ...]:
        """Every address at which it is reached."""
        return tuple((str(host), int(port)) for host, port, *_ in self._runner.addresses)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ending is not None
        self._ending.cancel()
        await self._group.__aexit__(kind, error, trace)
        await self._runner.cleanup()

    async def _inject(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        return _json(mutate(body, settings_at(request.path, self._settings()), self._limits))

    async def _validate(self, request: web.Request) -> web.Response:
        return _json(validate(await self._body(request), self._limits))

    async def _ready(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._is_ready() else 503)

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="expected application/json\n")
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the body did not come in time\n") from None

    @web.middleware
    async def _one_sentence(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Refused as refused:
            return web.Response(status=400, text=f"{refused}\n")
        except Exception:
            log.exception("a review has failed", extra={"path": request.path[:100]})
            return web.Response(status=500, text="the review failed; istiod's log says why\n")


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
