"""What is resident in every pod stays small."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import ostria.node

RESIDENT = """
import sys
sys.path.append(sys.argv[1])
before = set(sys.modules)
from ostria.node import zygote
print(*sorted(set(sys.modules) - before))
"""
HEAVY = {"asyncio", "logging", "msgspec", "subprocess", "grpc", "aiohttp", "tempfile", "inspect", "dataclasses"}


def test_resident_processes_load_nothing_heavy() -> None:
    source = pathlib.Path(ostria.node.__path__[0]).parents[1]
    command = [sys.executable, "-I", "-S", "-c", RESIDENT, str(source)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert not loaded & HEAVY
    ours = {name for name in loaded if name.startswith("ostria")}
    assert ours == {
        "ostria",
        "ostria.node",
        "ostria.node.container",
        "ostria.node.linux",
        "ostria.node.log_file",
        "ostria.node.messages",
        "ostria.node.pod_init",
        "ostria.node.zygote",
    }
    foreign = {name.partition(".")[0] for name in loaded - ours} - set(sys.stdlib_module_names)
    assert not foreign
