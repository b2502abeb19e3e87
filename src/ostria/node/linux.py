"""The system calls that namespaces need and that Python's standard library does not have (until 3.12, or at all).

Every function is one call: it raises OSError with the path that it was about. Nothing here decides anything, and it is
resident in every pod: it imports the standard library's small modules only.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_RDONLY = 0x1
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def unshare(flags: int) -> None:
    """Put the caller (for PID namespaces: its children) into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int = 0) -> None:
    """Move the calling thread into the namespace of a descriptor; `kind` is a CLONE_ flag or 0 for any."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    _check(_libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()), f"mount {kind} {target}")


def bind(source: str, target: str, *, writable: bool = False) -> None:
    """Show a file or folder, with what is mounted below it, in another place."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if not writable:
        attributes = _MountAttr(attr_set=MS_RDONLY)
        size = ctypes.sizeof(attributes)
        path = target.encode()
        result = _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path, _AT_RECURSIVE, ctypes.byref(attributes), size)
        _check(result, f"make {target} read-only")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(root: str) -> None:
    """Make a mount point the root of this mount namespace, and drop the old root."""
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), f"pivot_root {root}")
    umount(".")
    os.chdir("/")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    text = name.encode()
    _check(_libc.sethostname(text, len(text)), "sethostname")


def set_process_name(name: str) -> None:
    """What `ps` calls this thread; 15 bytes count."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def die_with_parent() -> None:
    """Be killed when the thread that has started this process ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG")


def set_no_new_privileges() -> None:
    """Let no exec gain anything."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def drop_from_bounding_set(capabilities: list[int]) -> None:
    """Make capabilities unreachable for this process and all that it starts."""
    for capability in capabilities:
        _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), f"drop capability {capability}")


def write(path: str, text: str) -> None:
    """Write to a file of /proc in one call, as such files want it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def map_single_user(inside_uid: int, outside_uid: int, inside_gid: int, outside_gid: int) -> None:
    """Say who the caller is inside the user namespace that it has just made: all that an ordinary user may map."""
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{inside_uid} {outside_uid} 1\n")
    write("/proc/self/gid_map", f"{inside_gid} {outside_gid} 1\n")


def fork(function: Callable[[], object]) -> int:
    """Start a child that runs the function and ends with 0, or with 70 if it raises; it never returns here."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        function()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 70
    except BaseException:
        os.write(2, _traceback().encode())
    finally:
        os._exit(code)


def _traceback() -> str:
    import traceback

    return traceback.format_exc()
