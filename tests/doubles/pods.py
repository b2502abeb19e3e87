"""A pod as an agent sees one: a network of its own with loopback, its files at the usual paths, nothing else.

    async with pod(folder) as here:
        agent = await here.run("python", "-m", "ostria.agent.main", "proxy", "sidecar", env=...)
        sock = here.connect("127.0.0.1", 15021)          # a connection within the pod, for the test's own process
        server = here.listen("127.0.0.1", 8080)

The folder's etc and run are /etc and /run. A small process holds the namespaces and makes sockets in them; it ends
with the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping

from doubles.envoy_process import die_with_parent, in_a_pod

_HOLDER = r"""
import fcntl, json, socket, struct, sys
probe = socket.socket()
for_lo = struct.pack("16sH14x", b"lo", 0x1 | 0x40)
fcntl.ioctl(probe, 0x8914, for_lo)  # SIOCSIFFLAGS: up, running.
try:
    # ::6, from which the agent speaks to the application.
    six = socket.inet_pton(socket.AF_INET6, "::6")
    fcntl.ioctl(socket.socket(socket.AF_INET6), 0x8916, six + struct.pack("Ii", 128, 1))
except OSError:
    pass
line = socket.socket(fileno=int(sys.argv[1]))
line.send(b"{}")
while True:
    asked = line.recv(4096)
    if not asked:
        break
    what, host, port, source = json.loads(asked)
    kind = socket.SOCK_DGRAM if what in ("ask", "serve") else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if what in ("connect", "ask"):
            if source:
                sock.bind((source, 0))
            sock.connect((host, port))
        else:
            sock.bind((host, port))
            if what == "listen":
                sock.listen(128)
        socket.send_fds(line, [b"{}"], [sock.fileno()])
    except OSError as error:
        line.send(json.dumps({"errno": error.errno, "text": str(error)}).encode())
    sock.close()
"""


class Pod:
    def __init__(self, folder: pathlib.Path, pid: int, line: socket.socket) -> None:
        self.folder = folder
        self._pid = pid
        self._line = line

    def file(self, path: str) -> pathlib.Path:
        """Where a file of the pod's /etc, /run or /var/run lies for the test."""
        return self.folder / path.replace("/var/run/", "/run/", 1).lstrip("/")

    def write(self, path: str, text: str) -> None:
        """Put a file into the pod, whole or not at all."""
        file = self.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f"{file.name}.staged")
        staged.write_text(text)
        staged.rename(file)

    def connect(self, host: str, port: int, source: str = "") -> socket.socket:
        """A connection within the pod, from an address of its own or from `source`; raises OSError."""
        return self._socket("connect", host, port, source)

    def listen(self, host: str, port: int) -> socket.socket:
        """A listening socket within the pod; raises OSError."""
        return self._socket("listen", host, port)

    def ask(self, host: str, port: int) -> socket.socket:
        """A socket for datagrams to there; raises OSError."""
        return self._socket("ask", host, port)

    def serve(self, host: str, port: int) -> socket.socket:
        """A socket that takes datagrams within the pod; raises OSError."""
        return self._socket("serve", host, port)

    async def run(self, *command: str, env: Mapping[str, str]) -> asyncio.subprocess.Process:
        """Start a program in the pod, in a process group of its own."""
        user = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")
        return await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(self._pid), *user, "--net", "--mount", "--", *command),
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=(self.folder / "out.log").open("ab"),
            stderr=(self.folder / "err.log").open("ab"),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )

    @property
    def log(self) -> str:
        """What programs have said on standard error."""
        return (self.folder / "err.log").read_text(errors="replace")

    def _socket(self, what: str, host: str, port: int, source: str = "") -> socket.socket:
        self._line.send(json.dumps([what, host, port, source]).encode())
        answer, fds, _, _ = socket.recv_fds(self._line, 4096, 1)
        if not fds:
            said = json.loads(answer)
            raise OSError(said["errno"], said["text"])
        return socket.socket(fileno=fds[0])


@contextlib.asynccontextmanager
async def pod(folder: pathlib.Path) -> AsyncIterator[Pod]:
    folder.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Python is reached by a path outside of /etc and /run.
    process = await asyncio.create_subprocess_exec(
        *(*in_a_pod(folder), sys.executable, "-c", _HOLDER, str(theirs.fileno())),
        pass_fds=(theirs.fileno(),),
        preexec_fn=die_with_parent,
        start_new_session=True,
    )
    theirs.close()
    try:
        ours.setblocking(False)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 100), 10), "no namespaces"
        ours.setblocking(True)
        yield Pod(folder, process.pid, ours)
    finally:
        ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
