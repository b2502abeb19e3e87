"""Folders and files of YAML, followed: a save is a batch within milliseconds, and never a half-written one.

What the operating system tells of changes only wakes us. What has changed is found by looking: every file's identity,
size and time against those of the last look. So nothing is missed that was renamed, swapped behind a symbolic link or
checked out while we read, and a watch that has lost events costs a few seconds and not an object.

A step that only adds and changes is believed as soon as the files have been quiet for a moment; one that loses
something (a file gone, empty or cut off) only once they have been quiet for longer: it may be half of a move.

`Files` does the looking and knows no loop; `FolderSource` waits and applies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from watchfiles import awatch

from ostria.base import Level, ObjectKey, Origin, Problem
from ostria.base.clock import Clock, SystemClock
from ostria.resources import Change
from ostria.sources.annotations import AnnotationFile
from ostria.sources.manifests import EMPTY, Diff, FolderState, changes_of, update
from ostria.sources.source import Apply, Outbox, Statistics

_log = logging.getLogger(__name__)

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE_BYTES = 64 * 1024 * 1024
"""The largest file read; documents have a limit of their own."""

TICK = 50_000_000
"""Nanoseconds, more than a file system's times are coarse."""


class Pace(NamedTuple):
    """How long to wait, in seconds.

    `step` is how often the operating system's news are collected, and so the quiet after which a change is believed;
    `doubt` is the quiet after which a loss is; `patience` is for how long files that never are quiet are waited for;
    `look` is how often is looked without news.
    """

    step: float = 0.005
    doubt: float = 0.1
    patience: float = 2.0
    look: float = 5.0


