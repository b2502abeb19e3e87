"""Every test of running pods is run twice: as root, and in a user namespace as an ordinary user's node does."""

from __future__ import annotations

import os
import pathlib
from collections.abc import AsyncIterator

import pytest

from doubles import netns
from doubles.node_world import RunningNode, World, running_node, settings_of
from ostria.node.ground import Settings


@pytest.fixture(params=["root", "user"])
def rootless(request: pytest.FixtureRequest) -> bool:
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root can make namespaces without a user namespace")
    netns.require(ordinary=request.param == "user")
    return bool(request.param == "user")


@pytest.fixture
def settings(tmp_path: pathlib.Path, rootless: bool) -> Settings:
    return settings_of(tmp_path, rootless=rootless)


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[RunningNode]:
    async with running_node(settings, World()) as node:
        yield node
