"""Following real files: saves in all the ways that editors and tools make them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from doubles.source_rigs import QUICK, Mesh, eventually, running
from ostria.base import ObjectKey, Origin
from ostria.resources import origins
from ostria.resources.kubernetes import ConfigMap
from ostria.sources import folder as folders
from ostria.sources.folder import Files, FolderSource, is_ignored
from ostria.sources.manifests import Diff


def config(name: str, value: str = "1") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{v: '{value}'}}\n"


def key(name: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", "default", name)


def source(*paths: Path, **more: object) -> FolderSource:
    return FolderSource(paths, pace=QUICK, **more)  # type: ignore[arg-type]


def values(mesh: Mesh) -> dict[str, str]:
    return {found.name: obj.data["v"] for found, obj in mesh.objects().items() if isinstance(obj, ConfigMap)}


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


async def test_an_object_names_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"# mine\n{config('a')}---\n{config('b')}")
    async with running(source(tmp_path)) as mesh:
        assert mesh.db.fact(origins, key("a")) == Origin(str(path), 2, 1)
        assert mesh.db.fact(origins, key("b")) == Origin(str(path), 7, 1)


async def test_only_yaml_and_json_that_is_not_hidden_is_read(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", "sub/deep/c.json", ".d.yaml", ".git/e.yaml", "f.txt", "g.yaml~", "h.yaml.swp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = config(path.name[:1])
        path.write_text('{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}' if "json" in name else text)
    async with running(source(tmp_path)) as mesh:
        assert {found.name for found in mesh.objects()} == {"a", "b", "c"}
    assert is_ignored(".a.yaml.swp")
    assert is_ignored("#a.yaml#")


async def test_links_that_form_a_circle_and_files_that_block_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(config("a"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.yaml")
    async with running(source(tmp_path)) as mesh:
        assert values(mesh) == {"a": "1"}


async def test_a_link_that_is_swapped_is_a_save(tmp_path: Path) -> None:
    """As the volumes of ConfigMaps do it: everything changes by one rename behind the files that one sees."""
    for number in "12":
        version = tmp_path / f"..{number}"
        version.mkdir()
        (version / "a.yaml").write_text(config("a", number))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with running(source(tmp_path)) as mesh:
        assert values(mesh) == {"a": "1"}
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await mesh.until(lambda: values(mesh) == {"a": "2"})


async def test_a_file_in_place_of_a_folder_is_followed_too(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    (tmp_path / "other.yaml").write_text(config("other"))
    path.write_text(config("a"))
    async with running(source(path)) as mesh:
        assert values(mesh) == {"a": "1"}
        beside = tmp_path / "beside"
        beside.write_text(config("a", "2"))
        beside.rename(path)
        await mesh.until(lambda: values(mesh) == {"a": "2"})


async def test_a_folder_may_go_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "mesh"
    folder.mkdir()
    (folder / "a.yaml").write_text(config("a"))
    async with running(source(folder)) as mesh:
        folder.rename(tmp_path / "away")
        await mesh.until(lambda: values(mesh) == {})
        assert [problem.code for problem in mesh.source.statistics().problems] == ["file-unreadable"]
        folder.mkdir()
        (folder / "b.yaml").write_text(config("b"))
        await mesh.until(lambda: values(mesh) == {"b": "1"})
        (folder / "b.yaml").write_text(config("b", "2"))
        await mesh.until(lambda: values(mesh) == {"b": "2"})
        assert mesh.source.statistics().problems == ()


async def test_a_folder_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    async with running(source(folder)) as mesh:
        assert values(mesh) == {}
        folder.mkdir(parents=True)
        (folder / "a.yaml").write_text(config("a"))
        await mesh.until(lambda: values(mesh) == {"a": "1"})
        (folder / "a.yaml").write_text(config("a", "2"))
        await mesh.until(lambda: values(mesh) == {"a": "2"})


@pytest.mark.parametrize("refusal", [OSError(errno.EMFILE, "no more"), WatchfilesRustInternalError("no more")])
async def test_without_watches_looking_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    def refuse_watch(*_: object, **__: object) -> None:
        raise refusal

    monkeypatch.setattr(folders, "awatch", refuse_watch)
    async with running(source(tmp_path)) as mesh:
        (tmp_path / "a.yaml").write_text(config("a"))
        await mesh.until(lambda: values(mesh) == {"a": "1"})


async def test_a_checkout_of_the_whole_folder_is_one_batch(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.yaml").write_text(config(f"a{number}"))
    async with running(source(tmp_path)) as mesh:
        for number in range(50):
            path = tmp_path / f"{number}.yaml"
            path.unlink()
            path.write_text(config(f"a{number}", "2"))
        await mesh.until(lambda: set(values(mesh).values()) == {"2"})
        # Nothing was ever missing on the way, however the reading fell.
        assert all(change.object is not None for batch in mesh.batches for change in batch)


async def test_a_file_that_is_written_slowly_is_not_believed_half_way(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(config("a") + "---\n" + config("b"))
    async with running(source(tmp_path)) as mesh:
        with path.open("w") as file:
            for text in (
                config("a", "2"),
                "---\napiVer",
                "sion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
                "data: {v: '2'}\n",
            ):
                file.write(text)
                file.flush()
        await mesh.until(lambda: values(mesh) == {"a": "2", "b": "2"})
        assert all(change.object is not None for batch in mesh.batches for change in batch)


async def test_a_broken_save_keeps_the_last_good_and_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(config("a"))
    seen: list[Diff] = []
    async with running(source(tmp_path, follow=seen.append)) as mesh:
        path.write_text("apiVersion: v1\nkind: {")
        await eventually(lambda: mesh.source.statistics().problems)
        (problem,) = mesh.source.statistics().problems
        assert problem.code == "yaml-syntax"
        assert problem.origin is not None
        assert problem.origin.source == str(path)
        assert values(mesh) == {"a": "1"}
        assert seen[-1].problems == (problem,)
        path.write_text(config("a", "2"))
        await mesh.until(lambda: values(mesh) == {"a": "2"})
        assert mesh.source.statistics().problems == ()


async def test_the_hook_sees_kinds_that_the_mesh_does_not_read(tmp_path: Path) -> None:
    seen: list[Diff] = []
    path = tmp_path / "web.yaml"
    path.write_text("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec: {replicas: 1}\n")
    async with running(source(tmp_path, follow=seen.append)):
        assert [(m.identity.kind, m.value["spec"]) for m in seen[0].added] == [("StatefulSet", {"replicas": 1})]
        path.unlink()
        await eventually(lambda: len(seen) == 2)
        assert [m.identity.kind for m in seen[1].deleted] == ["StatefulSet"]


async def test_a_file_that_can_no_longer_be_read_keeps_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(config("a"))
    async with running(source(tmp_path)) as mesh:
        with monkeypatch.context() as patched:
            # Root may read everything, so that modes would not tell.
            patched.setattr(folders, "_read", refuse)
            path.write_text(config("a", "2"))
            await eventually(lambda: mesh.source.statistics().problems)
            (problem,) = mesh.source.statistics().problems
            assert problem.message == f"{path} cannot be read: Permission denied"
            assert values(mesh) == {"a": "1"}
        (tmp_path / "b.yaml").write_text(config("b"))
        await mesh.until(lambda: values(mesh) == {"a": "2", "b": "1"})
        assert mesh.source.statistics().problems == ()


def test_looking_again_finds_only_what_differs(tmp_path: Path) -> None:
    files = Files([tmp_path])
    (tmp_path / "a.yaml").write_text("a")
    (tmp_path / "b.yaml").write_text("b")
    assert set(files.look().values()) == {b"a", b"b"}
    assert files.look() == {}
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "b.yaml").write_text("c")
    assert files.look() == {str(tmp_path / "a.yaml"): None, str(tmp_path / "b.yaml"): b"c"}


def test_two_saves_within_a_tick_are_both_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    files = Files([tmp_path])
    path.write_text("one")
    tick = os.stat(path)
    # The clock of the file system stands still: size and times are equal.
    monkeypatch.setattr(folders, "_signature", lambda _: folders.Signature(0, 0, 3, 0, tick.st_ctime_ns))
    assert files.look() == {str(path): b"one"}
    path.write_text("two")
    assert files.look() == {str(path): b"two"}
