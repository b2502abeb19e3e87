"""The process that keeps the processes of a mesh on one machine running, and ends them.

    mesh.json -> the API's listening socket -> apiserver, then node, then what follows folders

It holds the socket, so that connections wait while the API server is started again and no port is lost. SIGTERM ends
the mesh's processes, and leaves pods to `node --down`. If the supervisor is killed its children go on, and the next
one ends them and starts new ones; pods do not notice, as the node takes them over.

SIGHUP has it read the record again: what is to be followed may have changed. It stays resident, so it stands on the
agents' loop and not on asyncio.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ostria.agent import restarts
from ostria.agent.children import Child, spawn
from ostria.agent.loop import Flag, Loop, now, passes, readable, wait
from ostria.apps import leftovers, state
from ostria.base import logs

log = logging.getLogger("ostria.supervisor")

APISERVER, NODE, FOLLOW = "apiserver", "node", "follow"
GRACE = 8.0
"""Seconds that a child has to end after SIGTERM."""
REFUSED = (64, 65, 69)
"""Exit codes with which a child says that starting it again is of no use."""
_NEVER_BEGAN = 70


class Program(NamedTuple):
    """What a child is to be: its name, which is that of its log file too, and its command."""

    name: str
    command: tuple[str, ...]


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of ours; nothing of the current folder is imported."""
    return (sys.executable, "-P", "-m", module, *arguments)


def apiserver(mesh: state.Mesh, record: state.Record, listening: int, ready: int) -> Program:
    """The API server on a descriptor that listens; it writes a line to `ready` when it serves."""
    return Program(
        APISERVER,
        python(
            "ostria.apps.apiserver",
            *("--state", str(mesh.apiserver), "--listen", f"fd:{listening}"),
            *("--advertise", f"127.0.0.1:{record.ports['api']}", "--node-socket", f"{record.run}/node.sock"),
            *("--kubeconfig", str(mesh.kubeconfig), "--ready-fd", str(ready)),
        ),
    )


def node(mesh: state.Mesh, record: state.Record, begin: int | None = None) -> Program:
    """The node, with what the person has said about ports, images and the host; it begins once `begin` is closed."""
    settings = record.settings
    ports = {80: record.ports.get("gateway"), 443: record.ports.get("gateway-tls")}
    words = [f"{port}:{host}" for port, host in ports.items() if host]
    # Those that the person names come last, as the last one counts most and is where to add.
    own = [mesh.images] if mesh.images.is_file() else []
    return Program(
        NODE,
        python(
            "ostria.apps.node",
            *("--state", str(mesh.node), "--kubeconfig", str(mesh.apiserver / "node.kubeconfig")),
            *("--socket", f"{record.run}/node.sock"),
            *(("--begin-fd", str(begin)) if begin is not None else ()),
            *(("--gateway-ports", ",".join(words)) if words else ()),
            *(("--strict-ports",) if settings.get("strict-ports") else ()),
            *(("--allow-host",) if settings.get("allow-host") else ()),
            *(word for file in (*own, *(settings.get("images") or ())) for word in ("--images", str(file))),
            *(word for folder in settings.get("shared-paths") or () for word in ("--shared-path", str(folder))),
        ),
    )


def follow(mesh: state.Mesh, record: state.Record) -> Program | None:
    """What applies the manifests of folders, and takes back those that were left; None if there are none."""
    if not record.settings.get("follow") and not record.settings.get("left"):
        return None
    return Program(FOLLOW, python("ostria.apps.follow", "--state", str(mesh.folder)))


def follow_what(record: state.Record) -> tuple[object, ...]:
    """The settings that the follower reads at its start."""
    return record.settings.get("follow") or (), record.settings.get("namespace"), record.settings.get("left") or ()


class _Running(NamedTuple):
    """A child, and what is set when it has ended."""

    child: Child
    ended: Flag


