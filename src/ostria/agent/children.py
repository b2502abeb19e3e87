"""Child processes on the loop: started, waited for by their pidfd, and never forgotten."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence

from ostria.agent.loop import FOREVER, readable

ENVOY, CERTIFICATE, STATUS = "envoy", "certificate", "status"
"""What a child of our own (child.py) may say, a line each: the path of Envoy's binary and what is added to its
environment, as NAME=VALUE; a certificate's life in seconds since 1970; a probe's status."""

_ALL = range(1, signal.NSIG)


class Child:
    """A running process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._code: int | None = None

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._code is None:
            signal.pidfd_send_signal(self._fd, number)

    async def exit_code(self, deadline: float = FOREVER) -> int:
        """Wait for its end: its own code, or 128 plus the number of the signal that ended it, as shells have it."""
        if self._code is None:
            await readable(self._fd, deadline)
            self._code = self._reap()
        return self._code

    def kill(self) -> None:
        """End it now, whatever it does."""
        if self._code is None:
            self.send(signal.SIGKILL)
            self._code = self._reap()

    def _reap(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code


def own_command(what: str, arguments: Sequence[str]) -> list[str]:
    """The command that has a short-lived child of our own do something; nothing of the current folder is imported."""
    return [sys.executable, "-P", "-m", "ostria.agent.child", what, *arguments]


def spawn(command: list[str], env: Mapping[str, str], *, stdout: int | None = None, stderr: int | None = None) -> Child:
    """Start a program with our standard streams; `stdout` and `stderr` are other descriptors for its output."""
    given = [(stdout, 1), (stderr, 2)]
    actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for descriptor, number in given if descriptor is not None]
    # A new program must not inherit that we block or handle signals.
    pid = os.posix_spawn(command[0], command, env, file_actions=actions, setsigmask=(), setsigdef=_defaults())
    return Child(pid)


def _defaults() -> list[int]:
    return [number for number in _ALL if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)]
