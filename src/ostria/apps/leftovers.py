"""The children of a supervisor that was killed: written down while they run, and ended by whoever comes next."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path


class Leftovers:
    """One file with a line for each child: its process id and when it began, so that no other is taken for it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, pids: Iterable[int]) -> None:
        """Write down the children that run now."""
        lines = [f"{pid} {began}\n" for pid in pids if (began := _began(pid))]
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(lines))
        temporary.replace(self._path)

    def forget(self) -> None:
        """There are no children any more."""
        self._path.unlink(missing_ok=True)

    def end(self, grace: float) -> int:
        """End those that still run: SIGTERM, and SIGKILL to who has not ended within `grace` seconds; how many."""
        try:
            lines = self._path.read_text().split("\n")
        except FileNotFoundError:
            return 0
        found = [descriptor for line in lines if (descriptor := _open(line)) is not None]
        for descriptor in found:
            _send(descriptor, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for descriptor in found:
            if not _has_ended(descriptor, deadline):
                _send(descriptor, signal.SIGKILL)
                _has_ended(descriptor, time.monotonic() + grace)
            os.close(descriptor)
        self.forget()
        return len(found)


def _open(line: str) -> int | None:
    """A descriptor of the process that a line is about, None if it has ended."""
    pid, _, began = line.partition(" ")
    if not pid.isdigit():
        return None
    try:
        descriptor = os.pidfd_open(int(pid))
    except OSError:
        return None
    # Asked after it was opened: the number may belong to another process by now.
    if _began(int(pid)) == began:
        return descriptor
    os.close(descriptor)
    return None


def _began(pid: int) -> str:
    """When a process began (clock ticks since the machine did), "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _send(descriptor: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


def _has_ended(descriptor: int, deadline: float) -> bool:
    return bool(select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0])
