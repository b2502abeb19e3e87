"""The first process of a pod: holds its namespaces, starts its programs, reaps them, keeps their exits and their logs.

    node --Unix socket--> pod_init --carry--> programs        events (started, exited, failed) go back to who watches

It outlives the node: what has happened meanwhile is told when a node watches again. It decides nothing (no restart, no
probe); when it ends the kernel ends the whole pod. It is resident in every pod, hence plain and small.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import socket
import struct
import time
from typing import Any

from ostria.node import container, linux, messages
from ostria.node.log_file import LogFile
from ostria.node.messages import Message

SOCKET = "init.sock"
_CHUNK = 65536
_PATIENCE = 5.0
"""Seconds that a watcher has to take all that has happened so far."""
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


class Run:
    """One program: a container's attempt, or an exec. `log` is None where the caller has given the streams."""

    def __init__(self, name: str, plan: container.Plan, carrier: int, report: int, log: LogFile | None) -> None:
        self.name = name
        self.plan = plan
        self.carrier = carrier
        self.report = report
        self.reported = b""
        self.log = log
        self.pid = 0
        self.started = 0.0
        self.finished = 0.0
        self.code: int | None = None
        self.signal = 0
        self.error = ""
        self.is_forgotten = False
        self.pipes: dict[int, str] = {}

    def describe(self) -> Message:
        """The run as its watchers see it. `code` is None while it runs; times are seconds since 1970."""
        fields = ("name", "pid", "started", "finished", "code", "signal", "error")
        return {"run": {field: getattr(self, field) for field in fields}}


