"""Processes of a mesh on this machine, found from outside: for tests that kill and stop them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal


def of_mesh(home: pathlib.Path, module: str) -> list[int]:
    """The processes that run a module of ours (`ostria.apps.node`) for the mesh of this folder."""
    return [
        pid
        for pid, folder in _all()
        if module in (words := _text(folder / "cmdline").split("\0")) and any(str(home) in word for word in words)
    ]


def of_pod(name: str, command: str) -> list[int]:
    """The processes of a pod with this word in their command line, in order. A pod's name has no equal in time."""
    return sorted(
        pid
        for pid, folder in _all()
        if command in _text(folder / "cmdline") and f"POD_NAME={name}" in _text(folder / "environ").split("\0")
    )


async def kill(*pids: int) -> None:
    """SIGKILL, and wait until they are gone."""
    assert pids, "there is no process to be killed"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while any(_is_alive(pid) for pid in pids):
            await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    state = _text(pathlib.Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return bool(state) and state[0] != "Z"


def _all() -> list[tuple[int, pathlib.Path]]:
    return [(int(each.name), each) for each in pathlib.Path("/proc").iterdir() if each.name.isdigit()]


def _text(path: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes().decode(errors="replace")
    return ""