class Supervisor:
    """Keeps the programs of one mesh, which this process holds (`state.hold`)."""

    def __init__(
        self, mesh: state.Mesh, record: state.Record, listening: socket.socket, env: Mapping[str, str]
    ) -> None:
        self._mesh = mesh
        self._record = record
        self._listening = listening
        self._env = {**env, "OSTRIA_LOG": str(record.settings.get("log") or env.get("OSTRIA_LOG", ""))}
        self._children: dict[str, _Running] = {}
        self._serving = Flag()
        self._ending = Flag()
        self._followed = Flag()
        self._code = 0
        self._loop = Loop()

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a child says that it cannot run here; returns the exit code."""
        return self._loop.run(self._run())

    async def _run(self) -> int:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._loop.start(self._keep_apiserver())
        self._loop.start(self._keep_node())
        self._loop.start(self._keep_follower())
        self._loop.start(self._hear(reading))
        await wait(self._ending)
        log.info("the mesh is ended")
        await self._end(FOLLOW, NODE, APISERVER)
        return self._code

    async def _hear(self, signals: int) -> None:
        while True:
            await readable(signals)
            numbers = set(os.read(signals, 64))
            if numbers & {signal.SIGTERM, signal.SIGINT}:
                self._ending.set()
                return
            if signal.SIGHUP in numbers:
                self._read_again()

    def _read_again(self) -> None:
        before = self._record
        try:
            self._record = state.read(self._mesh) or before
        except state.StateError as error:
            log.error("%s", error)
            return
        running = self._children.get(NODE)
        # Its ports are what it has said itself: the next one is to have the same.
        asked = self._record._replace(ports=before.ports)
        if running is not None and node(self._mesh, before) != node(self._mesh, asked):
            # Its settings are its command line. Pods do not notice, as the next one takes them over.
            running.child.send(signal.SIGTERM)
        follower = self._children.get(FOLLOW)
        if follower is not None and follow_what(before) == follow_what(self._record):
            return
        if follower is not None:
            # It reads what is to be followed at its start.
            follower.child.send(signal.SIGTERM)
        self._followed.set()

    async def _keep_apiserver(self) -> None:
        deaths = 0
        while not self._ending.is_set:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.set_inheritable(writing, True)  # noqa: FBT003 - The standard library's own.
            child = self._start(apiserver(self._mesh, self._record, self._listening.fileno(), writing))
            os.close(writing)
            began = now()
            # Either it says that it serves, or it ends and closes its end of the pipe.
            await readable(reading)
            if os.read(reading, 16):
                log.info("the API serves on 127.0.0.1:%d", self._record.ports["api"])
                self._serving.set()
            os.close(reading)
            deaths = restarts.deaths_after(deaths, await self._life(APISERVER, child, began))
            await self._pause(APISERVER, deaths, begun=self._serving.is_set)

    async def _keep_node(self) -> None:
        deaths = 0
        while not self._ending.is_set:
            began = now()
            # It loads while the API server does, and begins when there is something to ask.
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.set_inheritable(reading, True)  # noqa: FBT003 - The standard library's own.
            child = self._start(node(self._mesh, self._record, reading))
            os.close(reading)
            self._loop.start(self._begin(writing))
            deaths = restarts.deaths_after(deaths, await self._life(NODE, child, began))
            await self._pause(NODE, deaths, begun=True)

    async def _begin(self, writing: int) -> None:
        await wait(self._serving)
        os.close(writing)

    async def _keep_follower(self) -> None:
        await wait(self._serving)
        deaths = 0
        while not self._ending.is_set:
            self._followed.clear()
            program = follow(self._mesh, self._record)
            if program is None:
                await wait(self._followed)
                continue
            began = now()
            lived = await self._life(FOLLOW, self._start(program), began)
            if not self._followed.is_set:
                deaths = restarts.deaths_after(deaths, lived)
                await self._pause(FOLLOW, deaths, begun=True)

    async def _life(self, name: str, child: Child, began: float) -> float:
        """Wait for a child's end; how many seconds it has lived."""
        code = await child.exit_code()
        self._children.pop(name).ended.set()
        if self._ending.is_set or (name == FOLLOW and self._followed.is_set):
            return now() - began
        log.log(logging.ERROR if code else logging.INFO, "%s has ended with code %d", name, code)
        if code in REFUSED and name != FOLLOW:
            self._code = code
            self._ending.set()
        return now() - began

    async def _pause(self, name: str, deaths: int, *, begun: bool) -> None:
        delay = restarts.delay(deaths)
        if delay is None and not begun:
            log.error("%s does not begin: the mesh is given up", name)
            self._code = _NEVER_BEGAN
            self._ending.set()
            return
        await passes(self._ending, now() + (restarts.DELAYS[-1] if delay is None else delay))

    def _start(self, program: Program) -> Child:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        output = os.open(self._mesh.logs / f"{program.name}.log", flags, 0o600)
        try:
            child = spawn(list(program.command), self._env, stdout=output, stderr=output)
        finally:
            os.close(output)
        self._children[program.name] = _Running(child, Flag())
        log.info("%s is started", program.name, extra={"pid": child.pid})
        return child

    async def _end(self, *names: str) -> None:
        """End children one after the other: who needs another goes before it."""
        for name in names:
            running = self._children.get(name)
            if running is None:
                continue
            running.child.send(signal.SIGTERM)
            if await passes(running.ended, now() + GRACE):
                log.error("%s does not end, and is killed", name)
                running.child.kill()


def listen(port: int) -> socket.socket:
    """Listen on 127.0.0.1 with a socket that children inherit. Raises OSError."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    listening.set_inheritable(True)
    return listening


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ostria-supervisor", description="Keeps a mesh's processes running.")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="the mesh's folder")
    folder = parser.parse_args(arguments).state.absolute()
    handler = logs.configure(sys.stderr, logs.parse_levels(""), as_json=not sys.stderr.isatty())
    with contextlib.closing(handler):
        mesh = state.Mesh(folder.name, folder)
        # Held until this process ends.
        if state.hold(mesh) is None:
            log.error("another process holds the mesh")
            return 1
        try:
            record = state.read(mesh)
            if record is None:
                raise state.StateError("there is no such mesh", mesh.record)
            leftovers.end(mesh.folder, GRACE)
            state.make_folder(mesh.logs)
            listening = listen(record.ports["api"])
        except (state.StateError, OSError) as error:
            log.error("%s", error)
            return REFUSED[-1]
        log.info("the API's socket listens", extra={"pid": os.getpid(), "port": record.ports["api"]})
        with listening:
            return Supervisor(mesh, record, listening, os.environ).run()


if __name__ == "__main__":
    sys.exit(main())
