"""The node's namespaces: made or found again, and entered for the time of one function.

    run folder -> zygote (started unless it lives) -> NodeNamespaces, the open descriptors of them

As root the user namespace is the caller's own; as an ordinary user it is a new one that maps that user to 0, and all
pods live below it. The zygote holds them, so that they outlive the node; the host's own namespaces are never changed.
"""

from __future__ import annotations

import errno
import io
import os
import pathlib
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ostria.node import linux, messages, zygote
from ostria.node.messages import Message

P = ParamSpec("P")
T = TypeVar("T")

START_BOUND = 20.0
"""Seconds within which the zygote must listen."""


class Unavailable(RuntimeError):
    """This machine does not let us make the namespaces; the message says which step was refused."""


class NodeNamespaces(NamedTuple):
    """Open descriptors of the node's namespaces, and the zygote that holds them. Close with `close`."""

    folder: pathlib.Path
    rootless: bool
    pid: int
    user_fd: int
    net_fd: int
    mount_fd: int
    pid_fd: int

    @classmethod
    def open(cls, folder: pathlib.Path, *, rootless: bool) -> NodeNamespaces:
        """Find the namespaces that are held from `folder` (0700, made if missing), or make new ones.

        Raises Unavailable if the machine refuses.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return cls._ask(folder, rootless=rootless)
        except OSError:
            _start(folder, rootless=rootless)
            return cls._ask(folder, rootless=rootless)

    @classmethod
    def _ask(cls, folder: pathlib.Path, *, rootless: bool) -> NodeNamespaces:
        with messages.connect(str(folder), zygote.SOCKET) as sock:
            _, fds = messages.request(sock, {"op": "namespaces"})
            pid = messages.peer_pid(sock)
        user, net, mount, pid_ns = fds
        return cls(folder, rootless, pid, user, net, mount, pid_ns)

    def request(self, message: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """Ask the zygote. Raises messages.Refused, or OSError if it is gone."""
        with messages.connect(str(self.folder), zygote.SOCKET) as sock:
            return messages.request(sock, message, fds)

    def socket(self, family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A new socket that belongs to the node's network namespace, for a process outside of it."""
        _, fds = self.request({"op": "sockets", "arguments": [[family, kind | socket.SOCK_CLOEXEC, protocol]]})
        return socket.socket(fileno=fds[0])

    def close(self) -> None:
        """Close the descriptors; the namespaces go on."""
        for fd in (self.user_fd, self.net_fd, self.mount_fd, self.pid_fd):
            os.close(fd)

    def end(self) -> None:
        """End the zygote, and with it every process of the node; return when all are gone."""
        end(self.folder)


def end(folder: pathlib.Path) -> None:
    """End the namespaces held from `folder`, if there are any, and remove the zygote's socket and log."""
    try:
        with messages.connect(str(folder), zygote.SOCKET) as sock:
            pidfd = _pidfd_of_peer(sock)
    except OSError:
        pidfd = None
    if pidfd is not None:
        # The kernel ends a PID namespace before its first process counts as ended, so this waits for all of it.
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], START_BOUND)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    for name in (zygote.SOCKET, "zygote.log"):
        (folder / name).unlink(missing_ok=True)


def _pidfd_of_peer(sock: socket.socket) -> int | None:
    try:
        return os.pidfd_open(messages.peer_pid(sock))
    except ProcessLookupError:
        return None


def _start(folder: pathlib.Path, *, rootless: bool) -> None:
    """Start the zygote without our site packages, environment or descriptors: it must be small and last."""
    source = str(pathlib.Path(__file__).parents[2])
    code = f"import sys; sys.path.append({source!r}); from ostria.node import zygote; zygote.run(sys.argv[1:])"
    log = folder / "zygote.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - Our own interpreter and module.
            [sys.executable, "-I", "-S", "-c", code, str(folder), "user" if rootless else "root"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )
    try:
        code_ = process.wait(START_BOUND)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Unavailable("the zygote did not start in time") from None
    if code_ != 0:
        lines = log.read_text().strip().splitlines()
        raise Unavailable(lines[-1] if lines else f"the zygote ended with {code_}")


def run_in(namespaces: NodeNamespaces, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in the node's user and network namespace, in a forked child; return or raise what it does.

    Its result must be picklable; sockets in it arrive as sockets. It blocks for some milliseconds. The child has no
    threads but the caller's: the function must need no other.
    """
    return run_at(namespaces, namespaces.net_fd, function, *args, **kwargs)


def run_at(
    namespaces: NodeNamespaces, net_fd: int, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """As `run_in`, in another network namespace of the node, such as a pod's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:

        def child() -> None:
            ours.close()
            try:
                if namespaces.rootless and not _same_namespace(namespaces.user_fd):
                    linux.setns(namespaces.user_fd, linux.CLONE_NEWUSER)
                linux.setns(net_fd, linux.CLONE_NEWNET)
                answer = (True, function(*args, **kwargs))
            except Exception as error:
                answer = (False, error)  # type: ignore[assignment]
            _send_pickle(theirs, answer)

        pid = linux.fork(child)
        theirs.close()
        try:
            good, value = _receive_pickle(ours)
        finally:
            os.waitpid(pid, 0)
    if good:
        result: T = value
        return result
    raise value


def _same_namespace(fd: int) -> bool:
    return os.fstat(fd).st_ino == os.stat("/proc/self/ns/user").st_ino


def _send_pickle(sock: socket.socket, value: Any) -> None:
    sent: list[socket.socket] = []

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> int | None:
            if isinstance(obj, socket.socket):
                sent.append(obj)
                return len(sent) - 1
            return None

    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    data = buffer.getvalue()
    header = struct.pack("=Q", len(data))
    socket.send_fds(sock, [header], [made.fileno() for made in sent])
    sock.sendall(data)


def _receive_pickle(sock: socket.socket) -> tuple[bool, Any]:
    header, fds, _, _ = socket.recv_fds(sock, 8, 250)
    if len(header) < 8:
        raise OSError(errno.ECHILD, "the child ended without an answer")
    (size,) = struct.unpack("=Q", header)
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(min(size - len(data), 1 << 20))
        if not chunk:
            raise OSError(errno.ECHILD, "the child ended within its answer")
        data += chunk
    received = [socket.socket(fileno=fd) for fd in fds]

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: int) -> socket.socket:
            return received[pid]

    answer: tuple[bool, Any] = Unpickler(io.BytesIO(bytes(data))).load()
    return answer
