"""How a process becomes a container's: the last steps before exec, in a child of the pod's first process.

    pod_init --fork--> carrier --fork--> the program

The carrier tells the program's pid, writes its id maps and ends, so that pod_init inherits and reaps the program. The
plan says everything (`roots` makes it); nothing is decided here. The order is: own mounts, the root, pivot, a nested
user namespace, ids and capabilities, exec. The nested user namespace is what keeps a program, even one that is 0
inside, from the pod's packet rules and from marking its packets as the proxy's: these belong to the namespace above.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import termios
from typing import Any

from ostria.node import linux

Plan = dict[str, Any]
"""What `roots.plan_of` yields, as JSON."""

# <asm-generic/ioctls.h>: unlock a terminal, and the number that it has.
_TIOCSPTLCK, _TIOCGPTN = 0x40045431, 0x80045430

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("pts/ptmx", "dev/ptmx"),
)
# A program that is this machine's root by number may write here what counts for all of the machine.
_GUARDED = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_HIDDEN = ("kcore", "keys", "latency_stats", "timer_list", "sched_debug")
_IDENTITY_MAP = "0 0 4294967295\n"


def carry(plan: Plan, report: int, stdio: tuple[int, int, int]) -> None:
    """In a child of pod_init: start the program, report its pid, and end.

    `report` gets one JSON object a line: {"pid"}, then {"error", "code"} if the program could not be started; it
    closes when the program runs.
    """
    ours, theirs = socket.socketpair()
    target = plan.get("join")
    if target is not None:
        # The namespaces are opened while they can be: by the ids and the /proc that pod_init has.
        kinds = ("pid", "mnt", "user") if plan["nested"] else ("pid", "mnt")
        spaces = [os.open(f"/proc/{target}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in kinds]
        linux.setns(spaces[0], linux.CLONE_NEWPID)
    elif plan["own_pids"]:
        spaces = []
        linux.unshare(linux.CLONE_NEWPID)
    else:
        spaces = []

    def become() -> None:
        ours.close()
        _become(plan, report, stdio, theirs, spaces)

    pid = linux.fork(become)
    theirs.close()
    _tell(report, {"pid": pid})
    if plan["nested"] and target is None and ours.recv(1):
        try:
            _write_maps(pid, plan)
            ours.sendall(b"1")
        except OSError as error:
            _tell(report, {"error": f"cannot map users: {error}", "code": 128})


def _tell(report: int, message: Plan) -> None:
    os.write(report, json.dumps(message).encode() + b"\n")


def _write_maps(pid: int, plan: Plan) -> None:
    if plan["identity"]:
        linux.write(f"/proc/{pid}/uid_map", _IDENTITY_MAP)
        linux.write(f"/proc/{pid}/gid_map", _IDENTITY_MAP)
    else:
        linux.write(f"/proc/{pid}/setgroups", "deny")
        linux.write(f"/proc/{pid}/uid_map", f"{plan['uid']} 0 1\n")
        linux.write(f"/proc/{pid}/gid_map", f"{plan['gid']} 0 1\n")


def _become(plan: Plan, report: int, stdio: tuple[int, int, int], sock: socket.socket, spaces: list[int]) -> None:
    try:
        os.setsid()
        if plan.get("join") is not None:
            for fd in spaces[1:]:
                linux.setns(fd)
            os.chdir("/")
        else:
            linux.unshare(linux.CLONE_NEWNS)
            build_root(plan)
            if plan["nested"]:
                linux.unshare(linux.CLONE_NEWUSER)
                sock.sendall(b"?")
                if sock.recv(1) != b"1":
                    os._exit(128)
        if plan["tty"]:
            stdio = (_terminal(plan, stdio[0]),) * 3
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        if plan["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _take_identity(plan)
        try:
            os.chdir(plan["cwd"])
        except FileNotFoundError:
            # A runtime makes a missing working directory; where the root is read-only it cannot.
            os.makedirs(plan["cwd"])
            os.chdir(plan["cwd"])
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) is not None:
                signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.execvpe(plan["argv"][0], plan["argv"], plan["env"])  # noqa: S606 - This is what a container is.
    except OSError as error:
        code = {errno.ENOENT: 127, errno.EACCES: 126}.get(error.errno or 0, 128)
        where = error.filename or (error.args[1] if len(error.args) > 1 else "")
        _tell(
            report, {"error": f"{os.strerror(error.errno or 0)}: {where} (starting {plan['argv'][0]!r})", "code": code}
        )
        os._exit(code)


def _terminal(plan: Plan, caller: int) -> int:
    """A terminal of the container's own, which has a name there; its other end goes to the caller."""
    ours = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(ours, _TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("i", fcntl.ioctl(ours, _TIOCGPTN, struct.pack("i", 0)))
    theirs = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    if plan["identity"]:
        os.fchown(theirs, plan["uid"], plan["gid"])
    with socket.socket(fileno=caller) as sock:
        socket.send_fds(sock, [b"terminal"], [ours])
    os.close(ours)
    return theirs


def _take_identity(plan: Plan) -> None:
    if plan["identity"]:
        # Who opens /dev/stdout by its path must own the pipe behind it, as container runtimes see to.
        for fd in (1, 2):
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, plan["uid"], plan["gid"])
    linux.drop_from_bounding_set(plan["dropped"])
    if plan["identity"]:
        os.setgroups(plan["groups"])
    if plan["identity"] or plan["nested"]:
        os.setresgid(plan["gid"], plan["gid"], plan["gid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    if plan["no_new_privileges"]:
        linux.set_no_new_privileges()


def build_root(plan: Plan) -> None:
    """Compose the root on a tmpfs and make it ours. The mount namespace is the caller's own already."""
    root = plan["root"]
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("root", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755")
    for path, mode in plan["folders"]:
        os.makedirs(root + path, exist_ok=True)
        os.chmod(root + path, mode)
    for path, target in plan["links"]:
        os.symlink(target, root + path)
    for lowers, path in plan["overlays"]:
        _overlay(lowers, _make_target(root, path, "/"))
    for source, path, writable in plan["binds"]:
        linux.bind(source, _make_target(root, path, source), writable=writable)
    _make_devices(root)
    _mount_processes(f"{root}/proc", guarded=plan["guarded"])
    for path in plan["closed"]:
        linux.mount("none", f"{root}{path}", "tmpfs", linux.MS_RDONLY, "mode=0700,size=4k")
    for source, path, writable in plan["volumes"]:
        linux.bind(source, _make_target(root, path, source), writable=writable)
    linux.pivot_root(root)
    if plan["read_only"]:
        flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("none", "/", flags=flags)


def _overlay(lowers: list[str], target: str) -> None:
    # Descriptors instead of paths: a path may hold what the option's syntax means otherwise.
    fds = [os.open(lower, os.O_PATH | os.O_DIRECTORY) for lower in lowers]
    names = ":".join(f"/proc/self/fd/{fd}" for fd in fds)
    linux.mount("overlay", target, "overlay", linux.MS_RDONLY | linux.MS_NOSUID, f"lowerdir={names}")
    for fd in fds:
        os.close(fd)


def _mount_processes(place: str, *, guarded: bool) -> None:
    os.makedirs(place, exist_ok=True)
    linux.mount("proc", place, "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    for name in _GUARDED if guarded else ():
        if os.path.lexists(f"{place}/{name}"):
            linux.bind(f"{place}/{name}", f"{place}/{name}")
    for name in _HIDDEN if guarded else ():
        if os.path.lexists(f"{place}/{name}"):
            linux.bind("/dev/null", f"{place}/{name}")


def _make_devices(root: str) -> None:
    os.makedirs(f"{root}/dev", exist_ok=True)
    linux.mount("dev", f"{root}/dev", "tmpfs", linux.MS_NOSUID, "mode=0755,size=64k")
    for name in _DEVICES:
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        linux.bind(f"/dev/{name}", f"{root}/dev/{name}", writable=True)
    for folder in ("dev/pts", "dev/shm"):
        os.mkdir(f"{root}/{folder}")
    linux.mount("devpts", f"{root}/dev/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, "newinstance,ptmxmode=0666")
    shm = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("shm", f"{root}/dev/shm", "tmpfs", shm, "mode=1777,size=64m")  # noqa: S108 - The container's own.
    for target, path in _LINKS:
        os.symlink(target, f"{root}/{path}")


def _make_target(root: str, path: str, source: str) -> str:
    """Where to mount: `path` within the new root, its own links followed inside, made if it is missing."""
    at = _resolve(root, path)
    if not os.path.lexists(at):
        if stat.S_ISDIR(os.stat(source).st_mode):
            os.makedirs(at, 0o755)
        else:
            os.makedirs(os.path.dirname(at), 0o755, exist_ok=True)
            os.close(os.open(at, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    return at


def _resolve(root: str, path: str) -> str:
    """Follow links as if `root` were the root; what leads above it stays within."""
    rest = [part for part in reversed(path.split("/")) if part]
    done: list[str] = []
    followed = 0
    while rest:
        part = rest.pop()
        if part == ".":
            continue
        if part == "..":
            done = done[:-1]
            continue
        here = "/".join((root, *done, part))
        if os.path.islink(here):
            followed += 1
            if followed > 40:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(here)
            if target.startswith("/"):
                done = []
            rest.extend(name for name in reversed(target.split("/")) if name)
        else:
            done.append(part)
    return "/".join((root, *done))
