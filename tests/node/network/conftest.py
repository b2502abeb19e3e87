"""Every test of the network is run twice: as root, and in a user namespace as an ordinary user's node does."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from doubles.node_network import World, running_network


@pytest.fixture
async def world(tmp_path: pathlib.Path, rootless: bool) -> AsyncIterator[World]:
    async with running_network(tmp_path, rootless=rootless) as made:
        yield made
