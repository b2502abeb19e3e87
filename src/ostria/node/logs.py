"""Reading containers' logs, in CRI's format: what has been written, and what is being written.

The writer is `log_file`, in the pod; reader and writer share only the files.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import pathlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

_POLL = 0.1
"""Seconds between looks at a file that grows: the writer is another process and tells nobody."""


class Entry(NamedTuple):
    """One line, or part of one (`whole` false). `time` is RFC 3339 with nanoseconds."""

    time: str
    stream: str
    whole: bool
    content: bytes

    def render(self, *, timestamps: bool) -> bytes:
        """The line as `kubectl logs` shows it."""
        return (self.time.encode() + b" " if timestamps else b"") + self.content + (b"\n" if self.whole else b"")


def parse_line(line: bytes) -> Entry | None:
    """A line of the file without its end; None if it is damaged."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in (b"stdout", b"stderr"):
        return None
    return Entry(parts[0].decode(errors="replace"), parts[1].decode(), not parts[2].startswith(b"P"), parts[3])


def seconds_of(stamp: str) -> float:
    """An entry's time as seconds since 1970."""
    return datetime.datetime.fromisoformat(stamp[:26].rstrip("Z") + "+00:00").timestamp()


def read_entries(path: pathlib.Path) -> Iterator[Entry]:
    """All that one attempt has written, its rotated files first."""
    rotated = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: -int(file.suffix[1:]))
    for file in (*rotated, path):
        try:
            with file.open("rb") as lines:
                yield from (entry for line in lines if (entry := parse_line(line.rstrip(b"\n"))) is not None)
        except FileNotFoundError:
            continue


def select(entries: Iterator[Entry], tail: int | None, since: float | None) -> Iterator[Entry]:
    """The last `tail` lines that are not older than `since` (seconds since 1970)."""
    if since is not None:
        entries = (entry for entry in entries if seconds_of(entry.time) >= since)
    return entries if tail is None else iter(deque(entries, maxlen=tail))


async def read_logs(
    path: pathlib.Path,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    timestamps: bool = False,
    ended: Callable[[], bool] = lambda: True,
) -> AsyncIterator[bytes]:
    """One attempt's output in pieces; with `follow`, until `ended` says that nothing more comes.

    An empty piece tells that what stands is told, and is followed from there: who listens may wait for that.
    """
    try:
        current = path.open("rb")
    except FileNotFoundError:
        current = None
    if not follow or current is None:
        if current is not None:
            current.close()
        for entry in select(read_entries(path), tail, since):
            yield entry.render(timestamps=timestamps)
        return
    with current:
        # What stands is taken up to here; what follows is read from this file, whatever it is called later.
        start = current.seek(0, 2)
        for entry in select(_up_to(path, start), tail, since):
            yield entry.render(timestamps=timestamps)
        yield b""
        rest = b""
        while True:
            over = ended()
            data = current.read()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                parsed = parse_line(line)
                if parsed is not None:
                    yield parsed.render(timestamps=timestamps)
            if data:
                continue
            if _was_rotated(path, current.fileno()):
                current.close()
                current = path.open("rb")
            elif over:
                return
            else:
                await asyncio.sleep(_POLL)


def _up_to(path: pathlib.Path, size: int) -> Iterator[Entry]:
    rotated = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: -int(file.suffix[1:]))
    for file in rotated:
        yield from read_entries(file)
    with path.open("rb") as file_:
        for line in file_.read(size).splitlines():
            entry = parse_line(line)
            if entry is not None:
                yield entry


def _was_rotated(path: pathlib.Path, fd: int) -> bool:

    try:
        return path.stat().st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False
