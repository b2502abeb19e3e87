"""What stays resident in a mesh loads nothing dear that it does not need: each of these is a megabyte or more."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROTOBUF = frozenset({"google.protobuf", "grpc", "envoy"})
NEVER = {
    "supervisor": PROTOBUF | {"asyncio", "aiohttp", "cryptography", "msgspec", "yaml"},
    "node": PROTOBUF | {"cryptography", "watchfiles"},
    "follow": PROTOBUF | {"cryptography"},
    "apiserver": PROTOBUF | {"watchfiles"},
    "istiod": frozenset({"watchfiles"}),
}


@pytest.mark.parametrize("name", NEVER)
def test_a_process_of_the_mesh_loads_nothing_dear_that_it_does_not_need(name: str) -> None:
    script = f"import sys; sys.path[:] = {sys.path!r}; import ostria.apps.{name}; print(*sys.modules)"
    # Without `site`, which loads what other packages of the environment ask for.
    ran = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert f"ostria.apps.{name}" in loaded
    assert loaded & NEVER[name] == set()