class PodInit:
    """The loop of a pod's first process."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._poll = select.poll()
        self._runs: dict[str, Run] = {}
        self._pipes: dict[int, Run] = {}
        self._reports: dict[int, Run] = {}
        self._strays: dict[int, tuple[int, float]] = {}
        self._clients: dict[int, socket.socket] = {}
        self._watchers: set[int] = set()
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        self._listening = messages.listen(folder, SOCKET)
        self._listening.settimeout(0)
        for fd in (self._wake, self._listening.fileno()):
            self._poll.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Forever.

        What is closed while a batch of events is worked through may be in that batch, and its number may mean something
        new already: so unknown numbers are ignored, and nothing that is read here ever blocks.
        """
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._pipes:
                    self._read_output(fd)
                elif fd in self._reports:
                    self._read_report(fd)
                elif fd in self._clients:
                    self._read_request(fd)
                elif fd == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                elif fd == self._listening.fileno():
                    self._accept()
            self._reap()

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except BlockingIOError:
            return
        client.settimeout(0)
        self._clients[client.fileno()] = client
        self._poll.register(client, select.POLLIN)

    def _drop(self, fd: int) -> None:
        self._watchers.discard(fd)
        self._poll.unregister(fd)
        self._clients.pop(fd).close()

    def _read_request(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            message, fds = messages.receive(client)
        except BlockingIOError:
            return
        except OSError:
            self._drop(fd)
            return
        opened: list[int] = []
        try:
            answer = self._handle(message, fds, opened)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        try:
            messages.send(client, answer, opened)
            if message["op"] == "watch" and "ok" in answer:
                client.settimeout(_PATIENCE)
                for run in self._runs.values():
                    messages.send(client, run.describe())
                messages.send(client, {"synced": True})
                client.settimeout(0)
                self._watchers.add(fd)
        except OSError:
            self._drop(fd)
        for received in (*fds, *opened):
            os.close(received)

    def _handle(self, message: Message, fds: list[int], opened: list[int]) -> Message:
        match message["op"]:
            case "start":
                self._start(message, fds)
            case "signal":
                run = self._runs[message["name"]]
                if run.code is None and run.pid:
                    os.kill(run.pid, message["signal"])
            case "forget":
                run = self._runs[message["name"]]
                run.is_forgotten = True
                if run.code is not None:
                    del self._runs[run.name]
                elif run.pid:
                    os.kill(run.pid, signal.SIGKILL)
            case "sockets":
                opened += [socket.socket(*arguments).detach() for arguments in message["arguments"]]
            case "namespaces":
                opened += [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt")]
            case "watch":
                pass
            case unknown:
                raise ValueError(f"no such operation: {unknown}")
        return {"ok": True}

    def _start(self, message: Message, fds: list[int]) -> None:
        name: str = message["name"]
        if name in self._runs:
            raise ValueError(f"{name} has been started")
        plan = json.loads(_read_all(fds[0]))
        if "join" in plan:
            joined = self._runs[plan["join"]]
            if joined.code is not None or not joined.pid:
                raise ValueError(f"{plan['join']} does not run")
            plan = {**joined.plan, **plan, "join": joined.pid}
        log = LogFile(message["log"], message["max_bytes"], message["max_files"]) if "log" in message else None
        report, tell = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(report, False)
        outputs: dict[int, str] = {}
        if log is None:
            stdio, close = (fds[1], fds[2], fds[3]), [tell]
        else:
            out, out_end = os.pipe2(os.O_CLOEXEC)
            err, err_end = os.pipe2(os.O_CLOEXEC)
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            outputs = {out: "stdout", err: "stderr"}
            stdio, close = (null, out_end, err_end), [tell, null, out_end, err_end]
        run = Run(name, plan, linux.fork(lambda: container.carry(plan, tell, stdio)), report, log)
        for fd in close:
            os.close(fd)
        run.pipes = outputs
        self._runs[name] = run
        self._reports[report] = run
        self._poll.register(report, select.POLLIN)
        for fd in outputs:
            os.set_blocking(fd, False)
            self._pipes[fd] = run
            self._poll.register(fd, select.POLLIN)

    def _read_report(self, fd: int) -> None:
        run = self._reports[fd]
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        run.reported += data
        if data:
            return
        self._poll.unregister(fd)
        os.close(fd)
        del self._reports[fd]
        facts: dict[str, Any] = {}
        for line in run.reported.splitlines():
            facts.update(json.loads(line))
        run.pid = facts.get("pid", 0)
        run.error = facts.get("error", "" if run.pid else "the program's carrier ended")
        if not run.error:
            run.started = time.time()
        stray = self._strays.pop(run.pid, None)
        if not self._reports:
            self._strays.clear()
        if stray is not None:
            self._finish(run, *stray)
        elif not run.pid:
            self._finish(run, 128 << 8, time.time())
        elif run.is_forgotten:
            os.kill(run.pid, signal.SIGKILL)
        elif not run.error:
            self._announce(run)

    def _read_output(self, fd: int) -> None:
        run = self._pipes[fd]
        assert run.log is not None
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if data:
            run.log.feed(run.pipes[fd], data)
        else:
            self._close_output(fd)

    def _close_output(self, fd: int) -> None:
        self._poll.unregister(fd)
        run = self._pipes.pop(fd)
        del run.pipes[fd]
        os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            now = time.time()
            run = next((run for run in self._runs.values() if run.pid == pid and run.code is None), None)
            if run is not None:
                self._finish(run, status, now)
            elif self._reports and all(run.carrier != pid for run in self._reports.values()):
                # It may be a program whose report has not been read yet.
                self._strays[pid] = (status, now)

    def _finish(self, run: Run, status: int, now: float) -> None:
        for fd in list(run.pipes):
            while fd in self._pipes:
                try:
                    data = os.read(fd, _CHUNK)
                except BlockingIOError:
                    data = b""
                if data and run.log is not None:
                    run.log.feed(run.pipes[fd], data)
                else:
                    self._close_output(fd)
        if run.log is not None:
            run.log.close()
        run.finished = now
        run.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        run.code = 128 + run.signal if run.signal else os.WEXITSTATUS(status)
        self._announce(run)
        if run.is_forgotten:
            del self._runs[run.name]

    def _announce(self, run: Run) -> None:
        for fd in list(self._watchers):
            try:
                messages.send(self._clients[fd], run.describe())
            except OSError:
                # It does not read: it may connect anew and is then told everything.
                self._drop(fd)


def main(folder: str, settings: Message) -> None:
    """Serve one pod from its folder until killed. `settings`: `hostname` and `sysctls`."""
    linux.set_process_name("ostria-pod")
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.set_hostname(settings["hostname"])
    for name, value in settings["sysctls"].items():
        linux.write(f"/proc/sys/{name.replace('.', '/')}", value)
    for path, data in settings["tmpfs"]:
        linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, data)
    _raise_loopback()
    gc.enable()
    PodInit(folder).serve()


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = array.array("b", struct.pack("16sH22x", b"lo", 0))
        fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | _IFF_UP))


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0)
