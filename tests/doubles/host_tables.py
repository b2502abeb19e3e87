"""What of a machine belongs to one mesh, and what is left of it afterwards; and the host's own network.

Other meshes may come and go meanwhile, as tests run side by side: so what is compared is what belongs to this one. That
is found while it runs: every process that names its folder, their descendants, and what these hold.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import NamedTuple

PROC = pathlib.Path("/proc")
KINDS = ("mnt", "net", "pid", "user", "uts", "ipc", "cgroup")


class Belongings(NamedTuple):
    """`processes` are process id and start time, `namespaces` and `sockets` their inodes as the kernel names them.

    `when` they were looked at, in ticks since the machine began.
    """

    processes: frozenset[tuple[int, str]]
    namespaces: frozenset[str]
    sockets: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    when: int

    def left(self, home: pathlib.Path) -> dict[str, object]:
        """What of it still exists, and what else names the mesh's folder now; empty if all has gone."""
        now = _processes()
        listed = frozenset(now.values())
        # The kernel gives a namespace's number to the next one: what has come since may have it.
        old = [pid for pid, (_, began) in now.items() if int(began) <= self.when]
        spaces = frozenset(name for pid in old for name in _namespaces(pid)) | _bound_namespaces()
        found = {
            "processes": (self.processes & listed) | {(pid, _command(pid)) for pid in named(home)},
            "namespaces": self.namespaces & spaces,
            "sockets": self.sockets & _listening(),
            "mounts": _mounts(home),
            "cgroups": frozenset(each for each in self.cgroups if pathlib.Path(each).exists()),
        }
        return {name: value for name, value in found.items() if value}


def belongings(home: pathlib.Path) -> Belongings:
    """What belongs to the mesh in this folder, which runs."""
    now = _processes()
    parents = {pid: _stat(pid)[1] for pid in now}
    ours = set(named(home))
    while more := {pid for pid, parent in parents.items() if str(parent).isdigit() and int(parent) in ours} - ours:
        ours |= more
    spaces = frozenset(name for pid in ours for name in _namespaces(pid)) - frozenset(_namespaces(os.getpid()))
    inodes = {name for pid in ours for name in _sockets(pid)}
    groups = frozenset(name for pid in ours for name in _groups(pid)) - frozenset(_groups(os.getpid()))
    # Groups above it that the mesh has not made hold others too.
    groups = frozenset(name for name in groups if "ostria" in name)
    return Belongings(
        frozenset((pid, now[pid][1]) for pid in ours if pid in now),
        spaces,
        frozenset(inodes) & _listening(),
        _mounts(home),
        groups,
        max(int(began) for _, began in now.values()),
    )


def network() -> frozenset[str]:
    """The host's links, addresses, routes and packet rules, as its own tools print them."""
    found: set[str] = set()
    for command in (
        ["ip", "-o", "address"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
        ["ip", "rule"],
        ["nft", "list", "ruleset"],
        ["iptables-save"],
    ):
        if shutil.which(command[0]):
            output = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
            # Comments tell the time.
            found |= {f"{command[0]}: {line.strip()}" for line in output.splitlines() if line[:1] != "#"}
    for name in ("route", "ipv6_route", "if_inet6", "dev_mcast"):
        with pathlib.Path(f"/proc/net/{name}").open() as table:
            found |= {f"{name}: {' '.join(line.split()[:4])}" for line in table}
    return frozenset(found)


def files(*folders: pathlib.Path) -> frozenset[str]:
    """Every file and folder below these."""
    return frozenset(str(each) for folder in folders for each in folder.rglob("*"))


def _processes() -> dict[int, tuple[int, str]]:
    found = {}
    for entry in PROC.iterdir():
        # A process that has ended and waits for its parent holds nothing any more.
        if entry.name.isdigit() and (stat := _stat(int(entry.name)))[0] != "Z":
            found[int(entry.name)] = (int(entry.name), stat[19])
    return found


def _stat(pid: int) -> list[str]:
    """The fields after the name: state, parent, ...; 19 is when it began."""
    return _text(PROC / str(pid) / "stat").rpartition(")")[2].split() or ["Z", "0", *["0"] * 18]


def named(home: pathlib.Path) -> list[int]:
    """The processes whose command or environment names the folder, but for our own."""
    found = []
    for pid in _processes():
        words = _text(PROC / str(pid) / "cmdline") + _text(PROC / str(pid) / "environ")
        if pid != os.getpid() and f"{home}" in words:
            found.append(pid)
    return found


def _command(pid: int) -> str:
    return _text(PROC / str(pid) / "cmdline").replace("\0", " ").strip()


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _namespaces(pid: int) -> list[str]:
    found = []
    for kind in KINDS:
        try:
            found.append(os.readlink(PROC / str(pid) / "ns" / kind))
        except OSError:
            continue
    return found


def _bound_namespaces() -> frozenset[str]:
    """Namespaces that a mount keeps, without a process in them."""
    lines = _text(PROC / "self" / "mountinfo").splitlines()
    return frozenset(line.split()[3] for line in lines if " - nsfs " in line)


def _mounts(home: pathlib.Path) -> frozenset[str]:
    lines = _text(PROC / "self" / "mountinfo").splitlines()
    return frozenset(line.split()[4] for line in lines if str(home) in line)


def _sockets(pid: int) -> list[str]:
    try:
        entries = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return []
    found = []
    for entry in entries:
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append(target[8:-1])
    return found


def _listening() -> frozenset[str]:
    """The inodes of the host's TCP sockets that listen, and of its Unix sockets."""
    found = {line.split()[6] for line in _text(PROC / "net" / "unix").splitlines()[1:]}
    for name in ("tcp", "tcp6"):
        for line in _text(PROC / "net" / name).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(fields[9])
    return frozenset(found)


def _groups(pid: int) -> list[str]:
    return [f"/sys/fs/cgroup{line.partition('::')[2]}" for line in _text(PROC / str(pid) / "cgroup").splitlines()]
