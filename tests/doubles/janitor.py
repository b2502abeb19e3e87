"""What a test run has started is ended with it, also if the run itself is killed.

    pytest (the run) --a pipe--> janitor: when the pipe closes, it ends everything that carries the run's mark

Every process of a run inherits the mark in its environment, however far it detaches itself, or names the home of a
mesh; pods end with the process that holds their namespaces. A signal to the run does not reach the janitor.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid

MARK = "PYTEST_RUN_MARK"
_BOUND = 20.0
_HOME = re.compile(r"/tmp/ostria-[\w-]+")


def watch() -> None:
    """Mark this process and all that it starts, and have what is left of them ended when it has ended."""
    mark = uuid.uuid4().hex
    reading, writing = os.pipe()
    subprocess.Popen(  # The pipe's other end is ours for as long as we live.
        [sys.executable, __file__, mark, str(os.getpid())],
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    os.close(reading)
    os.set_inheritable(writing, False)
    os.environ[MARK] = mark


def sweep(mark: str, spared: int) -> set[str]:
    """End what carries the mark; the homes that it named. `spared` is the run itself, which may still be closing."""
    wanted, homes = f"{MARK}={mark}".encode(), set[str]()
    until = time.monotonic() + _BOUND
    while time.monotonic() < until:
        everything = [(pid, text) for pid, text in _everything() if pid not in (spared, os.getpid())]
        for _, text in everything:
            if wanted in text:
                homes.update(_HOME.findall(text.decode(errors="replace")))
        # What holds the pods has no environment: it is known by the home in its command line.
        ours = [wanted, *(home.encode() for home in homes)]
        found = [pid for pid, text in everything if any(each in text for each in ours)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break
        time.sleep(0.05)
    return homes


def _everything() -> list[tuple[int, bytes]]:
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((int(entry.name), (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()))
    return found


if __name__ == "__main__":
    sys.stdin.read()
    for home in sweep(sys.argv[1], int(sys.argv[2])):
        shutil.rmtree(home, ignore_errors=True)
