"""What a container sees as its file system: a plan for `container.build_root`, made of read-only binds of this machine.

    what the machine has, where volumes go, who the program is -> plan, and the skeleton that must stand on disk for it

The root is an empty tmpfs: nobody's home is in it. System folders are bound; /etc is an overlay with the pod's own
files on top, and so is any system folder in which a volume wants a place that the machine lacks. The interpreter's and
our own installation appear where they are, so that the commands of image maps run.
"""

from __future__ import annotations

import os
import pathlib
import stat
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ostria.node.security import Identity

_SYSTEM = ("usr", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt")
_FOLDERS = (
    ("/tmp", 0o1777),  # noqa: S108 - The container's own.
    ("/run", 0o755),
    ("/var/tmp", 0o1777),  # noqa: S108
    ("/var/log", 0o755),
    ("/var/lib", 0o755),
    ("/var/cache", 0o755),
    ("/home", 0o755),
    ("/root", 0o755),
    ("/srv", 0o755),
    ("/mnt", 0o755),
)
_PACKAGE = pathlib.Path(__file__).parents[1]
DEFAULT_PATH = ":".join(
    (
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        # Only where the machine itself has none: our small curl, and the Python that we run in.
        str(_PACKAGE / "samples" / "bin"),
        os.path.dirname(sys.executable),
    )
)


class Machine(NamedTuple):
    """What of this machine is shown to every container. `links` are (path, target) at the top, as /bin -> usr/bin.

    `private_files` and `private_folders` are those of /etc that only root may read; root's containers see them empty.
    """

    folders: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    installation: tuple[str, ...]
    capabilities: int = 41
    private_files: tuple[str, ...] = ()
    private_folders: tuple[str, ...] = ()


def this_machine() -> Machine:
    """Look at the machine and at where we are installed."""
    folders, links = [], []
    for name in _SYSTEM:
        path = f"/{name}"
        if os.path.islink(path):
            links.append((path, os.readlink(path)))
        elif os.path.isdir(path):
            folders.append(path)
    prefixes = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix, _PACKAGE)}
    # A prefix is shown where it is, and also under the name that it is called by.
    prefixes |= {sys.prefix, sys.base_prefix}
    wanted = [path for path in sorted(prefixes) if not _below(path, folders)]
    outermost = [path for path in wanted if not _below(path, [other for other in wanted if other != path])]
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    files, closed = _private("/etc") if os.geteuid() == 0 else ((), ())
    return Machine(tuple(folders), tuple(links), tuple(outermost), last + 1, files, closed)


def _private(top: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files and folders below one that others than their owner cannot read: password hashes, hosts' keys."""
    files, closed = [], []
    for folder, inner, names in os.walk(top):
        for name in list(inner):
            path = os.path.join(folder, name)
            if not os.path.islink(path) and not os.stat(path).st_mode & stat.S_IXOTH:
                closed.append(path)
                inner.remove(name)
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and not os.stat(path).st_mode & stat.S_IROTH:
                files.append(path)
    return tuple(files), tuple(closed)


class Mount(NamedTuple):
    """A file or folder of this machine at a place in the container."""

    source: str
    path: str
    writable: bool


class Program(NamedTuple):
    """What is started in the root."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    tty: bool = False


class Skeleton(NamedTuple):
    """Folders and files that lie over a system folder: `folders` and `files` are paths as the container sees them."""

    folders: tuple[str, ...]
    files: tuple[str, ...]


def plan_of(
    machine: Machine,
    identity: Identity,
    program: Program,
    mounts: Sequence[Mount],
    *,
    root: str,
    skeleton: str,
    is_folder: Callable[[str], bool | None],
    own_pids: bool,
) -> tuple[dict[str, Any], Skeleton]:
    """The plan, and what must stand below `skeleton` before it is used.

    `root` is an empty folder to mount on. `is_folder` tells of a path of this machine: None if it does not exist.
    """
    placed = [mount._replace(path=_canonical(machine, mount.path)) for mount in mounts]
    missing: list[Mount] = []
    for mount in placed:
        if _below(mount.path, machine.folders) and is_folder(mount.path) is None:
            missing.append(mount)
    # A volume may lie over our installation (a pod's own /tmp, and a checkout below /tmp), which is shown within it.
    covered = [path for path in machine.installation if any(path.startswith(f"{each.path}/") for each in placed)]
    placed += [Mount(path, path, writable=False) for path in covered]
    layered = {"/etc", *(folder for mount in missing for folder in machine.folders if _below(mount.path, [folder]))}
    made = Skeleton(
        tuple(mount.path for mount in missing if is_folder(mount.source)),
        (*(mount.path for mount in missing if not is_folder(mount.source)), *machine.private_files),
    )
    plan = {
        "root": root,
        "folders": _FOLDERS,
        "links": machine.links,
        "overlays": [((skeleton + folder, folder), folder) for folder in machine.folders if folder in layered],
        "binds": [
            *((folder, folder, False) for folder in machine.folders if folder not in layered),
            *((path, path, False) for path in machine.installation if path not in covered),
        ],
        "closed": machine.private_folders,
        "guarded": not identity.privileged,
        # An outer mount must not hide an inner one.
        "volumes": sorted(placed, key=lambda mount: mount.path.count("/")),
        "own_pids": own_pids,
        "nested": identity.nested,
        "identity": identity.identity,
        "uid": identity.uid,
        "gid": identity.gid,
        "groups": identity.groups,
        "dropped": [number for number in identity.dropped if number < machine.capabilities],
        "no_new_privileges": identity.no_new_privileges,
        "read_only": identity.read_only,
        "argv": program.argv,
        "env": program.env,
        "cwd": program.cwd,
        "tty": program.tty,
    }
    return plan, made


def _canonical(machine: Machine, path: str) -> str:
    path = os.path.normpath("/" + path.lstrip("/"))
    for link, target in machine.links:
        if path == link or path.startswith(f"{link}/"):
            return os.path.normpath(os.path.join("/", target, path[len(link) + 1 :]))
    return path


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
