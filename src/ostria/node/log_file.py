"""Container output as kubelet's CRI log: `2026-11-21T08:00:00.123456789Z stdout F line`, one file an attempt.

Resident in every pod: the writer only. Files are rotated by size (`0.log` -> `0.log.1` -> ...), so that a chatty
program cannot fill the machine; `logs` reads them.
"""

from __future__ import annotations

import os
import time

MAX_LINE = 16 * 1024
"""Bytes after which a line is written in parts, marked P but for the last."""


class LogFile:
    """The log of one container's attempt. `stdout` and `stderr` are fed as they come, in pieces of any size."""

    def __init__(self, path: str, max_bytes: int, max_files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._rest = {"stdout": b"", "stderr": b""}
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._open()

    def feed(self, stream: str, data: bytes) -> None:
        """Write the whole lines of what has come, and keep the rest of the last."""
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        while len(rest) >= MAX_LINE:
            lines.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
            self._write(stream, lines, last_is_partial=True)
            lines = []
        self._rest[stream] = rest
        self._write(stream, lines, last_is_partial=False)

    def close(self) -> None:
        """Write what has no line end, and close."""
        for stream, rest in self._rest.items():
            if rest:
                self._write(stream, [rest], last_is_partial=False)
        os.close(self._fd)

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _write(self, stream: str, lines: list[bytes], *, last_is_partial: bool) -> None:
        if not lines:
            return
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z {stream} ".encode()
        pieces: list[bytes] = []
        for line in lines:
            cuts = range(0, max(len(line), 1), MAX_LINE)
            pieces += [stamp + b"P " + line[at : at + MAX_LINE] + b"\n" for at in cuts[:-1]]
            pieces.append(stamp + b"F " + line[cuts[-1] :] + b"\n")
        if last_is_partial:
            pieces[-1] = stamp + b"P " + lines[-1][-MAX_LINE:] + b"\n"
        data = b"".join(pieces)
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        while data:
            written = os.write(self._fd, data)
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        os.close(self._fd)
        for number in range(self._max_files - 1, 0, -1):
            older = f"{self._path}.{number - 1}" if number > 1 else self._path
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number}")
        if self._max_files <= 1:
            os.unlink(self._path)
        self._open()
