"""What anybody may ask of istiod over plain HTTP (port 15014): its metrics and its version. Neither is a secret.

There are no debug endpoints on it: what a proxy holds, its own Envoy says, to whom the API server lets run a command in
its pod.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple

from aiohttp import web

from ostria.admission.silence import Silence


class Metric(NamedTuple):
    """One number, as Prometheus reads it; `labels` are pairs."""

    name: str
    kind: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def exposition(metrics: Sequence[Metric]) -> str:
    """Metrics in Prometheus' text format; those of one name follow each other."""
    lines: list[str] = []
    told = ""
    for each in sorted(metrics):
        if each.name != told:
            told = each.name
            lines += [f"# HELP {each.name} {each.help}", f"# TYPE {each.name} {each.kind}"]
        labels = ",".join(f'{name}="{value}"' for name, value in each.labels)
        lines.append(f"{each.name}{f'{{{labels}}}' if labels else ''} {each.value:.15g}")
    return "\n".join(lines) + "\n"


class Monitoring:
    """Use as `async with`; `metrics` is asked at each scrape. `ports` are where it listens."""

    def __init__(self, metrics: Callable[[], Sequence[Metric]], host: str = "", port: int = 15014) -> None:
        self._metrics = metrics
        self._address = (host or None, port)
        self._silence = Silence()
        app = web.Application(client_max_size=1024, middlewares=[self._silence.heed])
        app.router.add_get("/metrics", self._answer)
        app.router.add_get("/version", self._version)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._group = asyncio.TaskGroup()
        self._ending: asyncio.Task[None] | None = None
        self.ports: tuple[int, ...] = ()

    async def __aenter__(self) -> Monitoring:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self._address).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self.ports = tuple(address[1] for address in self._runner.addresses)
        await self._group.__aenter__()
        assert self._runner.server is not None
        self._ending = self._group.create_task(self._silence.end(self._runner.server))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._ending is not None
        self._ending.cancel()
        await self._group.__aexit__(kind, error, trace)
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(text=exposition(self._metrics()), headers={"content-type": _PROMETHEUS})

    async def _version(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{importlib.metadata.version('ostria')}\n")


_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
