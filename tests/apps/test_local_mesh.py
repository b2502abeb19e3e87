"""A mesh's processes as `ostria up` and `down` have them: real supervisor, API server and node."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import socket
import tempfile
from collections.abc import Iterator

import pytest

from doubles import netns
from ostria.apps import local_mesh, state
from ostria.apps.local_mesh import Wanted
from ostria.sources.access import from_kubeconfig
from ostria.sources.api import Api

BOUND = 60.0
ENV = {**os.environ, "OSTRIA_LOG": ""}


@pytest.fixture
def mesh() -> Iterator[state.Mesh]:
    netns.require(ordinary=os.geteuid() != 0)
    # Sockets' paths are short.
    with tempfile.TemporaryDirectory(prefix="ostria-", dir="/tmp") as home:
        made = state.Mesh("m", pathlib.Path(home) / "home" / "m")
        yield made
        if made.folder.exists():
            local_mesh.end(made)


def of_mesh(mesh: state.Mesh) -> list[str]:
    """The command lines of all processes that name the mesh's folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(mesh.folder) in words:
            found.append(words)
    return found


async def namespaces(mesh: state.Mesh) -> bytes:
    async with Api(from_kubeconfig((mesh.kubeconfig,), {})) as api:
        return await api.get("/api/v1/namespaces")


async def test_a_mesh_that_has_ended_leaves_no_process_and_its_state_begins_again(mesh: state.Mesh) -> None:
    record, _ = local_mesh.prepare(mesh, Wanted())
    async with asyncio.timeout(BOUND):
        await local_mesh.start(mesh, ENV)
        body = b'{"metadata": {"name": "kept"}}'
        async with Api(from_kubeconfig((mesh.kubeconfig,), {})) as api:
            await api.send("POST", "/api/v1/namespaces", body)
        assert local_mesh.end(mesh)
        assert of_mesh(mesh) == []
        again, told = local_mesh.prepare(mesh, Wanted())
        assert (again.ports, told) == (record.ports, [])
        await local_mesh.start(mesh, ENV)
        assert b'"kept"' in await namespaces(mesh)


async def test_a_mesh_whose_supervisor_was_killed_goes_on_and_is_taken_over(mesh: state.Mesh) -> None:
    local_mesh.prepare(mesh, Wanted())
    async with asyncio.timeout(BOUND):
        await local_mesh.start(mesh, ENV)
        supervisor = state.holder(mesh)
        assert supervisor
        os.kill(supervisor, signal.SIGKILL)
        while state.holder(mesh) is not None:
            await asyncio.sleep(0.01)
        assert b'"default"' in await namespaces(mesh)
        await local_mesh.start(mesh, ENV)
        assert state.holder(mesh) not in (None, supervisor)
        assert sum("ostria.apps.apiserver" in words for words in of_mesh(mesh)) == 1


async def test_what_a_killed_supervisor_has_left_is_ended_with_the_mesh(mesh: state.Mesh) -> None:
    local_mesh.prepare(mesh, Wanted())
    async with asyncio.timeout(BOUND):
        await local_mesh.start(mesh, ENV)
        os.kill(state.holder(mesh) or 0, signal.SIGKILL)
        while state.holder(mesh) is not None:
            await asyncio.sleep(0.01)
        assert local_mesh.end(mesh)
    assert of_mesh(mesh) == []


def test_what_is_removed_leaves_no_folder_that_was_not_there_before(mesh: state.Mesh) -> None:
    home = mesh.folder.parent
    local_mesh.prepare(mesh, Wanted())
    assert mesh.record.is_file()
    local_mesh.remove(mesh)
    assert not home.exists()
    home.mkdir()
    local_mesh.prepare(mesh, Wanted())
    local_mesh.remove(mesh)
    assert home.is_dir(), "somebody else has made it"


def test_a_port_that_is_taken_is_told_and_another_is_remembered(mesh: state.Mesh) -> None:
    first, _ = local_mesh.prepare(mesh, Wanted())
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.ports["api"]))
        other.listen()
        second, told = local_mesh.prepare(mesh, Wanted())
        assert second.ports["api"] != first.ports["api"]
        assert told == [f"port {first.ports['api']} is taken: the API is on {second.ports['api']} now"]
        assert local_mesh.prepare(mesh, Wanted())[0].ports == second.ports


def test_strict_ports_take_no_other(mesh: state.Mesh) -> None:
    first, _ = local_mesh.prepare(mesh, Wanted())
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.ports["api"]))
        other.listen()
        with pytest.raises(state.StateError, match="is taken"):
            local_mesh.prepare(mesh, Wanted(strict_ports=True))


def test_the_ports_that_the_gateway_has_got_are_wished_for_the_next_time(mesh: state.Mesh) -> None:
    local_mesh.prepare(mesh, Wanted())
    told = local_mesh.remember_gateway(mesh, local_mesh.Opened(8081, 8443))
    assert told == ["port 8080 is taken: the gateway is on 8081"]
    assert local_mesh.prepare(mesh, Wanted())[0].ports["gateway"] == 8081
