"""Where a mesh keeps what it has, who holds it, and what an unknown state comes to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ostria.apps import state
from ostria.apps.state import Folders, Record, StateError


@pytest.mark.parametrize(
    ("env", "uid", "expected"),
    [
        ({"HOME": "/home/a"}, 1000, ("/home/a/.local/state/ostria", "/home/a/.config/ostria")),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/s", "XDG_CONFIG_HOME": "/c"}, 1000, ("/s/ostria", "/c/ostria")),
        (
            {"HOME": "/home/a", "XDG_STATE_HOME": "relative"},
            1000,
            ("/home/a/.local/state/ostria", "/home/a/.config/ostria"),
        ),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/home/a/s", "SUDO_USER": "a"}, 0, ("/var/lib/ostria", "/etc/ostria")),
        ({"OSTRIA_HOME": "/o"}, 0, ("/o", "/o")),
        ({"OSTRIA_HOME": "/o", "HOME": "/home/a"}, 1000, ("/o", "/o")),
    ],
)
def test_folders_are_those_that_the_contract_names(env: dict[str, str], uid: int, expected: tuple[str, str]) -> None:
    assert state.folders(env, uid) == Folders(*map(Path, expected))


def test_a_mesh_remembers(tmp_path: Path) -> None:
    mesh = state.mesh(tmp_path / "home", "dev")
    assert state.read(mesh) is None
    record = Record("dev", str(mesh.folder / "run"), {"gateway": 8081, "api": 41233}, {"profile": "demo"})
    state.write(mesh, record)
    assert state.read(mesh) == record
    assert state.meshes(tmp_path / "home") == (mesh,)
    assert mesh.record.stat().st_mode & 0o777 == 0o600
    assert mesh.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_without_a_record_is_no_mesh(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "config.toml").touch()
    assert state.meshes(tmp_path) == ()
    assert state.meshes(tmp_path / "missing") == ()


def test_a_newer_state_is_refused_politely(tmp_path: Path) -> None:
    mesh = state.mesh(tmp_path, "dev")
    state.write(mesh, Record("dev", "run"))
    value = json.loads(mesh.record.read_text())
    mesh.record.write_text(json.dumps({**value, "schema": state.SCHEMA + 1}))
    with pytest.raises(StateError, match="made by a newer Ostria") as refused:
        state.read(mesh)
    assert "newer Ostria again" in refused.value.hint


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "run": "x", "ports": [], "settings": {}}']
)
def test_a_broken_record_is_told(tmp_path: Path, text: str) -> None:
    mesh = state.mesh(tmp_path, "dev")
    mesh.folder.mkdir()
    mesh.record.write_text(text)
    with pytest.raises(StateError) as refused:
        state.read(mesh)
    assert refused.value.place == str(mesh.record)
    assert "--purge" in refused.value.hint


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-a", "a" * 33, "config.toml"])
def test_not_every_word_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError, match="is no name for a mesh"):
        state.mesh(tmp_path, name)


def test_one_process_holds_a_mesh(tmp_path: Path) -> None:
    mesh = state.mesh(tmp_path, "dev")
    assert state.holder(mesh) is None
    held = state.hold(mesh)
    assert held is not None
    assert state.holder(mesh) == os.getpid()
    assert state.hold(mesh) is None
    os.close(held)
    assert state.holder(mesh) is None


def test_sockets_lie_in_the_mesh_unless_their_paths_grow_too_long(tmp_path: Path) -> None:
    near = state.mesh(tmp_path, "dev")
    if len(str(near.folder)) < 70:
        assert state.run_folder(near) == near.folder / "run"
    far = state.run_folder(state.mesh(tmp_path / ("deep" * 30), "dev"))
    try:
        assert len(str(far)) < 40
        assert far.stat().st_mode & 0o777 == 0o700
    finally:
        far.rmdir()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("old")
    state.replace_file(path, b"new", mode=0o640)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(TypeError):
        state.replace_file(path, None, mode=0o640)  # type: ignore[arg-type]
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config"]
