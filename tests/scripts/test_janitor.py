"""A run that is killed leaves nothing: what it has started is ended, and the homes of its meshes are removed."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from doubles import janitor

BOUND = 20.0

RUN = """
import os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from doubles import janitor
janitor.watch()
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[2]], start_new_session=True
)
print(child.pid, flush=True)
time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for has no environment any more."""
    try:
        return bool(pathlib.Path(f"/proc/{pid}/environ").read_bytes())
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + BOUND
    while is_alive(pid):
        assert time.monotonic() < until, f"{pid} goes on"
        time.sleep(0.02)


def test_what_a_killed_run_has_detached_is_ended_and_its_home_removed() -> None:
    home = pathlib.Path(tempfile.mkdtemp(prefix="ostria-", dir="/tmp"))
    # It is no part of this run, which would end it otherwise.
    env = {key: value for key, value in os.environ.items() if key != janitor.MARK}
    tests = str(pathlib.Path(janitor.__file__).parents[1])
    run = subprocess.Popen([sys.executable, "-c", RUN, tests, str(home)], stdout=subprocess.PIPE, env=env)
    assert run.stdout is not None
    child = int(run.stdout.readline())
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env)
    bare = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"{home}/node"], env={})
    try:
        run.kill()
        run.wait()
        wait_until_gone(child)
        assert bare.wait(BOUND) < 0, "what has no environment and names the home is ended too"
        until = time.monotonic() + BOUND
        while home.exists():
            assert time.monotonic() < until, "the home is still there"
            time.sleep(0.02)
        assert other.poll() is None, "what is not of the run is left alone"
    finally:
        for left in (other, bare):
            left.kill()
            left.wait()
        run.stdout.close()
