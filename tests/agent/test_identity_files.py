"""An identity on disk is replaced as one."""

from __future__ import annotations

import pathlib
import stat

from ostria.agent.identity_files import content, publish


def both(folder: pathlib.Path) -> tuple[str, str]:
    return (folder / "key.pem").read_text(), (folder / "cert.pem").read_text()


def test_files_change_together_and_old_ones_go(tmp_path: pathlib.Path):
    folder = tmp_path / "credentials"
    for number in range(4):
        publish(folder, {"key.pem": b"k%d" % number, "cert.pem": b"c%d" % number})
        assert both(folder) == (f"k{number}", f"c{number}")
    # What is in force, and the one before, which Envoy may still be reading.
    assert len([path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]) == 2
    assert content(folder, "key.pem") == b"k3"


def test_a_key_is_for_its_owner(tmp_path: pathlib.Path):
    publish(tmp_path, {"key.pem": b"k"})
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "..data").stat().st_mode) == 0o700


def test_what_a_crash_left_is_no_obstacle(tmp_path: pathlib.Path):
    (tmp_path / "..data_tmp").symlink_to("gone")
    (tmp_path / "..abc").mkdir()
    publish(tmp_path, {"key.pem": b"k"})
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["key.pem"]
    assert content(tmp_path, "other.pem") is None
