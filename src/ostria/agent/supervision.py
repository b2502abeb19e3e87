"""Envoy's life: started, started again when it dies, drained and ended when the pod ends.

starting --> running --(dies)--> a pause --> running ...      too often in a row: its exit code is the agent's
                |
                +--(stop)--> draining --> ended
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from ostria.agent.children import Child, spawn
from ostria.agent.lines import log
from ostria.agent.loop import Flag, now, passes
from ostria.agent.readiness import PATH, missing, numbers
from ostria.agent.restarts import deaths_after, delay
from ostria.agent.settings import ROUTER, Settings
from ostria.agent.streams import HttpError, Place, fetch

ADMIN_BOUND = 1.0
"""How long (seconds) Envoy's admin interface may take to answer."""

KILL_AFTER = 2.0
"""How long (seconds) Envoy has to end after it was told to."""

DRAINED_AFTER = 5.0
"""How long (seconds) a drain waits for the requests that the application still answers."""

_LOOK = 0.2
# Not the connections of probes and scrapes, which never end.
_CONNECTIONS = "/stats?filter=^listener\\..*\\.downstream_cx_active$"
_OWN = ("_15021.", "_15090.", "admin")
_REQUESTS = "/clusters?filter=^inbound"
_OFTEN = 0.05


class Envoy:
    """One Envoy at a time."""

    def __init__(self, settings: Settings, env: Mapping[str, str]) -> None:
        self._settings = settings
        self._env = env
        self._admin: Place = ("127.0.0.1", settings.admin_port)
        self._child: Child | None = None
        self._stop = Flag()
        self._gone = Flag()
        self._gone.set()
        self.draining = False
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Envoy's process, 0 while none runs."""
        return self._child.pid if self._child else 0

    async def run(self, binary: str, more_env: Mapping[str, str] | None = None) -> int:
        """Keep it running, with `more_env` beside the agent's own; returns the code that the agent is to end with."""
        env = {**self._env, **(more_env or {})}
        deaths = 0
        await self._end_another()
        while True:
            started = now()
            self._child = spawn(command(binary, self._settings), env)
            self._gone.clear()
            code = await self._child.exit_code()
            self._child = None
            self._gone.set()
            # Envoy ends with 0 only when it is asked to, by a signal or by its admin interface.
            if self._stop.is_set or code == 0:
                return 0
            deaths = deaths_after(deaths, now() - started)
            pause = delay(deaths)
            if pause is None:
                log("error", "Envoy dies again and again", code=code)
                return code
            log("warn", "Envoy died and is started again", code=code, seconds=pause)
            self.restarts += 1
            if not await passes(self._stop, now() + pause):
                return 0

    async def end(self) -> None:
        """Drain, then end Envoy; `run` returns."""
        await self.drain()
        await self._last_requests()
        self.stop()
        if self._child is not None:
            self._child.send(signal.SIGTERM)
            if await passes(self._gone, now() + KILL_AFTER):
                self.kill()

    async def drain(self) -> None:
        """Send clients away, but serve who comes; a sidecar's application may still call others."""
        if self.draining or self._child is None:
            return
        self.draining = True
        direction = "" if self._settings.role == ROUTER else "inboundonly&"
        path = f"/drain_listeners?{direction}graceful&skip_exit"
        try:
            status, text = await fetch(self._admin, "POST", path, now() + ADMIN_BOUND)
        except (OSError, HttpError) as error:
            status, text = 0, str(error)
        if status != 200:
            log("warn", "Envoy cannot be told to drain", status=status, error=text.strip())

    async def drained(self) -> None:
        """Until the application has answered every request that this proxy has brought it, or has had its time."""
        limit = now() + DRAINED_AFTER
        while now() < limit and await self._requests():
            await passes(self._gone, now() + _OFTEN)

    def stop(self) -> None:
        """Start it no more."""
        self._stop.set()

    def kill(self) -> None:
        """End it now; `run` returns."""
        self.stop()
        if self._child is not None:
            self._child.send(signal.SIGKILL)

    def close(self) -> None:
        """Leave no process behind, once nothing runs on the loop any more."""
        if self._child is not None:
            self._child.kill()

    async def missing(self) -> str:
        """What is missing until it can take traffic, "" if nothing is."""
        if self._child is None:
            return "Envoy does not run"
        if self.draining:
            return "Envoy is draining"
        try:
            _, text = await fetch(self._admin, "GET", PATH, now() + ADMIN_BOUND)
        except (OSError, HttpError):
            return "Envoy does not answer"
        return missing(text)

    async def _end_another(self) -> None:
        """End an Envoy that a killed agent has left in this pod: it holds our ports and nobody looks after it."""
        try:
            await fetch(self._admin, "POST", "/quitquitquit", now() + ADMIN_BOUND)
            log("warn", "an Envoy without an agent was here and is ended")
            while True:
                await passes(self._stop, now() + _LOOK)
                await fetch(self._admin, "GET", "/ready", now() + ADMIN_BOUND)
        except (OSError, HttpError):
            return  # Nobody is there, as it should be.

    async def _last_requests(self) -> None:
        drain = self._settings.drain
        begin = now()
        if not drain.until_idle:
            await passes(self._gone, begin + drain.lasts)
        elif await passes(self._gone, begin + drain.at_least):
            while await self._connections():
                await passes(self._gone, now() + _LOOK)

    async def _requests(self) -> int:
        """The requests that the application is answering now."""
        try:
            _, text = await fetch(self._admin, "GET", _REQUESTS, now() + ADMIN_BOUND)
        except (OSError, HttpError):
            return 0
        counts = (line.rpartition("::") for line in text.splitlines())
        return sum(int(count) for name, _, count in counts if name.endswith("::rq_active"))

    async def _connections(self) -> int:
        try:
            _, text = await fetch(self._admin, "GET", _CONNECTIONS, now() + ADMIN_BOUND)
        except (OSError, HttpError):
            return 0
        found = numbers(text).items()
        return sum(count for name, count in found if not any(own in name for own in _OWN))


def command(binary: str, settings: Settings) -> list[str]:
    """Envoy's command line, as Istio's agent has it."""
    family = "v6" if ":" in settings.addresses[0] else "v4"
    threads = [] if settings.concurrency == 0 else ["--concurrency", str(settings.concurrency)]
    return [
        binary,
        *("--config-path", settings.bootstrap_file),
        *("--drain-time-s", str(max(1, round(settings.drain.discourages)))),
        # Every response from now on ends its connection; the other strategy does so only sometimes.
        *("--drain-strategy", "immediate"),
        *("--local-address-ip-version", family),
        *("--file-flush-interval-msec", "1000"),
        # One agent, one Envoy: without it no shared memory is needed, and several agents fit on one machine.
        "--disable-hot-restart",
        "--allow-unknown-static-fields",
        *("--log-level", settings.log_level),
        *("--component-log-level", settings.component_log_level),
        *("--log-format", "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"),
        *threads,
    ]
