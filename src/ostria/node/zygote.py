"""The process that holds the node's namespaces and from which pods are forked, so that they share its pages.

    node --starts once--> zygote (pid 1 of the node's PID namespace) --fork--> pod_init, one a pod --fork--> containers

It outlives the node and does nothing on its own. It is the first process of a PID namespace: whatever way it ends, the
kernel ends every pod with it, which is all that taking a node down needs. It must never know what a pod is made of.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys

from ostria.node import linux, messages, pod_init
from ostria.node.messages import Message

SOCKET = "zygote.sock"


def main(argv: list[str]) -> int:
    """Serve from a folder: `zygote FOLDER root|user`. Forks: the caller's child ends once the zygote listens."""
    folder, mode = argv
    uid, gid = os.geteuid(), os.getegid()
    if mode == "user":
        linux.unshare(linux.CLONE_NEWUSER)
        linux.map_single_user(0, uid, 0, gid)
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWPID)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    ready, tell = os.pipe()
    if os.fork():
        # The child tells that it listens; if it ends before, the pipe closes without a word.
        os.close(tell)
        return 0 if os.read(ready, 1) else 70
    os.close(ready)
    # SO_PEERCRED names the process that calls listen: it has to be the one that stays.
    listening = messages.listen(folder, SOCKET)
    linux.set_process_name("ostria-zygote")
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    gc.disable()
    gc.collect()
    gc.freeze()
    os.write(tell, b"1")
    os.close(tell)
    _serve(listening)
    return 0


def _serve(listening: socket.socket) -> None:
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll(1000):
            if fd == listening.fileno():
                client, _ = listening.accept()
                clients[client.fileno()] = client
                poll.register(client, select.POLLIN)
                continue
            client = clients[fd]
            try:
                message, fds = messages.receive(client)
            except OSError:
                poll.unregister(fd)
                clients.pop(fd).close()
                continue
            _answer(client, message, fds, [listening, *clients.values()])
        _reap()


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _answer(client: socket.socket, message: Message, fds: list[int], ours: list[socket.socket]) -> None:
    opened: list[int] = []
    try:
        match message["op"]:
            case "namespaces":
                opened = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("user", "net", "mnt", "pid")]
            case "sockets":
                opened = _open_sockets(message["arguments"], fds)
            case "pod":
                linux.fork(lambda: _become_pod(message["folder"], message["settings"], ours))
            case unknown:
                raise ValueError(f"no such operation: {unknown}")
        messages.send(client, {"ok": True}, opened)
    except Exception as error:
        messages.send(client, {"error": f"{type(error).__name__}: {error}"})
    finally:
        for fd in (*opened, *fds):
            os.close(fd)


def _open_sockets(arguments: list[list[int]], namespace: list[int]) -> list[int]:
    """Sockets of the node's network namespace, or of the one that has come along (a pod's)."""
    ours = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC) if namespace else None
    try:
        if namespace:
            linux.setns(namespace[0], linux.CLONE_NEWNET)
        return [socket.socket(*each).detach() for each in arguments]
    finally:
        if ours is not None:
            linux.setns(ours, linux.CLONE_NEWNET)
            os.close(ours)


def _become_pod(folder: str, settings: Message, ours: list[socket.socket]) -> None:
    """In a child: make the pod's namespaces and fork its first process."""
    for sock in ours:
        sock.close()
    log = os.open(f"{folder}/init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 2)
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWPID)
    linux.fork(lambda: pod_init.main(folder, settings))


def run(argv: list[str]) -> None:
    """`main` as a process: an error is one line on stderr, and the exit code says so."""
    try:
        code = main(argv)
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = 70
    sys.stderr.flush()
    os._exit(code)
