"""When the workload's identity is renewed: the resident part, which only starts children and remembers two moments."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from ostria.agent.children import CERTIFICATE, ENVOY, Child, own_command, spawn
from ostria.agent.lines import log
from ostria.agent.loop import Flag, now, passes, readable
from ostria.identity.rotation import renewal, retry

CHILD_BOUND = 60.0
"""How long (seconds) a child may take."""

_LOOK = 2.0
"""How often (seconds) to look at the clock, which a machine that slept has moved, and at the roots."""

_SPREAD = 30.0
"""Over so many seconds workloads spread that have seen together that the roots have changed."""

_SOONEST = 1.0
"""So long (seconds) lies between two renewals, whatever certificates and the clock say."""


class IdentityKeeper:
    """Keeps the files good. `ready` is set once there is a certificate; `envoy` is its binary's path by then."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], root_file: str) -> None:
        self._argv = argv
        self._env = env
        self._root_file = root_file
        self._running: Child | None = None
        self.ready = Flag()
        self.envoy = ""
        self.envoy_env: dict[str, str] = {}
        self.not_before = 0.0
        self.not_after = 0.0
        self.renews_at = 0.0
        self.failures = 0

    async def keep(self) -> None:
        """Start, then renew at half of each life; back off after failures; as long as the agent lives."""
        what = "start"
        while True:
            roots = _version(self._root_file)
            succeeded = await self._child(what)
            if self.envoy:
                what = "renew"
            share = chance()
            if succeeded:
                self.failures = 0
                self.renews_at = max(renewal(self.not_before, self.not_after, share), time.time() + _SOONEST)
                log("info", "the identity is good", until=_date(self.not_after), renewal=_date(self.renews_at))
            else:
                self.failures += 1
                self.renews_at = retry(self.failures, time.time(), self.not_after, share)
            await self._rest(roots)

    async def _rest(self, roots: tuple[int, int]) -> None:
        while (left := self.renews_at - time.time()) > 0:
            await passes(Flag(), now() + min(left, _LOOK))
            if _version(self._root_file) != roots:
                # New roots mean that the authority changes; all workloads notice together, so they spread.
                self.renews_at = min(self.renews_at, time.time() + _SPREAD * chance())
                roots = _version(self._root_file)

    async def _child(self, what: str) -> bool:
        """Whether a child has done what it was to do."""
        said, end = os.pipe()
        command = own_command(what, self._argv)
        child = self._running = spawn(command, self._env, stdout=end)
        os.close(end)
        deadline = now() + CHILD_BOUND
        text = b""
        try:
            while True:
                await readable(said, deadline)
                piece = os.read(said, 4096)
                if not piece:
                    break
                text += piece
                *lines, text_left = text.split(b"\n")
                text = text_left
                for line in lines:
                    self._take(line.decode())
            return await child.exit_code(deadline) == 0
        except TimeoutError:
            child.kill()
            return False
        finally:
            self._running = None
            os.close(said)

    def close(self) -> None:
        """Leave no process behind, once nothing runs on the loop any more."""
        if self._running is not None:
            self._running.kill()

    def _take(self, line: str) -> None:
        word, *values = line.split()
        if word == ENVOY:
            self.envoy = values[0]
            self.envoy_env = dict(value.split("=", 1) for value in values[1:])
        elif word == CERTIFICATE:
            self.not_before, self.not_after = map(float, values)
            self.ready.set()


def chance() -> float:
    """A number in [0, 1); the module random would be loaded for nothing else."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def _version(file: str) -> tuple[int, int]:
    try:
        status = os.stat(file)
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
