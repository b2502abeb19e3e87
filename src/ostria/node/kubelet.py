"""The node: a worker for each pod of a stream, and the calls that an API server forwards (logs, exec, port-forward).

    pods (a stream of changes) -> workers        state folder: pods/UID (sandbox, volumes, record), logs/, run/

It may be killed at any moment: the pods live on, and a new node that reads the same folder goes on with them. Pods
whose object is gone when the first batch has come are ended. `down` ends everything without a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pathlib
import shutil
import socket
import struct
import termios
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from ostria.base.times import timestamp
from ostria.node import logs, userns
from ostria.node.ground import Ground, Settings
from ostria.node.messages import Refused
from ostria.node.pods import Pod, read_pod, stored_pod
from ostria.node.sandbox import Sandbox, remove_folder
from ostria.node.worker import Worker

log = logging.getLogger(__name__)

_TERMINAL_BOUND = 5.0


class PodChange(NamedTuple):
    """A pod as it is now, as JSON; None if it is gone."""

    namespace: str
    name: str
    document: Mapping[str, Any] | None


class PodSource(Protocol):
    """Where pods come from: the contract of `sources`, for whole documents."""

    async def run(self, apply: Callable[[Sequence[PodChange]], object]) -> None:
        """Pass on what is there (the first batch, all at once) and what changes, until cancelled."""


class NoSuchPod(LookupError):
    """The node runs no such pod or container."""


class Execution:
    """A program that was started in a container. With a terminal, `terminal` is its other end, else None."""

    def __init__(self, sandbox: Sandbox, name: str, terminal: int | None) -> None:
        self._sandbox = sandbox
        self._name = name
        self.terminal = terminal

    async def wait(self) -> int:
        """Its exit code, 128 + N after signal N. Raises sandbox.Lost; cancelled, the program is killed."""
        try:
            return (await self._sandbox.wait(self._name)).code or 0
        finally:
            self._sandbox.end_exec(self._name)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the program its terminal's size."""
        if self.terminal is not None:
            fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Close the terminal."""
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None


class Node:
    """All pods of one machine."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._workers: dict[str, Worker] = {}
        self._is_first = True
        self._group: asyncio.TaskGroup

    async def run(self, source: PodSource) -> None:
        """Keep the pods of a source running, until cancelled; they go on after that."""
        self._ground.settings.pods.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._ground.settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with asyncio.TaskGroup() as self._group:
            await source.run(self.apply)

    def apply(self, changes: Sequence[PodChange]) -> None:
        """Take one batch."""
        for change in changes:
            if change.document is None:
                for worker in self._named(change.namespace, change.name):
                    self._let_go(worker)
                continue
            try:
                pod = read_pod(change.document)
            except msgspec.ValidationError as error:
                # The API server has validated it; a file's pod may be anything.
                log.error("pod %s/%s cannot be understood: %s", change.namespace, change.name, error)
                continue
            if not pod.metadata.uid or "/" in pod.metadata.uid or pod.metadata.uid.startswith("."):
                log.error("pod %s/%s has no uid", change.namespace, change.name)
                continue
            self._take(pod)
        if self._is_first:
            self._is_first = False
            self._adopt_orphans()

    def objects_changed(self, namespace: str) -> None:
        """ConfigMaps or Secrets of a namespace have changed: its pods' volumes are brought up to date."""
        for worker in self._workers.values():
            if worker.pod.metadata.namespace == namespace:
                worker.refresh()

    def _take(self, pod: Pod) -> None:
        worker = self._workers.get(pod.metadata.uid)
        if worker is not None:
            worker.update(pod)
            return
        for other in self._named(pod.metadata.namespace, pod.metadata.name):
            self._let_go(other)
        worker = self._workers[pod.metadata.uid] = Worker(self._ground, pod)
        self._group.create_task(self._work(worker))

    async def _work(self, worker: Worker) -> None:
        uid = worker.pod.metadata.uid
        while True:
            try:
                await worker.run()
            except Exception:
                # A fault in one pod's handling must not end the others: the pod is taken up anew from what was kept.
                log.exception("the worker of pod %s has failed", worker.pod.key)
                await self._ground.clock.sleep(self._ground.settings.pace.configuration)
                worker = self._workers[uid] = Worker(self._ground, self._workers[uid].pod)
            else:
                del self._workers[uid]
                return

    def _let_go(self, worker: Worker) -> None:
        if not worker.pod.is_deleted:
            gone = msgspec.structs.replace(worker.pod.metadata, deletion_timestamp=timestamp(self._ground.clock.now()))
            worker.update(msgspec.structs.replace(worker.pod, metadata=gone))

    def _adopt_orphans(self) -> None:
        """Pods that live and that nobody wants any more are taken up to be ended in good order."""
        for folder in sorted(self._ground.settings.pods.iterdir()):
            if folder.name in self._workers:
                continue
            try:
                pod = stored_pod((folder / "pod.json").read_bytes())
            except (OSError, msgspec.DecodeError):
                remove_folder(folder)
                continue
            self._take(pod)
            self._let_go(self._workers[pod.metadata.uid])

    def _named(self, namespace: str, name: str) -> list[Worker]:
        return [w for w in self._workers.values() if w.pod.key[:2] == (namespace, name)]

    def _worker(self, namespace: str, name: str, container: str) -> Worker:
        found = sorted(self._named(namespace, name), key=lambda worker: worker.pod.is_deleted)
        if not found or container not in found[0].record.containers:
            raise NoSuchPod(f"{namespace}/{name} has no container {container!r} here")
        return found[0]

    async def read_logs(
        self,
        namespace: str,
        name: str,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        previous: bool = False,
        timestamps: bool = False,
    ) -> AsyncGenerator[bytes]:
        """A container's output in pieces. `since` is seconds since 1970. Raises NoSuchPod."""
        worker = self._worker(namespace, name, container)
        path = worker.log_path(container, previous=previous)
        if path is None or (previous and not path.exists()):
            raise NoSuchPod(f'previous terminated container "{container}" in pod "{name}" not found')
        attempt = int(path.stem)
        async for piece in logs.read_logs(
            path,
            follow=follow,
            tail=tail,
            since=since,
            timestamps=timestamps,
            ended=lambda: worker.has_ended(container, attempt),
        ):
            yield piece

    def exec(
        self, namespace: str, name: str, container: str, argv: Sequence[str], stdio: tuple[int, int, int] | None = None
    ) -> Execution:
        """Start a program in a container: on the caller's descriptors, or without any on a new terminal.

        Raises NoSuchPod, sandbox.Lost, and messages.Refused if the container does not run.
        """
        worker = self._worker(namespace, name, container)
        if worker.sandbox is None:
            raise NoSuchPod(f"{namespace}/{name} does not run")
        run = worker.record.containers[container].run
        if stdio is not None:
            return Execution(worker.sandbox, worker.sandbox.exec(run, argv, stdio), None)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            started = worker.sandbox.exec(run, argv, (theirs.fileno(),) * 3, tty=True)
            theirs.close()
            ours.settimeout(_TERMINAL_BOUND)
            # The terminal is made within the container, where it has a name; only its other end comes here.
            try:
                _, received, _, _ = socket.recv_fds(ours, 16, 1)
            except TimeoutError:
                received = []
        if not received:
            worker.sandbox.end_exec(started)
            raise Refused("the container has given no terminal")
        return Execution(worker.sandbox, started, received[0])

    async def port_forward(
        self, namespace: str, name: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of the pod's loopback. Raises NoSuchPod and OSError."""
        found = self._named(namespace, name)
        if not found:
            raise NoSuchPod(f"{namespace}/{name} is not here")
        return await found[0].dial_within(port)


@contextlib.contextmanager
def exclusive(settings: Settings) -> Any:
    """Hold the state folder: only one node may work on it. Raises BlockingIOError if another does."""
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.state / "node.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def down(settings: Settings) -> None:
    """End every process, namespace, mount and socket of a node that does not run any more; keep the logs."""
    if settings.run.exists():
        userns.end(settings.run)
        shutil.rmtree(settings.run, ignore_errors=True)
    if settings.pods.exists():
        for folder in list(settings.pods.iterdir()):
            remove_folder(folder)
        settings.pods.rmdir()
    pathlib.Path(settings.state / "node.lock").unlink(missing_ok=True)
