"""What a machine has, as tables that can be compared: what a mesh must leave as it found it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections import Counter
from typing import NamedTuple


class Tables(NamedTuple):
    """Processes of ours by command line, namespaces by kind, mounts, cgroups, sockets, files, the host's network."""

    processes: Counter[str]
    namespaces: Counter[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    sockets: frozenset[str]
    files: frozenset[str]
    network: frozenset[str]

    def differences(self, later: Tables) -> dict[str, tuple[object, object]]:
        """By table: what has gone, and what has come."""
        found: dict[str, tuple[object, object]] = {}
        for name, before, after in zip(self._fields, self, later, strict=True):
            if before != after:
                found[name] = (before - after, after - before)
        return found


def tables(*folders: pathlib.Path, marker: str) -> Tables:
    """The tables now: processes whose command line or environment holds `marker`, files in `folders`."""
    ours: Counter[str] = Counter()
    spaces: Counter[str] = Counter()
    seen: set[str] = set()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            if marker.encode() in command or marker.encode() in (entry / "environ").read_bytes():
                ours[command.replace(b"\0", b" ").decode(errors="replace").strip()] += 1
        except OSError:
            continue
        for kind in ("mnt", "net", "pid", "user", "uts", "ipc"):
            try:
                name = os.readlink(entry / "ns" / kind)
            except OSError:
                continue
            if name not in seen:
                seen.add(name)
                spaces[kind] += 1
    mounts = frozenset(line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
    groups = frozenset(str(each) for each in pathlib.Path("/sys/fs/cgroup").rglob("*ostria*"))
    files = frozenset(str(each) for folder in folders for each in folder.rglob("*"))
    return Tables(ours, spaces, mounts, groups, _sockets(marker), files, network())


def network() -> frozenset[str]:
    """The host's links, addresses, routes and packet rules, as its own tools print them."""
    found: set[str] = set()
    for command in (
        ["ip", "-o", "address"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "-6", "route", "show", "table", "all"],
        ["ip", "rule"],
        ["nft", "list", "ruleset"],
    ):
        if shutil.which(command[0]):
            output = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout
            found |= {f"{command[0]}: {line.strip()}" for line in output.splitlines()}
    for name in ("route", "ipv6_route", "if_inet6", "dev_mcast"):
        with pathlib.Path(f"/proc/net/{name}").open() as table:
            found |= {f"{name}: {' '.join(line.split()[:4])}" for line in table}
    return frozenset(found)


def _sockets(marker: str) -> frozenset[str]:
    """Unix sockets with a path of ours, and the host's listening TCP ports."""
    found: set[str] = set()
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        path = line.split()[7:]
        if path and (marker in path[0] or "ostria" in path[0]):
            found.add(path[0])
    for name in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(f"{name} {fields[1]}")
    return frozenset(found)
