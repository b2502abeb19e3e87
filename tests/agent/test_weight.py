"""What stays loaded beside every workload is little: each of these modules would cost a megabyte or more."""

from __future__ import annotations

import subprocess
import sys

DEAR = {
    *("asyncio", "ssl", "http", "email", "logging", "subprocess", "pathlib", "random", "hashlib", "urllib", "argparse"),
    *("importlib.metadata", "ctypes", "google", "grpc", "envoy", "cryptography", "msgspec", "yaml"),
    # Of names most agents are asked none.
    *("ostria.agent.dns", "ostria.agent.names"),
}


def test_the_resident_agent_loads_nothing_dear():
    script = "import sys; import ostria.agent.main, ostria.agent.proxy; print(*sys.modules)"
    # Without `site`, which loads what other packages of the environment ask for.
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {script}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "ostria.agent.proxy" in loaded
    assert DEAR & set(loaded) == set()