class Signature(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


class _Seen(NamedTuple):
    """What was found at the last look; without a signature it has to be read again."""

    signature: Signature | None
    digest: bytes


class Files:
    """The files below some paths, and which of them differ from the last look.

    `problems` are of paths that are not there and of files that could not be read at the last look.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]]) -> None:
        self.paths = tuple(dict.fromkeys(os.path.normpath(os.fspath(path)) for path in paths))
        self.problems: tuple[Problem, ...] = ()
        self._seen: dict[str, _Seen] = {}

    def look(self) -> dict[str, bytes | None]:
        """The texts of the files that have changed since the last look, None for those that are gone.

        A file that cannot be read counts as unchanged: what it said stands.
        """
        problems = [_unreadable(path, "it does not exist") for path in self.paths if not os.path.exists(path)]
        found = dict(self._walk())
        texts: dict[str, bytes | None] = dict.fromkeys(self._seen.keys() - found.keys())
        now = time.time_ns()
        for path, signature in found.items():
            seen = self._seen.get(path)
            if seen is not None and seen.signature == signature:
                continue
            try:
                text = _read(path)
            except FileNotFoundError:
                texts[path] = None
                continue
            except OSError as error:
                problems.append(_unreadable(path, error.strerror or str(error)))
                continue
            digest = blake2b(text, digest_size=16).digest()
            if seen is None or seen.digest != digest:
                texts[path] = text
            # A second write in the same tick leaves the same times: a file that is so young is read once more.
            young = now - signature.changed < TICK
            self._seen[path] = _Seen(None if young else signature, digest)
        for path, found_text in texts.items():
            if found_text is None:
                self._seen.pop(path, None)
        self.problems = tuple(problems)
        return texts

    def folders(self) -> dict[str, tuple[int, int]]:
        """Those of the paths that are folders, with what tells a folder from another one put in its place."""
        found = {}
        for path in self.paths:
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                found[path] = (status.st_dev, status.st_ino)
        return found

    def around(self) -> list[str]:
        """The folders that the paths are entries of."""
        return sorted(filter(os.path.isdir, {os.path.dirname(os.path.abspath(path)) for path in self.paths}))

    def _walk(self) -> Iterator[tuple[str, Signature]]:
        visited: set[tuple[int, int]] = set()
        for path in self.paths:
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from _below(path, status, visited)
            elif stat.S_ISREG(status.st_mode):
                yield path, _signature(status)


def _unreadable(path: str, why: str) -> Problem:
    return Problem("file-unreadable", Level.ERROR, f"{path} cannot be read: {why}", origin=Origin(path))


def _below(folder: str, status: os.stat_result, visited: set[tuple[int, int]]) -> Iterator[tuple[str, Signature]]:
    # A folder is read once, whatever links lead to it: links that form a circle end here.
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if is_ignored(entry.name):
            continue
        try:
            status = entry.stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _below(entry.path, status, visited)
        elif stat.S_ISREG(status.st_mode) and entry.name.endswith(SUFFIXES):
            yield entry.path, _signature(status)


def is_ignored(name: str) -> bool:
    """Whether this is a hidden file, or one that editors make beside the one being edited."""
    return name.startswith((".", "#", "~")) or name.endswith(("~", ".swp", ".tmp", ".bak", ".orig"))


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: str) -> bytes:
    # The file may have become a pipe since it was looked at; opening one would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            raise OSError(f"it is no file of at most {MAX_FILE_BYTES // 1024 // 1024} MiB")
        return file.read()


Hook = Callable[[Diff], object]


class FolderSource:
    """Follows folders, recursively, and single files.

    `follow` is called with each step that changes something, kinds that the mesh does not read included, before its
    batch is applied. `annotations` names a small file for what the mesh must remember of objects, since the files are
    the user's and are never written.
    """

    def __init__(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        cluster: str = "",
        namespace: str = "default",
        follow: Hook | None = None,
        annotations: Path | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._files = Files(paths)
        self._cluster = cluster
        self._namespace = namespace
        self._follow = follow
        self._annotations = AnnotationFile(annotations) if annotations is not None else None
        self._pace = pace or Pace()
        self._clock = clock or SystemClock()
        self._outbox = Outbox()
        self._state: FolderState = EMPTY
        self._news = asyncio.Event()
        self._listened: dict[str, tuple[int, int]] = {}
        self._moved = asyncio.Event()

    @property
    def synced(self) -> asyncio.Event:
        """Set once what was in the files at the start has been applied."""
        return self._outbox.synced

    @property
    def state(self) -> FolderState:
        """What the files say now."""
        return self._state

    def statistics(self) -> Statistics:
        """What has been read so far."""
        outbox, changes = self._outbox, self._state.changes()
        problems = (*self._files.problems, *self._state.problems())
        return Statistics(outbox.synced.is_set(), len(changes), outbox.batches, outbox.changes, problems)

    def annotate(self, key: ObjectKey, annotations: Mapping[str, str | None]) -> None:
        """Remember annotations of an object beside the files; None takes one back.

        Raises KeyError if there is no such object, and OSError if the file cannot be written.
        """
        if self._annotations is None:
            raise OSError("this folder has no file for annotations")
        change = next((change for change in self._state.changes() if change.key == key), None)
        if change is None:
            raise KeyError(key)
        self._annotations.put(key, annotations)
        self._outbox.put((self._annotations.over(change),))

    async def run(self, apply: Apply) -> None:
        """Apply what is there, and follow it until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outbox.run(apply))
            tasks.create_task(self._listen_below())
            tasks.create_task(self._listen_around())
            # The listeners begin before they first wait; looking begins after them, so that no change falls between.
            await asyncio.sleep(0)
            await self._step()
            self._outbox.release()
            while True:
                await self._wait_news(self._pace.look)
                await self._step()

    async def _step(self) -> None:
        """Take what has changed, waiting for quiet if it is a loss."""
        started = self._clock.monotonic()
        texts: dict[str, bytes | None] = {}
        while True:
            self._news.clear()
            state, diff = await asyncio.to_thread(self._look, texts)
            impatient = self._clock.monotonic() - started >= self._pace.patience
            if impatient or not diff.loses or not await self._wait_news(self._pace.doubt):
                break
        self._state = state
        if self._files.folders() != self._listened:
            self._moved.set()
        if self._follow is not None and any(diff):
            self._follow(diff)
        self._outbox.put(self._noted(diff))

    def _look(self, texts: dict[str, bytes | None]) -> tuple[FolderState, Diff]:
        texts.update(self._files.look())
        if not texts:
            return self._state, Diff()
        return update(self._state, texts, cluster=self._cluster, namespace=self._namespace)

    def _noted(self, diff: Diff) -> Iterable[Change]:
        changes = changes_of(diff)
        if self._annotations is None:
            return changes
        for manifest in diff.deleted:
            if manifest.change is not None:
                self._annotations.forget(manifest.change.key)
        return [self._annotations.over(change) for change in changes]

    async def _wait_news(self, seconds: float) -> bool:
        """Whether something has happened within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _listen_below(self) -> None:
        """Hear of changes in the folders, anew whenever one has been put in the place of another."""
        while True:
            self._moved.clear()
            self._listened = self._files.folders()
            if self._listened:
                await self._listen(self._listened, self._pace.step, recursive=True)
            await self._moved.wait()

    async def _listen_around(self) -> None:
        """Hear of the paths themselves being made, replaced or removed: that is news of the folder around each."""
        # In front of folders only their being replaced is heard: no hurry, and collecting news costs a little.
        hurry = 1 if len(self._files.folders()) < len(self._files.paths) else 10
        await self._listen(self._files.around(), self._pace.step * hurry, recursive=False)

    async def _listen(self, folders: Iterable[str], step: float, *, recursive: bool) -> None:
        try:
            async for _ in awatch(
                *folders,
                watch_filter=None,
                debounce=round(self._pace.patience * 1000),
                step=max(1, round(step * 1000)),
                stop_event=self._moved if recursive else None,
                recursive=recursive,
                ignore_permission_denied=True,
            ):
                self._news.set()
        except (OSError, RuntimeError) as error:
            # A folder that has just gone, or a system that allows no more watches (the library makes a RuntimeError of
            # that): looking now and then goes on.
            _log.warning("changes are found by looking every %g s: %s", self._pace.look, error)
