"""The node's side of a pod's first process: start it, find it again, and speak with it without blocking the loop.

    Sandbox.create / Sandbox.adopt -> runs (what was started and how it ended) -> `changed` for each later event

It knows runs, not containers: what is restarted, and why, is decided in `lifecycle`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ostria.node import messages, pod_init
from ostria.node.messages import Message
from ostria.node.userns import NodeNamespaces

START_BOUND = 10.0
ANSWER_BOUND = 5.0
"""Seconds that a pod's first process has for an answer, which takes it microseconds."""
_OUTPUT_LIMIT = 64 * 1024
_LISTEN = "0A"


class Run(NamedTuple):
    """One program that was started. `code` is None while it runs; times are seconds since 1970, 0 for not yet."""

    name: str
    pid: int = 0
    started: float = 0.0
    finished: float = 0.0
    code: int | None = None
    signal: int = 0
    error: str = ""


class Lost(ConnectionError):
    """The pod's first process is gone, and with it all that ran in the pod."""


class LogLimits(NamedTuple):
    """When a container's log is rotated; the defaults are kubelet's."""

    max_bytes: int = 10 * 1024 * 1024
    max_files: int = 5


class Sandbox:
    """A live pod. `runs` is what is known of its programs; `lost` is set when its first process has ended."""

    def __init__(self, folder: pathlib.Path, sock: socket.socket, changed: Callable[[Run], None]) -> None:
        self.folder = folder
        self.runs: dict[str, Run] = {}
        self.lost = asyncio.Event()
        self.pid = messages.peer_pid(sock)
        # Opened while the connection shows that it lives, so that the number cannot mean another process.
        self._pidfd = os.pidfd_open(self.pid)
        self._sock = sock
        self._changed = changed
        self._waiters: dict[str, list[asyncio.Future[Run]]] = {}
        self._execs = 0

    @classmethod
    async def create(
        cls, namespaces: NodeNamespaces, folder: pathlib.Path, settings: Message, changed: Callable[[Run], None]
    ) -> Sandbox:
        """Start a pod's first process in `folder`. Raises Lost, with what it said, if it does not come up."""
        (folder / "init.log").unlink(missing_ok=True)
        (folder / "root").mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (folder / pod_init.SOCKET).unlink()
        message = {"op": "pod", "folder": str(folder), "settings": settings}
        await asyncio.to_thread(namespaces.request, message)
        deadline = asyncio.get_running_loop().time() + START_BOUND
        while True:
            try:
                return await cls.adopt(folder, changed)
            except Lost:
                log = folder / "init.log"
                said = log.read_text().strip() if log.exists() else ""
                if said or asyncio.get_running_loop().time() > deadline:
                    raise Lost(said.splitlines()[-1] if said else "the pod's first process does not answer") from None
            # It listens within milliseconds; nothing tells when, because its parent has ended already.
            await asyncio.sleep(0.002)

    @classmethod
    async def adopt(cls, folder: pathlib.Path, changed: Callable[[Run], None]) -> Sandbox:
        """Find a pod that lives, with all its runs. Raises Lost if it does not."""
        try:
            sock = messages.connect(str(folder), pod_init.SOCKET)
        except OSError as error:
            raise Lost(str(error)) from None
        made = cls(folder, sock, changed)
        try:
            messages.request(sock, {"op": "watch"})
            while "synced" not in (message := messages.receive(sock)[0]):
                made._know(message)
        except OSError as error:
            sock.close()
            raise Lost(str(error)) from None
        sock.settimeout(0)
        asyncio.get_running_loop().add_reader(sock, made._read)
        return made

    def close(self) -> None:
        """Let go of it; it lives on."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            os.close(self._pidfd)

    async def end(self) -> None:
        """Kill the pod's first process and wait until the kernel has ended everything in the pod."""
        loop = asyncio.get_running_loop()
        if self._sock.fileno() < 0:
            return
        gone = asyncio.Event()
        pidfd = os.dup(self._pidfd)
        self._lose()
        loop.add_reader(pidfd, gone.set)
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await gone.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    def listening(self) -> frozenset[int]:
        """The TCP ports on which somebody listens in the pod's network."""
        found: set[int] = set()
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(OSError), open(f"/proc/{self.pid}/net/{table}", encoding="ascii") as lines:
                rows = (line.split() for line in lines)
                found.update(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN)
        return frozenset(found)

    def request(self, message: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """Ask, and wait some microseconds for the answer. Raises Lost, and messages.Refused."""
        try:
            with messages.connect(str(self.folder), pod_init.SOCKET, ANSWER_BOUND) as sock:
                return messages.request(sock, message, fds)
        except OSError as error:
            raise Lost(str(error)) from None

    def start(self, name: str, plan: Mapping[str, Any], log: pathlib.Path, limits: LogLimits) -> None:
        """Start a container's program; its run is told to `changed` when it runs or has failed to."""
        message = {"op": "start", "name": name, "log": str(log), **limits._asdict()}
        with _as_file(plan) as fd:
            self.request(message, [fd])
        self.runs[name] = Run(name)

    def exec(self, run: str, argv: Sequence[str], stdio: tuple[int, int, int], *, tty: bool = False) -> str:
        """Start another program beside one that runs, on the caller's descriptors; return its name for `wait`."""
        self._execs += 1
        name = f"exec/{os.getpid()}-{self._execs}"
        with _as_file({"join": run, "argv": list(argv), "tty": tty}) as fd:
            self.request({"op": "start", "name": name}, [fd, *stdio])
        self.runs[name] = Run(name)
        return name

    async def wait(self, name: str) -> Run:
        """Wait for a run's end. Raises Lost."""
        known = self.runs.get(name)
        if known is None:
            raise Lost(f"{name} was never started")
        if known.code is not None:
            return known
        waiter: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(name, []).append(waiter)
        if self.lost.is_set():
            raise Lost("the pod has ended")
        return await waiter

    async def check(self, run: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a command in a container to its end: its exit code and the start of what it wrote. Raises Lost.

        If the caller is cancelled the command is killed.
        """
        with open(os.memfd_create("output"), "w+b") as output, open(os.devnull, "rb") as nothing:  # noqa: ASYNC230
            name = self.exec(run, argv, (nothing.fileno(), output.fileno(), output.fileno()))
            try:
                ended = await self.wait(name)
            finally:
                self.end_exec(name)
            output.seek(0)
            text = output.read(_OUTPUT_LIMIT).decode(errors="replace")
            return ended.code or 0, ended.error or text

    def end_exec(self, name: str) -> None:
        """Kill a run if it still runs, and forget it."""
        self.forget(name)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a run; nothing happens if it has ended."""
        with contextlib.suppress(messages.Refused):
            self.request({"op": "signal", "name": name, "signal": number})

    def forget(self, name: str) -> None:
        """Let the record of a run go; if it still runs, kill it."""
        self.runs.pop(name, None)
        with contextlib.suppress(messages.Refused, Lost):
            self.request({"op": "forget", "name": name})

    def socket(self, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A new socket that belongs to the pod's network."""
        _, fds = self.request({"op": "sockets", "arguments": [[family, kind, 0]]})
        return socket.socket(fileno=fds[0])

    def network_namespace(self) -> int:
        """A descriptor of the pod's network namespace, which the caller closes."""
        _, (net, mount) = self.request({"op": "namespaces"})
        os.close(mount)
        return net

    def _know(self, message: Message) -> Run:
        run = Run(**message["run"])
        self.runs[run.name] = run
        return run

    def _read(self) -> None:
        try:
            while True:
                run = self._know(messages.receive(self._sock)[0])
                if run.code is not None:
                    for waiter in self._waiters.pop(run.name, ()):
                        if not waiter.done():
                            waiter.set_result(run)
                if run.name.startswith("exec/"):
                    continue
                self._changed(run)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            self._changed(Run(""))

    def _lose(self) -> None:
        """Nothing is heard from the pod any more: whoever waits for a run of it is told."""
        self.close()
        self.lost.set()
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(Lost("the pod has ended"))
        self._waiters.clear()


@contextlib.contextmanager
def _as_file(plan: Mapping[str, Any]) -> Any:
    fd = os.memfd_create("plan")
    try:
        os.write(fd, json.dumps(plan).encode())
        yield fd
    finally:
        os.close(fd)


def remove_folder(folder: pathlib.Path) -> None:
    """Remove a pod's files, also those that its programs have made unreadable."""

    def again(function: Callable[[str], object], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            os.chmod(path, 0o700)
            function(path)

    shutil.rmtree(folder, onerror=again)
    shutil.rmtree(folder, ignore_errors=True)
