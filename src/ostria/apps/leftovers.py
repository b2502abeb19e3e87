"""The children of a supervisor that was killed: found by their command lines, and ended by whoever comes next.

No file says who they are: the moment between a child's start and the word of it would be one too many.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

MODULES = frozenset(("ostria.apps.apiserver", "ostria.apps.node", "ostria.apps.follow"))


def end(folder: Path, grace: float) -> int:
    """End what runs of the mesh in this folder without a supervisor; how many processes it was.

    They get SIGTERM, and who has not ended within `grace` seconds SIGKILL. The mesh is to be held by the caller.
    """
    found = list(_opened(folder))
    for descriptor in found:
        _send(descriptor, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for descriptor in found:
        if not _has_ended(descriptor, deadline):
            _send(descriptor, signal.SIGKILL)
            _has_ended(descriptor, time.monotonic() + grace)
        os.close(descriptor)
    return len(found)


def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of each process."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or not _is_child(_words(entry), folder):
            continue
        try:
            descriptor = os.pidfd_open(int(entry))
        except OSError:
            continue
        # Asked again now that it is open: the number may belong to another process by now.
        if _is_child(_words(entry), folder):
            yield descriptor
        else:
            os.close(descriptor)


def _words(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _is_child(words: Iterable[str], folder: Path) -> bool:
    """Whether a command line is that of a module of ours, with a state within the folder."""
    words = list(words)
    if MODULES.isdisjoint(words) or "--state" not in words[:-1]:
        return False
    state = Path(words[words.index("--state") + 1])
    return state == folder or state.parent == folder


def _send(descriptor: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


def _has_ended(descriptor: int, deadline: float) -> bool:
    return bool(select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0])
